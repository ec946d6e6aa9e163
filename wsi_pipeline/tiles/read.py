"""Carry out a plan: windows of one level in, square uint8 RGB tiles out."""

from collections.abc import Iterator

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import WHITE, Box, Boxes, Rgb
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.slides.reader import RgbOrError, SlideReader
from wsi_pipeline.tiles.window import Sampling


def read_tiles(reader: SlideReader, sampling: Sampling, windows: Boxes) -> Iterator[RgbOrError]:
    """Yield each window's tile ``(tile_size, tile_size, 3)`` in order, or why it cannot be read.

    Windows begin inside the scanned part; what of them lies outside is white and is not read.
    """
    bounds_px = reader.info.bounds_px(sampling.level)
    wanted = [Box(x=x, y=y, width=w, height=h) for x, y, w, h in windows.tolist()]
    inside = [_inside(window_px, bounds_px) for window_px in wanted]
    size = sampling.tile_size
    for pixels, part, window_px in zip(
        reader.read_many(sampling.level, inside), inside, wanted, strict=True
    ):
        if isinstance(pixels, TileError):
            yield pixels
        else:
            yield resized_by_area(_padded(pixels, part, window_px), width=size, height=size)


def _inside(window_px: Box, bounds_px: Box) -> Box:
    part = window_px.intersection(bounds_px)
    if part is None:
        raise ValueError(f"window: expected to begin inside {bounds_px}, got {window_px}")
    return part


def _padded(pixels: Rgb, part: Box, window_px: Box) -> Rgb:
    """Return the window with its part in place and white around it."""
    if part == window_px:
        return pixels
    padded = np.full((window_px.height, window_px.width, 3), WHITE, dtype=np.uint8)
    y, x = part.y - window_px.y, part.x - window_px.x
    padded[y : y + part.height, x : x + part.width] = pixels
    return padded
