"""Lines over two axes as SVG: what a training came to, epoch by epoch, and what its numbers mean."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.report.figures import HEIGHT, MOST_CURVES, WIDTH, figure_of, ticks_between
from wsi_pipeline.report.html import element, escaped
from wsi_pipeline.report.parts import Lines

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 46
_MARK_PX = 9

Floats: TypeAlias = NDArray[np.float64]
Ends: TypeAlias = tuple[float, float]


def lines_svg(lines: Lines) -> str:
    """Return a figure of lines with numbers along both axes and its key below."""
    every = [*lines.series, *lines.right]
    names = {name: place for place, name in enumerate(every[:MOST_CURVES])}
    shown = [name if name in lines.series else f"{name} (right)" for name in names]
    frame = _Frame(lines)
    inside = (
        element("title", escaped(_said(lines, shown))),
        frame.axes(),
        frame.guide(),
        "".join(frame.band(name, place) for name, place in names.items() if name in lines.bands),
        "".join(frame.line(name, place) for name, place in names.items()),
        "".join(frame.mark(name, place) for name, place in names.items() if name in lines.marks),
    )
    svg = element(
        "svg", "".join(inside), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="curves"
    )
    key = dict(zip(shown, names.values(), strict=True))
    return figure_of(svg, key, left_out=len(every) - len(names))


def _said(lines: Lines, names: list[str]) -> str:
    right = f", on the right {lines.right_label}," if lines.right else ""
    return f"{lines.title}: {lines.y_label}{right} by {lines.x_label} for {', '.join(names)}"


class _Frame:
    """Where values stand in the figure."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        everything = {**lines.series, **lines.right}
        self._x = _ends([xs for xs, _ in everything.values()], lines.x_range)
        bands = [end for ends in lines.bands.values() for end in ends]
        self._y = _ends([*_heights(lines.series), *bands], lines.y_range)
        self._right = _ends([self._scaled(ys) for ys in _heights(lines.right)], None)
        self._end_px = WIDTH - (_LEFT if lines.right else _RIGHT)

    def line(self, name: str, place: int) -> str:
        """Return a line through all points that are numbers."""
        lines = self._lines
        is_left = name in lines.series
        xs, ys = lines.series[name] if is_left else lines.right[name]
        d = (
            self._path(xs, ys, self._y)
            if is_left
            else self._path(xs, self._scaled(ys), self._right)
        )
        class_ = f"curve curve-{place}"
        return element("path", "", class_=class_, stroke_linecap="round", d=d)  # one point is a dot

    def band(self, name: str, place: int) -> str:
        """Return what lies between two ends, left out where there is none."""
        xs, (lows, highs) = self._lines.series[name][0], self._lines.bands[name]
        known = np.isfinite(xs) & np.isfinite(lows) & np.isfinite(highs)
        if not known.any():
            return ""
        around = np.concatenate([xs[known], xs[known][::-1]])
        edge = np.concatenate([lows[known], highs[known][::-1]])
        inside = np.clip(edge, *self._y)
        d = f"{self._path(around, inside, self._y)}Z"
        return element("path", "", class_=f"band band-{place}", d=d)

    def mark(self, name: str, place: int) -> str:
        """Return a wedge on the axis, and a thin line up from it."""
        x = float(self._across(np.array([self._lines.marks[name]]))[0])
        base = HEIGHT - _BOTTOM
        wedge = f"M{x:.1f} {base - _MARK_PX}l{_MARK_PX / 2} {_MARK_PX}h-{_MARK_PX}Z"
        stem = f"M{x:.1f} {_TOP}V{base}"
        return element("path", "", class_=f"curve thin curve-{place}", d=stem) + element(
            "path", "", class_=f"mark mark-{place}", d=wedge
        )

    def axes(self) -> str:
        """Return ticks with their numbers, and what they are of."""
        base, lines = HEIGHT - _BOTTOM, self._lines
        xs = np.array(list(ticks_between(*self._x, log=False)))
        across = "".join(
            element("path", "", class_="tick", d=f"M{px:.1f} {_TOP}V{base + 5}")
            + element("text", f"{value:.6g}", x=f"{px:.1f}", y=base + 19, text_anchor="middle")
            for value, px in zip(xs, self._across(xs), strict=True)
            if not lines.x_whole or value == round(value)
        )
        text = f"{lines.y_label} by {lines.x_label}"
        if lines.right:
            text = f"left: {text}; right: {lines.right_label}"
        unit = element("text", escaped(text), x=self._end_px, y=HEIGHT - 6, text_anchor="end")
        return across + self._numbers_left() + self._numbers_right() + unit

    def _numbers_left(self) -> str:
        ys = np.array(list(ticks_between(*self._y, log=False)))
        return "".join(
            element("path", "", class_="tick", d=f"M{_LEFT - 5} {px:.1f}H{self._end_px}")
            + element("text", f"{value:.6g}", x=_LEFT - 9, y=f"{px + 4:.1f}", text_anchor="end")
            for value, px in zip(ys, _down(ys, self._y), strict=True)
        )

    def _numbers_right(self) -> str:
        if not self._lines.right:
            return ""
        is_log = self._lines.right_log
        ends = tuple(10**end if is_log else end for end in self._right)
        ys = np.array(list(ticks_between(*ends, log=is_log)))
        return "".join(
            element("path", "", class_="tick", d=f"M{self._end_px} {px:.1f}h5")
            + element("text", f"{value:.6g}", x=self._end_px + 9, y=f"{px + 4:.1f}")
            for value, px in zip(ys, _down(self._scaled(ys), self._right), strict=True)
        )

    def _scaled(self, values: Floats) -> Floats:
        """Return where values stand on the axis on the right: their power of ten where it is logarithmic."""
        if not self._lines.right_log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled: Floats = np.log10(values)
        return scaled

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
        (x1, x2), (y1, y2) = self._across(np.array(ends)), _down(np.array(ends), self._y)
        return element("path", "", class_="axis", d=f"M{x1:.1f},{y1:.1f} {x2:.1f},{y2:.1f}")

    def _path(self, xs: Floats, ys: Floats, ends: Ends) -> str:
        known = np.isfinite(xs) & np.isfinite(ys)
        if not known.any():
            return "M0,0"
        x_px, y_px = self._across(xs[known]), _down(ys[known], ends)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(x_px, y_px, strict=True))
        return f"M{points}" if known.sum() > 1 else f"M{points}h0.1"

    def _across(self, values: Floats) -> Floats:
        low, high = self._x
        place: Floats = _LEFT + (values - low) / (high - low) * (self._end_px - _LEFT)
        return place


def _heights(series: Mapping[str, tuple[Floats, Floats]]) -> list[Floats]:
    return [ys for _, ys in series.values()]


def _down(values: Floats, ends: Ends) -> Floats:
    low, high = ends
    height_px = HEIGHT - _TOP - _BOTTOM
    place: Floats = HEIGHT - _BOTTOM - (values - low) / (high - low) * height_px
    return place


def _ends(values: list[Floats], given: Ends | None) -> Ends:
    """Return the ends of an axis: as given, or those of the values with nothing cut off."""
    if given is not None:
        return given
    known = np.concatenate([np.zeros(0), *(each[np.isfinite(each)] for each in values)])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)
