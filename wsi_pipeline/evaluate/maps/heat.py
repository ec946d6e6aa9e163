"""Probabilities of tiles painted on their slide: where map pixels lie, and what each of them is.

Every pixel is the mean of the tiles that cover it, each weighted by the area of the pixel that it covers. The
scale is 0 to 1 on every slide: maps of two slides or two networks can be compared by eye.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from wsi_pipeline.geometry import Box, Boxes, Rgb, Size

TILE_PX = 8
"""Map pixels across a tile of the finest level, at the least; fewer than twice as many."""

MOST_PX = 1 << 26
"""Pixels of the finest level at the most: a slide of 100 000 x 100 000 px in pixels of 16 is 39 million."""

NOT_COVERED = 0
"""Value in an 8-bit map where no tile lies; 1 to 255 are 0 to 1."""

_STEPS = 254
_CHUNK = 1 << 20  # shares of map pixels that are worked out at once: 8 MiB an array
_SLIVER = 1e-6  # of a pixel: less is left over by rounding, not covered by a tile
_COLOURS = "RdYlBu_r"  # ColorBrewer, safe for the colour-blind; H&E has none of its colours


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFrame:
    """Where the pixels of a map lie, in level-0 pixels of the slide's whole canvas."""

    x0: float
    """Left edge of the first pixel."""
    y0: float
    pitch_x: float
    """Level-0 pixels per map pixel."""
    pitch_y: float
    size_px: Size

    def rows(self, first: int, count: int) -> "MapFrame":
        """Return the frame of some rows; past the last one there are fewer."""
        height = min(count, self.size_px.height - first)
        size_px = Size(width=self.size_px.width, height=height)
        return replace(self, y0=self.y0 + first * self.pitch_y, size_px=size_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideHeat:
    """What a network says of one slide's tiles, of one class."""

    slide_id: str
    class_name: str
    """Whose probability it is."""
    tiles: NDArray[np.int32] = field(repr=False)
    """Numbers of the tiles, ``(tiles,)``."""
    boxes0: Boxes = field(repr=False)
    """Their footprints in level-0 pixels of the whole canvas, ``(tiles, 4)``."""
    values: NDArray[np.float32] = field(repr=False)
    """Probabilities, ``(tiles,)``."""
    labelled: NDArray[np.bool_] = field(repr=False)
    """Whether a tile has a label of any class, ``(tiles,)``."""
    is_class: NDArray[np.bool_] = field(repr=False)
    """Whether it is labelled so, ``(tiles,)``."""


def map_frames(extent0: Box, boxes0: Boxes) -> tuple[MapFrame, ...]:
    """Return the levels of a map, each of half the one before, the coarsest pixel no larger than a tile.

    Pixels are powers of two of level-0 pixels. Sizes are filled up to whole pixels of the coarsest level, so
    that every pixel is exactly four of the level before.

    Parameters
    ----------
    extent0
        What the map covers, level-0 pixels: its corner is that of the first pixel.
    boxes0
        Tiles, ``(tiles, 4)``, at least one.
    """
    side0 = max(1, int(boxes0[:, 2:].min()))
    pitch = 1 << max(0, (side0 // TILE_PX).bit_length() - 1)
    while math.ceil(extent0.width / pitch) * math.ceil(extent0.height / pitch) > MOST_PX:
        pitch *= 2
    levels = max(1, (side0 // pitch).bit_length())
    coarsest = pitch << (levels - 1)
    across, down = (math.ceil(side / coarsest) for side in (extent0.width, extent0.height))
    return tuple(
        MapFrame(
            x0=extent0.x,
            y0=extent0.y,
            pitch_x=pitch << level,
            pitch_y=pitch << level,
            size_px=Size(width=across << (levels - 1 - level), height=down << (levels - 1 - level)),
        )
        for level in range(levels)
    )


def paint(boxes0: Boxes, values: NDArray[Any], frame: MapFrame) -> NDArray[np.float32]:
    """Return the mean over the area of each pixel that tiles cover, NaN where none does.

    Where tiles overlap, each counts by the area of the pixel that it covers; a pixel that is covered in part
    has the mean of that part.

    Parameters
    ----------
    boxes0
        Tiles in level-0 pixels, ``(tiles, 4)``; may reach past the frame.
    values
        ``(tiles,)``.
    frame
        Where pixels lie.

    Returns
    -------
    numpy.ndarray
        float32 ``(height, width)``.
    """
    height, width = frame.size_px.height, frame.size_px.width
    numbers = values.astype(np.float64)
    x, y, wide, high = boxes0.T.astype(np.float64)
    left, right = _ends((x - frame.x0) / frame.pitch_x, wide / frame.pitch_x, width)
    top, bottom = _ends((y - frame.y0) / frame.pitch_y, high / frame.pitch_y, height)
    inside = np.flatnonzero((right > left) & (bottom > top))
    sums, areas = np.zeros(height * width), np.zeros(height * width)
    for some in _chunks(inside, right - left, bottom - top):
        columns, across = _shares(left[some], right[some])
        rows, down = _shares(top[some], bottom[some])
        at = (rows[:, :, None] * width + columns[:, None, :]).ravel()
        share = down[:, :, None] * across[:, None, :]
        np.add.at(areas, at, share.ravel())
        np.add.at(sums, at, (share * numbers[some, None, None]).ravel())
    covered = areas > _SLIVER
    means = np.full(height * width, np.nan, np.float32)
    means[covered] = sums[covered] / areas[covered]
    return means.reshape(height, width)


def painted_rows(
    boxes0: Boxes, values: NDArray[Any], frame: MapFrame, *, rows: int
) -> Iterator[NDArray[np.float32]]:
    """Yield a map some rows at a time, so that a map of any size passes through little memory."""
    for first in range(0, frame.size_px.height, rows):
        yield paint(boxes0, values, frame.rows(first, rows))


def as_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities as 8-bit numbers: 0 where there is none, else 1 + 254 p, rounded.

    >>> as_bytes(np.array([np.nan, 0, 0.5, 1], np.float32)).tolist()
    [0, 1, 128, 255]
    """
    known = np.isfinite(values)
    steps = 1 + np.rint(np.clip(np.where(known, values, 0), 0, 1) * _STEPS)
    return np.where(known, steps, NOT_COVERED).astype(np.uint8)


def from_bytes(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return probabilities of an 8-bit map, right to 0.002, NaN where no tile lies."""
    values = (codes.astype(np.float32) - 1) / _STEPS
    return np.where(codes == NOT_COVERED, np.float32(np.nan), values)


def colours(name: str = _COLOURS) -> Rgb:
    """Return the colours of 0 to 1 by matplotlib's name, ``(1, 256, 3)``: blue over yellow at 0.5 to red."""
    table: Rgb = np.asarray(colormaps[name](np.arange(256), bytes=True))[None, :, :3]
    return table


def _ends(
    begin: NDArray[np.float64], length: NDArray[np.float64], pixels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where intervals begin and end inside a map, in its pixels."""
    return np.clip(begin, 0, pixels), np.clip(begin + length, 0, pixels)


def _chunks(
    tiles: NDArray[np.int64], wide: NDArray[np.float64], high: NDArray[np.float64]
) -> Iterator[NDArray[np.int64]]:
    """Yield tiles, so many at a time that their pixels are few."""
    if not len(tiles):
        return
    pixels = (math.ceil(wide[tiles].max()) + 1) * (math.ceil(high[tiles].max()) + 1)
    step = max(1, _CHUNK // pixels)
    for first in range(0, len(tiles), step):
        yield tiles[first : first + step]


def _shares(
    begin: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pixels that intervals touch and the share of each that they cover, ``(tiles, most)``."""
    first = np.floor(begin)
    at = first[:, None] + np.arange(int((np.ceil(end) - first).max()))
    share = np.minimum(end[:, None], at + 1) - np.maximum(begin[:, None], at)
    at = np.where(share > 0, at, first[:, None])  # nothing is added there
    return at.astype(np.int64), np.maximum(share, 0)
