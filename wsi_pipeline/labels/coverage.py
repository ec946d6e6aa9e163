"""Share of every tile that each class covers, from shapes as they were drawn.

The share is of the whole footprint. What of a footprint or of a shape lies past the slide counts as not
covered, as in the column ``tissue``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes, Size
from wsi_pipeline.labels.cells import Floats, Indices, Outlines, areas_of, cells_of, in_turns

Shapes: TypeAlias = NDArray[np.object_]
"""Polygons and multipolygons of shapely, ``(count,)``, level-0 pixels."""

Shares: TypeAlias = NDArray[np.float32]
"""Covered share of every footprint, ``(tiles,)``, 0 to 1."""

SLACK_PX = 1.0
"""Level-0 pixels by which a shape may reach past the slide unsaid: drawing programs round its edge."""

_NOISE_PX2 = (
    1e-3  # differences of sums up to 1e11 px² round to 1e-5: what touches no tile is 0, not nearly
)

_PAIRED_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """Shapes that do not cross themselves, and which of them did."""

    shapes: Shapes
    crossed: NDArray[np.bool_]
    """``(count,)``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """Pairs of shapes that have an area in common."""

    same: Mapping[str, int]
    """By class; counted once in its share."""
    different: Mapping[tuple[str, str], int]
    """By two classes; counted in both shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Shapes that are not all on the slide."""

    partly: NDArray[np.bool_]
    """``(count,)``"""
    wholly: NDArray[np.bool_]
    """``(count,)``"""
    furthest_px: Floats
    """Level-0 pixels that the furthest corner of each is past the edge, ``(count,)``; negative inside."""


def mended(shapes: Shapes) -> Mended:
    """Return shapes whose outlines do not cross themselves.

    Whatever an outline goes around, in either sense and however often, is inside; holes are taken
    away from it.
    """
    crossed = ~np.asarray(shapely.is_valid(shapes), dtype=np.bool_)
    repaired = shapes.copy()
    if crossed.any():
        repaired[crossed] = shapely.make_valid(
            shapes[crossed], method="structure", keep_collapsed=False
        )
    return Mended(shapes=repaired, crossed=crossed)


def outside(shapes: Shapes, canvas0: Size) -> Outside:
    """Return which shapes reach past the slide by more than ``SLACK_PX``."""
    bounds = np.asarray(shapely.bounds(shapes), dtype=np.float64).reshape(-1, 4)
    limits = np.array([canvas0.width, canvas0.height], dtype=np.float64)
    past = np.maximum(-bounds[:, :2], bounds[:, 2:] - limits).max(axis=1)
    partly = past > SLACK_PX
    wholly = (bounds[:, 2:] <= 0).any(axis=1) | (bounds[:, :2] >= limits).any(axis=1)
    return Outside(partly=partly, wholly=wholly & partly, furthest_px=past)


def overlaps(shapes: Shapes, names: Sequence[str]) -> Overlaps:
    """Return how many pairs of shapes overlap; those that only touch do not."""
    kinds, codes = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
    counts = np.zeros((len(kinds), len(kinds)), dtype=np.int64)
    for first, second in _overlapping_pairs(shapes):
        np.add.at(counts, (codes[first], codes[second]), 1)
    both = np.triu(counts + counts.T, 1)
    different = {
        (str(kinds[one]), str(kinds[other])): int(both[one, other])
        for one, other in np.argwhere(both)
    }
    same = {
        str(kind): int(count) for kind, count in zip(kinds, counts.diagonal(), strict=True) if count
    }
    return Overlaps(same=same, different=different)


def _overlapping_pairs(shapes: Shapes) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of numbers of shapes, some at a time: of shapes all over each other there are many."""
    tree = shapely.STRtree(shapes)
    shapely.prepare(shapes)
    for begin in range(0, len(shapes), _PAIRED_AT_ONCE):
        first, second = tree.query(shapes[begin : begin + _PAIRED_AT_ONCE], predicate="intersects")
        first = first + begin
        once = first < second
        first, second = first[once], second[once]
        apart = ~np.asarray(shapely.touches(shapes[first], shapes[second]), dtype=np.bool_)
        yield first[apart], second[apart]


def united(shapes: Shapes, without: Shapes) -> shapely.Geometry:
    """Return one area from shapes that may overlap, less that of other shapes."""
    area = shapely.disjoint_subset_union_all(shapes)
    if len(without):
        area = shapely.difference(area, shapely.disjoint_subset_union_all(without))
    return area


def outlines_of(area: shapely.Geometry) -> Outlines:
    """Return the edges of an area with the side on which it lies; rings may run either way."""
    polygons = _polygons(area)
    rings, owners = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)  # (points, 2), (points,)
    joined = ring[1:] == ring[:-1]
    starts, ends, ring = points[:-1][joined], points[1:][joined], ring[1:][joined]
    origins = starts[
        np.searchsorted(ring, np.arange(len(rings)))
    ]  # (rings, 2); keeps products small
    (x0, y0), (x1, y1) = (starts - origins[ring]).T, (ends - origins[ring]).T
    turns = np.bincount(ring, x0 * y1 - x1 * y0, len(rings))
    is_hole = np.diff(owners, prepend=-1) == 0  # the first ring of a polygon is its outer one
    signs = np.where(turns >= 0, 1.0, -1.0) * np.where(is_hole, -1.0, 1.0)  # (rings,)
    return Outlines(starts=starts, ends=ends, signs=signs[ring])


def _polygons(area: shapely.Geometry) -> Shapes:
    parts = shapely.get_parts(area)
    parts = shapely.get_parts(parts)  # collections of multipolygons
    polygons: Shapes = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return polygons


def covered_shares(area: shapely.Geometry, boxes0: Boxes, canvas0: Size) -> Shares:
    """Return the share of every box that an area covers, ``(boxes,)``, exact but for rounding."""
    outlines = outlines_of(area)
    covered = np.zeros(len(boxes0))
    for group in in_turns(boxes0):
        cells = cells_of(boxes0[group], canvas0)
        covered[group] = cells.sums(areas_of(outlines, cells))
    return shares_of(covered, boxes0)


def shares_of(covered: Floats, boxes0: Boxes) -> Shares:
    """Return areas as shares of footprints; rounding never gives less than 0 or more than 1."""
    footprints = boxes0[:, 2].astype(np.float64) * boxes0[:, 3]
    counted = np.where(covered > _NOISE_PX2, covered, 0.0)
    return np.clip(counted / footprints, 0.0, 1.0).astype(np.float32)
