"""Words in pictures: one typeface, whatever is installed, that has µ and the letters of names."""

import importlib.util
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

_FILE = "mpl-data/fonts/ttf/DejaVuSans.ttf"
_INK = "black"


@cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib, at a size.

    Pillow's own typeface has no µ, no umlaut and no other script than Latin.
    """
    found = importlib.util.find_spec("matplotlib")  # its folder; importing it takes a while
    if found is None or found.origin is None:
        raise RuntimeError("matplotlib: expected a package with its data; install it anew")
    path = Path(found.origin).parent / _FILE
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)


def write_line(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    width: float,
    size_px: int,
    least_px: int = 8,
) -> None:
    """Write one line, smaller where it does not fit, and cut off with … where it still does not.

    Parameters
    ----------
    at
        Upper left corner.
    text
        A name may hold line breaks and what is no letter; neither is written.
    width
        Room to the right, in pixels.
    size_px, least_px
        Size of letters, and the smallest one.
    """
    text = " ".join(text.encode(errors="replace").decode().split())
    while size_px > least_px and font(size_px).getlength(text) > width:
        size_px -= 1
    draw.text(at, _cut(text, width, font(size_px)), fill=_INK, font=font(size_px))


def _cut(text: str, width: float, letters: ImageFont.FreeTypeFont) -> str:
    """Return as much of the beginning as there is room for."""
    if letters.getlength(text) <= width:
        return text
    least, most = 0, len(text)
    while least < most:  # length grows with every letter
        middle = (least + most + 1) // 2
        if letters.getlength(f"{text[:middle]}…") <= width:
            least = middle
        else:
            most = middle - 1
    return f"{text[:least]}…"
