"""Curves as SVG: readable without colours, in light and dark, on paper and to a screen reader."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.report.html import element, escaped
from wsi_pipeline.report.parts import Curves

WIDTH, HEIGHT = 720, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 14, 14, 12, 46
_TICKS = 6
MOST_CURVES = 8
"""Curves that lines of one figure can tell apart."""


def curves_svg(curves: Curves) -> str:
    """Return a figure of densities, one line per group, with its key below."""
    order = curves.groups or tuple(sorted(curves.by_group))
    names = {name: at for at, name in enumerate(order[:MOST_CURVES]) if name in curves.by_group}
    lines = "".join(
        element("path", "", class_=f"curve curve-{place}", d=_line(curves, curves.by_group[name]))
        for name, place in names.items()
    )
    said = f"{curves.title}: density of {curves.unit} for {', '.join(names)}"
    svg = element(
        "svg",
        f"<title>{escaped(said)}</title>{_axis(curves)}{lines}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="curves",
    )
    return figure_of(svg, names, left_out=len(curves.by_group) - len(names))


def figure_of(svg: str, names: Mapping[str, int], *, left_out: int) -> str:
    """Return a drawing with the key of its lines, names and numbers of their looks."""
    return element("figure", svg + _key(names, left_out=left_out), class_="density")


def _key(names: Mapping[str, int], *, left_out: int) -> str:
    items = "".join(element("li", _sample(place) + escaped(name)) for name, place in names.items())
    more = element("li", f"and {left_out} more, in the table only") if left_out > 0 else ""
    return element("figcaption", element("ul", items + more, class_="key"))


def _sample(place: int) -> str:
    line = element("path", "", class_=f"curve curve-{place}", d="M1 6H39")
    return element("svg", line, viewBox="0 0 40 12", class_="sample", aria_hidden="true")


def _line(curves: Curves, curve: NDArray[np.float64]) -> str:
    highest = max((float(each.max()) for each in curves.by_group.values() if each.size), default=0)
    x_px = _along(curves, curves.grid)
    height_px = HEIGHT - _TOP - _BOTTOM
    y_px = HEIGHT - _BOTTOM - curve / (highest or 1.0) * height_px
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(x_px, y_px, strict=True))
    return f"M{points}" if points else "M0,0"


def _along(curves: Curves, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where values stand along the axis, in px."""
    bent, ends = ((np.log(each) if curves.log else each) for each in (values, curves.grid[[0, -1]]))
    span = float(ends[1] - ends[0]) or 1.0
    place: NDArray[np.float64] = _LEFT + (bent - ends[0]) / span * (WIDTH - _LEFT - _RIGHT)
    return place


def _axis(curves: Curves) -> str:
    if not curves.grid.size:
        return ""
    base = HEIGHT - _BOTTOM
    ticks = np.array(
        list(ticks_between(float(curves.grid[0]), float(curves.grid[-1]), log=curves.log))
    )
    marks = "".join(
        element("path", "", class_="tick", d=f"M{x:.1f} {_TOP}V{base + 5}")
        + element("text", f"{value:g}", x=f"{x:.1f}", y=base + 19, text_anchor="middle")
        for value, x in zip(ticks, _along(curves, ticks), strict=True)
    )
    unit = element("text", escaped(curves.unit), x=WIDTH - _RIGHT, y=HEIGHT - 6, text_anchor="end")
    line = element("path", "", class_="axis", d=f"M{_LEFT} {base}H{WIDTH - _RIGHT}")
    return marks + line + unit


def ticks_between(low: float, high: float, *, log: bool) -> Iterator[float]:
    """Yield round values between two limits, at most a handful.

    >>> list(ticks_between(0, 10, log=False)), list(ticks_between(3, 2000, log=True))
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [10.0, 100.0, 1000.0])
    """
    if log and high / low >= 100:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        yield from (10.0**power for power in range(first, last + 1))
        return
    step = _round_step((high - low) / _TICKS)
    place = math.ceil(low / step)
    while place * step <= high * (1 + 1e-9):
        yield place * step
        place += 1


def _round_step(about: float) -> float:
    """Return the next of 1, 2 or 5 times a power of ten."""
    if about <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(about))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= about * (1 - 1e-9))
