"""What OpenSlide says of a slide, and windows at which readers are compared with it."""

from pathlib import Path

import numpy as np
import openslide

from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.pixels import on_white


class ByOpenSlide:
    """Pixels as ``read_region`` gives them, laid over white. Level 0, and levels of whole shrinks."""

    def __init__(self, path: Path) -> None:
        self._slide = openslide.OpenSlide(path)
        self.sizes_px = [Size(width=w, height=h) for w, h in self._slide.level_dimensions]

    def read(self, level: int, window_px: Box) -> Rgb:
        shrink = self._slide.level_downsamples[level]
        location0 = (round(window_px.x * shrink), round(window_px.y * shrink))
        size = (window_px.width, window_px.height)
        return on_white(np.asarray(self._slide.read_region(location0, level, size)))

    def whole(self, level: int) -> Rgb:
        return self.read(level, whole(self.sizes_px[level]))


def whole(size_px: Size) -> Box:
    """Return the window of a whole level."""
    return Box(x=0, y=0, width=size_px.width, height=size_px.height)


def edge_windows(size_px: Size, *, thickness: int = 3) -> list[Box]:
    """Return the whole level, strips along its four edges, and its last pixel."""
    width, height = size_px.width, size_px.height
    flat, thin = min(thickness, height), min(thickness, width)
    return [
        whole(size_px),
        Box(x=0, y=0, width=width, height=flat),
        Box(x=0, y=height - flat, width=width, height=flat),
        Box(x=0, y=0, width=thin, height=height),
        Box(x=width - thin, y=0, width=thin, height=height),
        Box(x=width - 1, y=height - 1, width=1, height=1),
    ]


def random_windows(size_px: Size, *, seed: int, count: int = 12) -> list[Box]:
    """Return windows of any size inside the level, most of them across several native tiles."""
    rng = np.random.default_rng([size_px.width, size_px.height, seed])
    windows = []
    for _ in range(count):
        x, y = int(rng.integers(size_px.width)), int(rng.integers(size_px.height))
        width, height = (
            int(rng.integers(1, min(300, side - at) + 1))
            for at, side in ((x, size_px.width), (y, size_px.height))
        )
        windows.append(Box(x=x, y=y, width=width, height=height))
    return windows


def grid_windows(size_px: Size, *, side: int, stride: int) -> list[Box]:
    """Return overlapping squares row by row, cut off at the far edges, as tiling reads them."""
    return [
        Box(x=x, y=y, width=min(side, size_px.width - x), height=min(side, size_px.height - y))
        for y in range(0, size_px.height, stride)
        for x in range(0, size_px.width, stride)
    ]
