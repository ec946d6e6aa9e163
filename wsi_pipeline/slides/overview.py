"""The whole slide at a size that fits the memory: for the tissue mask and for pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import cv2
import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import WHITE, Box, Mask, Rgb
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.slides.reader import SlideInfo, SlideReader

STRIP_PX = 1 << 22
"""Most pixels read at once: 16 MiB as RGBA, so a level of any size passes through."""

_SMALLEST_PX = 256  # a failing part this small is marked whole: about one stored tile

OverviewLevel: TypeAlias = tuple[int, int]
"""A level and the whole number of its pixels, along each axis, that make one overview pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The scanned part of a slide, shrunk by area."""

    rgb: Rgb = field(repr=False)
    unreadable: Mask = field(repr=False)
    """True where the file could not be read; those pixels are white."""
    x0: float
    """Left edge in level-0 pixels."""
    y0: float
    downsample_x: float
    """Level-0 pixels per overview pixel."""
    downsample_y: float


def overview_level(info: SlideInfo, *, max_side_px: int) -> OverviewLevel:
    """Return the coarsest level with half the detail that fits, and how often to shrink it.

    The choice depends on this slide alone.
    """
    sides_px = [max(box.width, box.height) for box in map(info.bounds_px, range(len(info.levels)))]
    shrinks = [math.ceil(side_px / max_side_px) for side_px in sides_px]
    detail_px = [side_px / shrink for side_px, shrink in zip(sides_px, shrinks, strict=True)]
    level = max(at for at, detail in enumerate(detail_px) if detail >= max(detail_px) / 2)
    return level, shrinks[level]


def histoprep_level(info: SlideInfo, *, max_side_px: int) -> OverviewLevel:
    """Return HistoPrep's choice: the first level with both sides at most so long, else the last one.

    A last level that is larger is shrunk here; HistoPrep reads it whole.
    """
    for level, at in enumerate(info.levels):
        if max(at.size_px.width, at.size_px.height) <= max_side_px:
            return level, 1
    last = info.levels[-1].size_px
    return len(info.levels) - 1, math.ceil(max(last.width, last.height) / max_side_px)


def read_overview(reader: SlideReader, *, level: int, shrink: int) -> Overview:
    """Return the scanned part of a level, every ``shrink`` by ``shrink`` pixels averaged to one.

    Reads in strips. What cannot be read is marked, not an error.
    """
    bounds_px = reader.info.bounds_px(level)
    width, height = math.ceil(bounds_px.width / shrink), math.ceil(bounds_px.height / shrink)
    at = reader.info.levels[level]
    overview = Overview(
        rgb=np.full((height, width, 3), WHITE, dtype=np.uint8),
        unreadable=np.zeros((height, width), dtype=np.bool_),
        x0=bounds_px.x * at.downsample_x,
        y0=bounds_px.y * at.downsample_y,
        downsample_x=at.downsample_x * shrink,
        downsample_y=at.downsample_y * shrink,
    )
    filler = _Filler(reader=reader, level=level, shrink=shrink, overview=overview)
    rows = max(1, STRIP_PX // (bounds_px.width * shrink))
    filler.fill(
        [
            Box(x=0, y=row, width=width, height=min(rows, height - row))
            for row in range(0, height, rows)
        ]
    )
    return overview


def stored_pixels(reader: SlideReader) -> Rgb:
    """Return 16 windows of the coarsest level side by side, never averaged."""
    level = len(reader.info.levels) - 1
    bounds_px = reader.info.bounds_px(level)
    width, height = min(256, bounds_px.width), min(256, bounds_px.height)
    windows = [
        Box(
            x=bounds_px.x + (bounds_px.width - width) * column // 3,
            y=bounds_px.y + (bounds_px.height - height) * row // 3,
            width=width,
            height=height,
        )
        for row in range(4)
        for column in range(4)
    ]
    read = reader.read_many(level, windows)
    pixels = [each for each in read if not isinstance(each, TileError)]
    return np.hstack(pixels) if pixels else np.full((1, 1, 3), WHITE, dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filler:
    """Reads parts of an overview into their place; what they share of the file is decoded once."""

    reader: SlideReader
    level: int
    shrink: int
    overview: Overview

    def fill(self, parts: Sequence[Box]) -> None:
        """Fill parts, in overview pixels; where reading fails, halve one until the bad part is small."""
        windows_px = [self._window_px(part) for part in parts]
        read = self.reader.read_many(self.level, windows_px)
        for part, window_px, rgb in zip(parts, windows_px, read, strict=True):
            rows, columns = slice(part.y, part.y_end), slice(part.x, part.x_end)
            if not isinstance(rgb, TileError):
                self.overview.rgb[rows, columns] = _block_means(rgb, self.shrink)
            elif (
                max(window_px.width, window_px.height) <= _SMALLEST_PX
                or part.width == part.height == 1
            ):
                self.overview.unreadable[rows, columns] = True
            else:
                self.fill(_halves(part))

    def _window_px(self, part: Box) -> Box:
        bounds_px = self.reader.info.bounds_px(self.level)
        window_px = Box(
            x=bounds_px.x + part.x * self.shrink,
            y=bounds_px.y + part.y * self.shrink,
            width=part.width * self.shrink,
            height=part.height * self.shrink,
        )
        return window_px.intersection(bounds_px) or window_px


def _halves(box: Box) -> tuple[Box, Box]:
    """Return a box cut across its longer side, which is at least 2."""
    if box.width >= box.height:
        cut = box.width // 2
        return (
            replace(box, width=cut),
            replace(box, x=box.x + cut, width=box.width - cut),
        )
    cut = box.height // 2
    return replace(box, height=cut), replace(box, y=box.y + cut, height=box.height - cut)


def _block_means(rgb: Rgb, shrink: int) -> Rgb:
    """Return means over blocks of ``shrink`` pixels; blocks cut by the far edges repeat their last pixels."""
    if shrink == 1:
        return rgb
    missing_y, missing_x = -rgb.shape[0] % shrink, -rgb.shape[1] % shrink
    whole = cv2.copyMakeBorder(rgb, 0, missing_y, 0, missing_x, cv2.BORDER_REPLICATE)
    return resized_by_area(whole, width=whole.shape[1] // shrink, height=whole.shape[0] // shrink)
