"""Binned planes as SVG: shades that print and need no colour, few bytes whatever the number of tiles."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.report.figures import WIDTH, ticks_between
from wsi_pipeline.report.html import element, escaped
from wsi_pipeline.report.parts import Plane, Planes

_COLUMNS = 2
_SIDE_PX, _LEFT_PX, _HEAD_PX, _FOOT_PX = 270, 58, 30, 34
_SHADES = 6
_CROSS_PX = 8

Floats: TypeAlias = NDArray[np.float64]


def planes_svg(planes: Planes) -> str:
    """Return planes in rows of two, one shade more where there is more, a cross at each mean."""
    most = max((float(each.share.max()) for each in planes.planes), default=0.0) or 1.0
    drawn = "".join(
        element("g", _plane(planes, each, most), transform=f"translate({x} {y})")
        for each, (x, y) in zip(planes.planes, _places(len(planes.planes)), strict=True)
    )
    rows = -(-len(planes.planes) // _COLUMNS)
    height = rows * (_HEAD_PX + _SIDE_PX + _FOOT_PX) + 20
    unit = f"{planes.y_label} by {planes.x_label}; dashed: both are equal; cross: mean"
    names = ", ".join(each.name for each in planes.planes)
    said = element("title", escaped(f"{planes.title}: {unit}, for {names}"))
    label = element("text", escaped(unit), x=WIDTH - 14, y=height - 6, text_anchor="end")
    svg = element(
        "svg", said + drawn + label, viewBox=f"0 0 {WIDTH} {height}", role="img", class_="curves"
    )
    return element("figure", svg, class_="density")


def _places(count: int) -> list[tuple[int, int]]:
    across, down = WIDTH // _COLUMNS, _HEAD_PX + _SIDE_PX + _FOOT_PX
    return [
        (at % _COLUMNS * across + _LEFT_PX, at // _COLUMNS * down + _HEAD_PX) for at in range(count)
    ]


def _plane(planes: Planes, plane: Plane, most: float) -> str:
    name = element("text", escaped(plane.name), x=0, y=-9)
    frame = element("path", "", class_="tick", d=f"M0 0H{_SIDE_PX}V{_SIDE_PX}H0Z")
    diagonal = element("path", "", class_="axis dashed", d=f"M0 {_SIDE_PX}L{_SIDE_PX} 0")
    shades = _shades(plane.share, most)
    x, y = (_along(each, planes.edges) for each in plane.mean)
    down = _SIDE_PX - y
    far = _CROSS_PX
    cross = f"M{x - far:.1f} {down:.1f}h{2 * far}M{x:.1f} {down - far:.1f}v{2 * far}"
    mean = element("path", "", class_="cross", d=cross)
    return name + shades + frame + diagonal + _numbers(planes.edges) + mean


def _shades(share: Floats, most: float) -> str:
    """Return a path for each shade, so that a cell is a few letters."""
    side = _SIDE_PX / len(share)
    level = np.ceil(np.sqrt(share / most) * _SHADES).astype(np.int64)
    paths = []
    for shade in range(1, _SHADES + 1):
        cells = "".join(
            f"M{x * side:.1f} {_SIDE_PX - (y + 1) * side:.1f}h{side:.1f}v{side:.1f}h-{side:.1f}z"
            for x, y in np.argwhere(level == shade)
        )
        if cells:
            opacity = f"{shade / _SHADES:.2f}"
            paths.append(element("path", "", class_="cell", fill_opacity=opacity, d=cells))
    return "".join(paths)


def _numbers(edges: Floats) -> str:
    """Return the same numbers below and on the left."""
    ticks = [(value, _along(value, edges)) for value in ticks_between(*_ends(edges), log=False)]
    return "".join(
        element("text", f"{value:g}", x=f"{px:.1f}", y=_SIDE_PX + 18, text_anchor="middle")
        + element("text", f"{value:g}", x=-8, y=f"{_SIDE_PX - px + 4:.1f}", text_anchor="end")
        for value, px in ticks
    )


def _along(value: float, edges: Floats) -> float:
    low, high = _ends(edges)
    return float(np.clip((value - low) / (high - low), 0, 1)) * _SIDE_PX


def _ends(edges: Floats) -> tuple[float, float]:
    return float(edges[0]), float(edges[-1])
