"""Tiles of one slide that share pixels with tiles of another part of a split."""

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes

_AT_ONCE = 8192  # boxes asked for together: neighbours of all of them are held in memory


def crossing(boxes0: Boxes, parts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which tiles share an area with a tile of another part, ``(tiles,)``.

    Edges that touch share nothing.

    Parameters
    ----------
    boxes0
        Footprints in level-0 pixels of one slide, ``(tiles, 4)``: x, y, width, height.
    parts
        Number of each tile's part, ``(tiles,)``.

    Examples
    --------
    >>> crossing(np.array([[0, 0, 10, 10], [8, 8, 10, 10], [18, 0, 5, 8]]), np.array([0, 1, 1]))
    array([ True,  True, False])
    """
    if not len(parts) or parts.min() == parts.max():
        return np.zeros(len(parts), dtype=np.bool_)
    places, of_tile = np.unique(boxes0, axis=0, return_inverse=True)  # (places, 4), (tiles,)
    low = np.full(len(places), np.iinfo(np.int64).max)
    high = np.full(len(places), np.iinfo(np.int64).min)
    np.minimum.at(low, of_tile, parts)
    np.maximum.at(high, of_tile, parts)
    meets = low != high  # a place that several parts hold
    corners = places.astype(np.float64)
    ends = corners[:, :2] + corners[:, 2:]
    shapes = shapely.box(corners[:, 0], corners[:, 1], ends[:, 0], ends[:, 1])
    tree = shapely.STRtree(shapes)
    for first in range(0, len(places), _AT_ONCE):
        one, other = tree.query(shapes[first : first + _AT_ONCE])
        one += first
        shared = np.minimum(ends[one], ends[other]) > np.maximum(
            corners[one, :2], corners[other, :2]
        )
        differ = (low[other] != low[one]) | (high[other] != low[one])
        meets[one[shared.all(axis=1) & differ]] = True
    return np.asarray(meets[of_tile])
