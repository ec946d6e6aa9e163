"""Windows read together, for backends that decode anew at every read."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.reader import RgbOrError

BAND_PX = 4096
"""Longest row of windows read at once: a band of 1024 px is 16 MiB as RGBA."""


class WindowReader(Protocol):
    """Reads one window."""

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the pixels of a window, or raise TileError."""
        ...


def read_in_bands(
    reader: WindowReader, level: int, windows_px: Sequence[Box]
) -> Iterator[RgbOrError]:
    """Yield each window's pixels in order; neighbours in a row are read at once and cut apart.

    A band that fails is read again window by window, so that only those that touch the bad bytes fail.
    """
    for band in _bands(windows_px):
        hull = _hull(band)
        try:
            pixels = reader.read(level, hull)
        except TileError as error:
            yield from _one_by_one(reader, level, band, error)
            continue
        for window_px in band:
            top, left = window_px.y - hull.y, window_px.x - hull.x
            part = pixels[top : top + window_px.height, left : left + window_px.width]
            yield np.ascontiguousarray(part)


def _one_by_one(
    reader: WindowReader, level: int, band: Sequence[Box], error: TileError
) -> Iterator[RgbOrError]:
    if len(band) == 1:
        yield error
        return
    for window_px in band:
        try:
            yield reader.read(level, window_px)
        except TileError as its_own:
            yield its_own


def _bands(windows_px: Sequence[Box]) -> Iterator[Sequence[Box]]:
    """Yield the runs of neighbours in one row that touch or overlap."""
    first = 0
    for index in range(1, len(windows_px) + 1):
        if index == len(windows_px) or not _continues(windows_px[first:index], windows_px[index]):
            yield windows_px[first:index]
            first = index


def _continues(band: Sequence[Box], window_px: Box) -> bool:
    last = band[-1]
    same_row = (window_px.y, window_px.height) == (last.y, last.height)
    touches = last.x <= window_px.x <= last.x_end
    return same_row and touches and window_px.x_end - band[0].x <= BAND_PX


def _hull(band: Sequence[Box]) -> Box:
    first, x_end = band[0], max(window_px.x_end for window_px in band)
    return Box(x=first.x, y=first.y, width=x_end - first.x, height=first.height)
