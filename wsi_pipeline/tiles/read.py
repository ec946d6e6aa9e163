"""Carry out a plan: windows of one level in, square uint8 RGB tiles out."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import WHITE, Box, Boxes, Rgb
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.tiles.window import Sampling

BAND_PX = 4096
"""Longest row of tiles read at once: overlap is decoded once, and a band of 1024 px stays at 16 MiB."""

TileOrError: TypeAlias = Rgb | TileError


def read_tiles(reader: SlideReader, sampling: Sampling, windows: Boxes) -> Iterator[TileOrError]:
    """Yield each window's tile ``(tile_size, tile_size, 3)`` in order, or why it cannot be read.

    Neighbours in a row are read together, so what they share is decoded once. What lies outside the
    scanned part is white. A band that fails is read again tile by tile, so that only the tiles that
    touch the bad bytes fail.
    """
    for first, end in _bands(windows):
        band = windows[first:end]
        try:
            pixels = _padded(reader, sampling.level, _hull(band))
        except TileError as error:
            yield from _one_by_one(reader, sampling, band, error)
            continue
        for x, _, width, _ in band - [*band[0, :2], 0, 0]:
            tile = pixels[:, x : x + width]
            yield resized_by_area(tile, width=sampling.tile_size, height=sampling.tile_size)


def _one_by_one(
    reader: SlideReader, sampling: Sampling, band: Boxes, error: TileError
) -> Iterator[TileOrError]:
    if len(band) == 1:
        yield error
        return
    for row in range(len(band)):
        yield from read_tiles(reader, sampling, band[row : row + 1])


def _bands(windows: Boxes) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of the runs of neighbours in one row of the grid that touch or overlap."""
    first = 0
    for index in range(1, len(windows) + 1):
        if index == len(windows) or not _continues(windows, first, index):
            yield first, index
            first = index


def _continues(windows: Boxes, first: int, index: int) -> bool:
    before, window = windows[index - 1], windows[index]
    same_row = window[1] == before[1]
    touches = before[0] <= window[0] <= before[0] + before[2]
    return bool(same_row and touches and window[0] + window[2] - windows[first, 0] <= BAND_PX)


def _hull(band: Boxes) -> Box:
    x, y, _, height = (int(value) for value in band[0])
    return Box(x=x, y=y, width=int(band[-1, 0] + band[-1, 2]) - x, height=height)


def _padded(reader: SlideReader, level: int, window_px: Box) -> Rgb:
    """Return the window; what is outside the scanned part is white and is not read."""
    inside_px = window_px.intersection(reader.info.bounds_px(level))
    if inside_px == window_px:
        return reader.read(level, window_px)
    pixels = np.full((window_px.height, window_px.width, 3), WHITE, dtype=np.uint8)
    if inside_px is not None:
        x, y = inside_px.x - window_px.x, inside_px.y - window_px.y
        pixels[y : y + inside_px.height, x : x + inside_px.width] = reader.read(level, inside_px)
    return pixels
