"""Where the tiles of a slide lie: arithmetic on integers, no pixels."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Box, Boxes

Edge: TypeAlias = Literal["pad", "drop", "shift"]

_ROUNDING = 1e-6  # px: a product that should be whole may come out just below


def stride_px(tile_size: int, overlap: float) -> int:
    """Return the distance between neighbouring tiles in stored pixels: size - round(size * overlap).

    >>> stride_px(1024, 0.2), stride_px(512, 0.2)
    (819, 410)
    """
    return tile_size - round(tile_size * overlap)


def tile_origins(extent_px: int, *, side_px: int, stride: float, edge: Edge) -> NDArray[np.int64]:
    """Return where tiles begin along one axis, ascending, in the pixels of the level that is read.

    ``pad`` begins a tile at every stride inside the extent, the last ones reach past it. ``drop``
    keeps those that end inside. ``shift`` takes as few as cover the extent and moves the last one
    back inside; an extent shorter than a tile gets one that reaches past. Strides up to a side leave
    no gap: origins are rounded down, so two of them are at most the stride rounded up apart.

    >>> [tile_origins(2500, side_px=512, stride=410, edge=edge).size for edge in ("drop", "shift", "pad")]
    [5, 6, 7]
    """
    if side_px < 1 or stride < 1:
        raise ValueError(
            f"tile: expected side and stride of at least 1, got {side_px} and {stride}"
        )
    steps = np.arange(int(extent_px / stride) + 2)
    origins: NDArray[np.int64] = np.floor(steps * stride + _ROUNDING).astype(np.int64)
    begun: NDArray[np.int64] = origins[origins < extent_px]
    if edge == "pad":
        return begun
    inside: NDArray[np.int64] = begun[begun + side_px <= extent_px]
    if edge == "drop":
        return inside
    last = max(0, extent_px - side_px)
    return inside if inside.size and inside[-1] == last else np.append(inside, last)


def tile_grid(
    bounds_px: Box, *, side_px: tuple[int, int], stride: tuple[float, float], edge: Edge
) -> Boxes:
    """Return every tile's window in level pixels, ``(count, 4)``, row by row.

    ``side_px`` and ``stride`` are (x, y). Windows begin inside the bounds and may reach past them.
    """
    x = bounds_px.x + tile_origins(bounds_px.width, side_px=side_px[0], stride=stride[0], edge=edge)
    y = bounds_px.y + tile_origins(
        bounds_px.height, side_px=side_px[1], stride=stride[1], edge=edge
    )
    rows, columns = np.meshgrid(y, x, indexing="ij")  # (rows, columns)
    windows = np.empty((rows.size, 4), dtype=np.int32)
    windows[:, 0], windows[:, 1] = columns.ravel(), rows.ravel()
    windows[:, 2], windows[:, 3] = side_px
    return windows
