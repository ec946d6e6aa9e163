"""The same tiles through every backend that opens a slide: ``wsi-pipeline compare-backends``."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box
from wsi_pipeline.slides.open import open_every_way, open_slide
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, SlideReader
from wsi_pipeline.tiles.grid import stride_px

NEIGHBOURS = 4
"""Windows side by side, as tiles are read: what they share can be decoded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendResult:
    """What one backend made of the windows, beside the one that is used by default."""

    backend: str
    note: str
    """Why it is used, or why it does not open the slide."""
    tiles: int = 0
    failed: int = 0
    """Windows that it cannot read."""
    failure: str | None = None
    """Why, of the first of them."""
    cpu_ms: float | None = None
    """Processor time per window."""
    same: int = 0
    """Windows whose every value is that of the default backend."""
    differing: float | None = None
    """Share of values that differ."""
    largest: int | None = None
    """Largest difference in grey levels."""


def compare_backends(
    path: Path, *, tiles: int, tile_size: int, overlap: float, seed: int
) -> tuple[BackendResult, ...]:
    """Read the same level-0 windows through every backend, the default one first.

    Raises
    ------
    SlideError
        No backend opens the slide.
    """
    try:
        default = open_slide(path)
    except SlideError as error:
        raise SlideError(f"{path}: {error}") from error
    try:
        windows_px = sample_windows(
            default.info, tiles=tiles, tile_size=tile_size, overlap=overlap, seed=seed
        )
        expected, cpu_ms = _timed(default, windows_px)
        results = [_result(default.info, expected, expected, cpu_ms)]
    finally:
        default.close()
    for name, opened in open_every_way(path):
        if isinstance(opened, SlideError):
            if name != default.info.backend:
                results.append(BackendResult(backend=name, note=str(opened)))
            continue
        if name != default.info.backend:
            results.append(_compared(opened, default.info, expected, windows_px))
        opened.close()
    return tuple(results)


def sample_windows(
    info: SlideInfo, *, tiles: int, tile_size: int, overlap: float, seed: int
) -> list[Box]:
    """Return level-0 windows inside the scanned part: short rows of neighbours at random places."""
    bounds_px = info.bounds_px(0)
    side_px = min(tile_size, bounds_px.width, bounds_px.height)
    step = stride_px(side_px, overlap)
    rng = np.random.default_rng([seed, tiles, tile_size])
    windows_px: list[Box] = []
    while len(windows_px) < tiles:
        x = int(rng.integers(bounds_px.x, bounds_px.x_end - side_px + 1))
        y = int(rng.integers(bounds_px.y, bounds_px.y_end - side_px + 1))
        row = [
            Box(x=at, y=y, width=side_px, height=side_px)
            for at in range(x, x + NEIGHBOURS * step, step)
            if at + side_px <= bounds_px.x_end
        ]
        windows_px.extend(row[: tiles - len(windows_px)])
    return windows_px


def _compared(
    reader: SlideReader, default: SlideInfo, expected: Sequence[RgbOrError], windows_px: list[Box]
) -> BackendResult:
    if reader.info.size0 != default.size0:
        size0 = reader.info.size0
        note = (
            f"sees {size0.width} x {size0.height} px in place of "
            f"{default.size0.width} x {default.size0.height}, which is another picture"
        )
        return BackendResult(backend=reader.info.backend, note=note)
    try:
        pixels, cpu_ms = _timed(reader, windows_px)
    except SlideError as error:
        return BackendResult(backend=reader.info.backend, note=str(error))
    return _result(reader.info, pixels, expected, cpu_ms)


def _timed(reader: SlideReader, windows_px: list[Box]) -> tuple[list[RgbOrError], float]:
    list(reader.read_many(0, windows_px[:1]))  # what a library sets up at its first use is no speed
    start = time.process_time()
    pixels = list(reader.read_many(0, windows_px))
    return pixels, 1e3 * (time.process_time() - start) / len(windows_px)


def _result(
    info: SlideInfo, pixels: Sequence[RgbOrError], expected: Sequence[RgbOrError], cpu_ms: float
) -> BackendResult:
    off = [
        np.abs(ours.astype(np.int16) - theirs)
        for ours, theirs in zip(pixels, expected, strict=True)
        if not isinstance(ours, TileError) and not isinstance(theirs, TileError)
    ]
    values = sum(each.size for each in off)
    failures = [str(each) for each in pixels if isinstance(each, TileError)]
    return BackendResult(
        backend=info.backend,
        note=info.backend_reason,
        tiles=len(pixels),
        failed=len(failures),
        failure=failures[0] if failures else None,
        cpu_ms=cpu_ms,
        same=sum(not each.any() for each in off),
        differing=sum(np.count_nonzero(each) for each in off) / values if values else None,
        largest=max((int(each.max()) for each in off), default=None),
    )
