"""Lines over two axes as SVG: what a training came to, epoch by epoch, and what its numbers mean."""

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.report.figures import HEIGHT, MOST_CURVES, WIDTH, figure_of, ticks_between
from wsi_pipeline.report.html import element, escaped
from wsi_pipeline.report.parts import Lines

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 46


def lines_svg(lines: Lines) -> str:
    """Return a figure of lines with numbers along both axes and its key below."""
    names = {name: place for place, name in enumerate(list(lines.series)[:MOST_CURVES])}
    frame = _Frame(lines)
    drawn = "".join(
        element(
            "path",
            "",
            class_=f"curve curve-{place}",
            stroke_linecap="round",  # a single point is a dot
            d=frame.path(*lines.series[name]),
        )
        for name, place in names.items()
    )
    said = f"{lines.title}: {lines.y_label} by {lines.x_label} for {', '.join(names)}"
    svg = element(
        "svg",
        f"<title>{escaped(said)}</title>{frame.axes()}{frame.guide()}{drawn}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="curves",
    )
    return figure_of(svg, names, left_out=len(lines.series) - len(names))


class _Frame:
    """Where values stand in the figure."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._x = _ends([xs for xs, _ in lines.series.values()], lines.x_range)
        self._y = _ends([ys for _, ys in lines.series.values()], lines.y_range)

    def path(self, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
        """Return a line through all points that are numbers."""
        known = np.isfinite(xs) & np.isfinite(ys)
        if not known.any():
            return "M0,0"
        x_px, y_px = self._across(xs[known]), self._down(ys[known])
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(x_px, y_px, strict=True))
        return f"M{points}" if known.sum() > 1 else f"M{points}h0.1"

    def axes(self) -> str:
        """Return ticks with their numbers, and what they are of."""
        base, lines = HEIGHT - _BOTTOM, self._lines
        xs, ys = (np.array(list(ticks_between(*ends, log=False))) for ends in (self._x, self._y))
        across = "".join(
            element("path", "", class_="tick", d=f"M{px:.1f} {_TOP}V{base + 5}")
            + element("text", f"{value:.6g}", x=f"{px:.1f}", y=base + 19, text_anchor="middle")
            for value, px in zip(xs, self._across(xs), strict=True)
            if not lines.x_whole or value == round(value)
        )
        down = "".join(
            element("path", "", class_="tick", d=f"M{_LEFT - 5} {px:.1f}H{WIDTH - _RIGHT}")
            + element("text", f"{value:.6g}", x=_LEFT - 9, y=f"{px + 4:.1f}", text_anchor="end")
            for value, px in zip(ys, self._down(ys), strict=True)
        )
        text = f"{lines.y_label} by {lines.x_label}"
        unit = element("text", escaped(text), x=WIDTH - _RIGHT, y=HEIGHT - 6, text_anchor="end")
        return across + down + unit

    def guide(self) -> str:
        """Return the line that others are compared with."""
        (left, right), (low, high) = self._x, self._y
        match self._lines.guide:
            case "diagonal":
                ends = (max(left, low), min(right, high))
            case "zero":
                x = float(self._across(np.zeros(1))[0])
                return element("path", "", class_="axis", d=f"M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}")
            case None:
                return ""
        (x1, x2), (y1, y2) = self._across(np.array(ends)), self._down(np.array(ends))
        return element("path", "", class_="axis", d=f"M{x1:.1f},{y1:.1f} {x2:.1f},{y2:.1f}")

    def _across(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self._x
        place: NDArray[np.float64] = _LEFT + (values - low) / (high - low) * (
            WIDTH - _LEFT - _RIGHT
        )
        return place

    def _down(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self._y
        height_px = HEIGHT - _TOP - _BOTTOM
        place: NDArray[np.float64] = HEIGHT - _BOTTOM - (values - low) / (high - low) * height_px
        return place


def _ends(
    values: list[NDArray[np.float64]], given: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the ends of an axis: as given, or those of the values with nothing cut off."""
    if given is not None:
        return given
    known = np.concatenate([np.zeros(0), *(each[np.isfinite(each)] for each in values)])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)
