"""Exact areas under many boxes: polygons and pixels are summed into the cells that all box edges cut out.

Every box is a block of cells, so one pass over the outlines serves all boxes, however they overlap, and no
polygon is ever clipped. An area in a cell follows from Green's theorem: an edge that rises by ``dy`` at a
distance ``dx`` from the cell's left side encloses ``dx * dy`` of it, and ``dy`` times the width of every
cell to the left of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes, Size

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]

MOST_CELLS = 1 << 22
"""Cells at once, 32 MiB of areas; more boxes than give so many are done in several turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """Edges of polygons that do not overlap."""

    starts: Floats
    """``(edges, 2)``: x, y in level-0 pixels."""
    ends: Floats
    signs: Floats
    """``(edges,)``: 1 where going along the edge has the inside on its left with y up, else -1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What the edges of boxes cut the plane into, in level-0 pixels."""

    xs: Floats
    """Edges of columns, rising."""
    ys: Floats
    """Edges of rows, rising."""
    corners: Indices
    """``(boxes, 4)``: first column, first row, column and row behind the last of every box."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return max(0, len(self.ys) - 1), max(0, len(self.xs) - 1)

    def sums(self, areas: Floats) -> Floats:
        """Return what lies in every box, ``(boxes,)``, of areas per cell, ``(rows, columns)``."""
        table = np.zeros((areas.shape[0] + 1, areas.shape[1] + 1))
        np.cumsum(np.cumsum(areas, axis=0), axis=1, out=table[1:, 1:])
        left, top, right, bottom = self.corners.T
        inside: Floats = (
            table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        )
        return inside


def cells_of(boxes0: Boxes, canvas0: Size) -> Cells:
    """Return the cells of boxes, of each only what is on the canvas: past it there is nothing to sum.

    >>> cells_of(np.array([[0, 0, 8, 8], [4, 0, 8, 8]]), Size(width=10, height=9)).xs
    array([ 0.,  4.,  8., 10.])
    """
    starts = boxes0[:, :2].astype(np.float64)
    ends = starts + boxes0[:, 2:]
    limits = np.array([canvas0.width, canvas0.height], dtype=np.float64)
    starts, ends = np.clip(starts, 0, limits), np.clip(ends, 0, limits)
    edges = [np.unique(np.concatenate((starts[:, axis], ends[:, axis]))) for axis in (0, 1)]
    places = [
        np.searchsorted(edges[axis], each[:, axis]) for each in (starts, ends) for axis in (0, 1)
    ]
    return Cells(xs=edges[0], ys=edges[1], corners=np.stack(places, axis=1))


def in_turns(boxes0: Boxes, *, most_cells: int = MOST_CELLS) -> Iterator[Indices]:
    """Yield the indices of boxes in groups whose cells are not too many: one group on a regular grid."""
    waiting = [np.arange(len(boxes0))]
    while waiting:
        group = waiting.pop()
        chosen = boxes0[group]
        counts = [
            np.unique(np.concatenate((chosen[:, axis], chosen[:, axis] + chosen[:, axis + 2]))).size
            for axis in (0, 1)
        ]
        if counts[0] * counts[1] <= most_cells or len(group) == 1:
            yield group
            continue
        longer = int(np.argmax(np.ptp(chosen[:, :2], axis=0)))
        ordered = group[np.argsort(chosen[:, longer], kind="stable")]
        waiting += np.array_split(ordered, 2)


def areas_of(outlines: Outlines, cells: Cells) -> Floats:
    """Return the area of the polygons in every cell, ``(rows, columns)``, in level-0 pixels squared."""
    rows, columns = cells.shape
    if not rows or not columns:
        return np.zeros(cells.shape)
    middles, rises = _pieces(_near(outlines, cells), cells)
    column = np.searchsorted(cells.xs, middles[:, 0], side="right") - 1
    row = np.searchsorted(cells.ys, middles[:, 1], side="right") - 1
    counted = (row >= 0) & (row < rows) & (column >= 0)
    column, row, rises = column[counted], row[counted], rises[counted]
    place = row * (columns + 1) + np.minimum(column, columns)  # the last column: right of all cells
    from_left = middles[counted, 0] - cells.xs[np.minimum(column, columns)]
    size = rows * (columns + 1)
    own = np.bincount(place, rises * from_left, size).reshape(rows, columns + 1)
    risen = np.bincount(place, rises, size).reshape(rows, columns + 1)
    to_the_right = np.cumsum(risen[:, ::-1], axis=1)[
        :, ::-1
    ]  # (rows, columns + 1), this one included
    areas: Floats = own[:, :columns] + to_the_right[:, 1:] * np.diff(cells.xs)
    return areas


def _near(outlines: Outlines, cells: Cells) -> Outlines:
    """Return the edges that can count: none above, below or left of all cells, none that is level."""
    y0, y1 = outlines.starts[:, 1], outlines.ends[:, 1]
    kept = (np.maximum(y0, y1) > cells.ys[0]) & (np.minimum(y0, y1) < cells.ys[-1]) & (y0 != y1)
    kept &= np.maximum(outlines.starts[:, 0], outlines.ends[:, 0]) > cells.xs[0]
    return Outlines(
        starts=outlines.starts[kept], ends=outlines.ends[kept], signs=outlines.signs[kept]
    )


def _pieces(outlines: Outlines, cells: Cells) -> tuple[Floats, Floats]:
    """Return edges cut where they leave a cell: middle of each piece, ``(pieces, 2)``, and signed rise."""
    starts, spans = outlines.starts, outlines.ends - outlines.starts
    cuts = [
        _cuts(starts[:, axis], outlines.ends[:, axis], edges)
        for axis, edges in enumerate((cells.xs, cells.ys))
    ]
    edge = np.concatenate([each[0] for each in cuts])
    at = np.concatenate([each[1] for each in cuts])
    everyone = np.arange(len(starts))
    edge = np.concatenate((everyone, edge, everyone))
    at = np.concatenate((np.zeros(len(starts)), at, np.ones(len(starts))))
    order = np.lexsort((at, edge))
    edge, at = edge[order], at[order]
    same = edge[1:] == edge[:-1]
    owner = edge[1:][same]
    begin, end = at[:-1][same], at[1:][same]
    middles = starts[owner] + spans[owner] * ((begin + end) / 2)[:, None]
    rises: Floats = (end - begin) * spans[owner, 1] * outlines.signs[owner]
    return middles, rises


def _cuts(starts: Floats, ends: Floats, edges: Floats) -> tuple[Indices, Floats]:
    """Return which outline edge crosses a cell edge, and where on its way, 0 to 1."""
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    first = np.searchsorted(edges, low, side="right")
    count = np.maximum(np.searchsorted(edges, high, side="left") - first, 0)
    owner = np.repeat(np.arange(len(starts)), count)
    number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    crossed = edges[np.repeat(first, count) + number]
    at: Floats = (crossed - starts[owner]) / (ends - starts)[owner]
    return owner, np.clip(at, 0.0, 1.0)
