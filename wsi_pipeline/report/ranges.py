"""Numbers with their intervals as SVG, one below the other, so that they can be compared."""

from wsi_pipeline.report.figures import WIDTH, ticks_between
from wsi_pipeline.report.html import element, escaped
from wsi_pipeline.report.parts import Range, Ranges

_LEFT, _RIGHT, _TOP, _BOTTOM = 200, 165, 12, 46
_ROW_PX = 26
_MOST_LETTERS = 28
_END_PX = 5


def ranges_svg(ranges: Ranges) -> str:
    """Return a dot for each number, a line for its interval, and both in figures on the right."""
    base = _TOP + _ROW_PX * len(ranges.rows)
    height = base + _BOTTOM
    ends = _ends(ranges)
    rows = "".join(
        _row(each, _TOP + _ROW_PX * (place + 0.5), ends) for place, each in enumerate(ranges.rows)
    )
    said = f"{ranges.title}: {ranges.x_label} of {', '.join(map(_words, ranges.rows))}"
    unit = element(
        "text", escaped(ranges.x_label), x=WIDTH - _RIGHT, y=height - 6, text_anchor="end"
    )
    inside = element("title", escaped(said)) + _axis(ends, base) + rows + unit
    svg = element("svg", inside, viewBox=f"0 0 {WIDTH} {height}", role="img", class_="curves")
    return element("figure", svg, class_="density")


def _row(row: Range, y: float, ends: tuple[float, float]) -> str:
    x = _across(row.value, ends)
    name = row.name
    short = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}\u2026"
    drawn = element("text", escaped(short), x=_LEFT - 14, y=f"{y + 4:.1f}", text_anchor="end")
    if row.low is not None and row.high is not None:
        low, high = (_across(each, ends) for each in (row.low, row.high))
        up, down = y - _END_PX, y + _END_PX
        d = f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {up}V{down}M{high:.1f} {up}V{down}"
        drawn += element("path", "", class_="curve curve-0", d=d)
    for point in (_across(each, ends) for each in row.points):
        drawn += element(
            "circle", "", class_="mark mark-7", cx=f"{point:.1f}", cy=f"{y:.1f}", r=2.5
        )
    drawn += element("circle", "", class_="mark mark-0", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4.5)
    return drawn + element("text", _numbers(row), x=WIDTH - _RIGHT + 10, y=f"{y + 4:.1f}")


def _words(row: Range) -> str:
    return f"{row.name} {_numbers(row)}"


def _numbers(row: Range) -> str:
    if row.low is None or row.high is None:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _axis(ends: tuple[float, float], base: float) -> str:
    return "".join(
        element("path", "", class_="tick", d=f"M{_across(value, ends):.1f} {_TOP}V{base + 5}")
        + element(
            "text",
            f"{value:.6g}",
            x=f"{_across(value, ends):.1f}",
            y=base + 19,
            text_anchor="middle",
        )
        for value in ticks_between(*ends, log=False)
    )


def _across(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)


def _ends(ranges: Ranges) -> tuple[float, float]:
    numbers = [
        each
        for row in ranges.rows
        for each in (row.value, row.low, row.high, *row.points)
        if each is not None
    ]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    room = 0.05 * (high - low) or 0.05
    return low - room, high + room
