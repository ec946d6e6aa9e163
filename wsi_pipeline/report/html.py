"""Words and values as HTML: everything that comes from outside is text, whatever it holds."""

import html
import json
import math
from typing import Any

from wsi_pipeline.report.parts import Cell, Field

NOTHING = "\u2013"
_THIN = "\u202f"  # between thousands: a point or a comma means another thing elsewhere


def escaped(text: object) -> str:
    """Return text that is nothing but text in HTML, also inside quotes.

    Control characters, which HTML does not allow, are shown as the replacement character.
    """
    plain = "".join(each if _is_allowed(each) else "\ufffd" for each in str(text))
    return html.escape(plain, quote=True)


def _is_allowed(each: str) -> bool:
    return each in "\t\n" or (each >= " " and not "\x7f" <= each <= "\x9f" and not _is_half(each))


def _is_half(each: str) -> bool:
    return "\ud800" <= each <= "\udfff"  # of a name that was not UTF-8


def data_script(name: str, value: object) -> str:
    r"""Return a value as JSON that the page's script reads and that cannot end its element.

    >>> data_script("a", "</script>")
    '<script type="application/json" id="a">"\\u003c/script\\u003e"</script>'
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for each in "<>&":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return f'<script type="application/json" id="{escaped(name)}">{text}</script>'


def element(name: str, content: str, **attributes: object) -> str:
    """Return an element; its content is HTML, its attributes are text. ``class_`` is ``class``."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"


def shown(value: Cell, field: Field) -> str:
    """Return a cell's text as the page's script would write it.

    >>> shown(4700000, Field(label="tiles", kind="number")), shown(0.5, Field(label="", kind="share"))
    ('4\u202f700\u202f000', '50.0 %')
    """
    if is_nothing(value):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or field.kind == "text":
        return str(value)
    match field.kind:
        case "number":
            return f"{value:,.{field.digits}f}".replace(",", _THIN)
        case "share":
            return f"{100 * float(value or 0):.1f} %"
        case "bytes":
            return bytes_text(float(value or 0))


def is_nothing(value: Cell) -> bool:
    """Whether there is nothing to show."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def bytes_text(size_bytes: float) -> str:
    """Return a size as people read it.

    >>> bytes_text(12_345_678)
    '12.3 MB'
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes / 1e3:.1f} kB"


def plain_cell(value: Cell) -> Any:  # noqa: ANN401  JSON knows no type
    """Return a cell as JSON can hold it, floats with six digits."""
    if is_nothing(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value
