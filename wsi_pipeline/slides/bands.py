"""Windows read together, for backends that decode anew at every read.

Neighbours in a row are read as one band, and what a band shares with the next one or with the next row
is kept, so that overlap is read once in both directions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.reader import RgbOrError

BAND_PX = 4096
"""Longest row of windows read at once: a band of 1024 px is 16 MiB as RGBA."""

KEPT_BYTES = 192 << 20
"""Most pixels kept for later bands: 205 rows of a slide 100 000 px wide are 61 MB, and two rows meet."""


class WindowReader(Protocol):
    """Reads one window."""

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the pixels of a window, or raise TileError."""
        ...


def read_alone(reader: WindowReader, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
    """Yield each window's pixels in order, each read by itself."""
    for window_px in windows_px:
        try:
            yield reader.read(level, window_px)
        except TileError as error:
            yield error


def read_in_bands(
    reader: WindowReader,
    level: int,
    windows_px: Sequence[Box],
    *,
    at_once: Callable[[Box], bool] = lambda _: True,
) -> Iterator[RgbOrError]:
    """Yield each window's pixels in order; neighbours are read at once and cut apart.

    ``at_once`` says of a band whether its pixels do not depend on the window that they are read in. A band
    that fails is read again window by window, so that only those that touch the bad bytes fail.
    """
    bands = list(_bands(windows_px))
    hulls = [_hull(band) for band in bands]
    kept = _Kept()
    for band, hull, following in zip(bands, hulls, _following(hulls), strict=True):
        kept.let_go_above(hull.y)
        pixels = _completed(reader, level, hull, kept) if at_once(hull) else None
        if pixels is None:
            yield from read_alone(reader, level, band)
            continue
        for shared in _shared(hull, following):
            kept.keep(shared, _part(pixels, hull, shared))
        for window_px in band:
            yield np.array(_part(pixels, hull, window_px))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strip:
    box_px: Box
    pixels: Rgb


@dataclass(slots=True)
class _Kept:
    """Pixels that later bands share with earlier ones, oldest first."""

    strips: list[_Strip] = field(default_factory=list)
    bytes: int = 0

    def keep(self, box_px: Box, pixels: Rgb) -> None:
        """Keep a copy, so that the band can go; where memory ends, what is of use soonest stays."""
        if self.bytes + pixels.size <= KEPT_BYTES:
            self.strips.append(_Strip(box_px=box_px, pixels=np.array(pixels)))
            self.bytes += pixels.size

    def let_go_above(self, y: int) -> None:
        """Let strips go that begin above a row: the row before it kept what is still of use."""
        self.strips = [strip for strip in self.strips if strip.box_px.y >= y]
        self.bytes = sum(strip.pixels.size for strip in self.strips)

    def meeting(self, hull: Box) -> list[_Strip]:
        """Return what fills columns of a hull from its top."""
        return [
            strip
            for strip in self.strips
            if strip.box_px.y == hull.y and strip.box_px.intersection(hull)
        ]


def _completed(reader: WindowReader, level: int, hull: Box, kept: _Kept) -> Rgb | None:
    """Return a hull's pixels, of which only those are read that are not kept, or None: some cannot be."""
    strips = kept.meeting(hull)
    pixels = np.empty((hull.height, hull.width, 3), dtype=np.uint8)
    try:
        for missing in _missing(hull, [strip.box_px for strip in strips]):
            if missing == hull:
                return reader.read(level, hull)
            _part(pixels, hull, missing)[:] = reader.read(level, missing)
    except TileError:
        return None
    for strip in strips:
        both = strip.box_px.intersection(hull) or hull
        _part(pixels, hull, both)[:] = _part(strip.pixels, strip.box_px, both)
    return pixels


def _missing(hull: Box, kept: Sequence[Box]) -> Iterator[Box]:
    """Yield what lies below the kept boxes, as few columns of one height as there are.

    Every box begins at the hull's top.

    >>> hull = Box(x=0, y=0, width=9, height=5)
    >>> list(_missing(hull, [Box(x=0, y=0, width=6, height=2), Box(x=0, y=0, width=2, height=5)]))
    ... # doctest: +NORMALIZE_WHITESPACE
    [Box(x=2, y=2, width=4, height=3), Box(x=6, y=0, width=3, height=5)]
    """
    known = np.zeros(hull.width, dtype=np.int64)  # rows from the top, of each column
    for box in kept:
        columns = slice(max(0, box.x - hull.x), box.x_end - hull.x)
        known[columns] = np.maximum(known[columns], min(box.height, hull.height))
    borders = [0, *(np.flatnonzero(np.diff(known)) + 1).tolist(), hull.width]
    for left, right in pairwise(borders):
        rows = int(known[left])
        if rows < hull.height:
            yield Box(
                x=hull.x + left, y=hull.y + rows, width=right - left, height=hull.height - rows
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Following:
    """What is read after a band."""

    band: Box | None
    row_y: int | None
    """Where the next row begins."""


def _following(hulls: Sequence[Box]) -> list[_Following]:
    """Return what follows each band."""
    found: list[_Following] = []
    band, row_y = None, None
    for hull in reversed(hulls):
        if band is not None and band.y != hull.y:
            row_y = band.y
        found.append(_Following(band=band, row_y=row_y))
        band = hull
    return found[::-1]


def _shared(hull: Box, following: _Following) -> Iterator[Box]:
    """Yield what the next band in the row begins with, and what the next row begins with."""
    band, row_y = following.band, following.row_y
    if band is not None and (band.y, band.height) == (hull.y, hull.height):
        both = band.intersection(hull)
        if both is not None:
            yield both
    if row_y is not None and hull.y < row_y < hull.y_end:
        yield Box(x=hull.x, y=row_y, width=hull.width, height=hull.y_end - row_y)


def _part(pixels: Rgb, hull: Box, window_px: Box) -> Rgb:
    """Return the view of a hull's pixels that is a window inside it."""
    top, left = window_px.y - hull.y, window_px.x - hull.x
    return pixels[top : top + window_px.height, left : left + window_px.width]


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
