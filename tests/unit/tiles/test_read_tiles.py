from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.strategies import block_means, inner_boxes, noise, seeds
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Boxes, Rgb, Size
from wsi_pipeline.slides import bands as bands_module
from wsi_pipeline.slides.memory_backend import MemoryReader
from wsi_pipeline.tiles.grid import Edge, tile_grid
from wsi_pipeline.tiles.read import read_tiles
from wsi_pipeline.tiles.window import Sampling

SIZE = Size(width=90, height=70)
FAR = 300  # white around the picture that the reference is cut from, wider than any tile

inside = inner_boxes(SIZE)
inside_small = st.builds(
    Box,
    x=st.integers(0, 80),
    y=st.integers(0, 60),
    width=st.integers(1, 10),
    height=st.integers(1, 10),
)
EDGES: tuple[Edge, ...] = ("pad", "drop", "shift")

edges = st.sampled_from(EDGES)
bands = st.integers(1, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Windows of one side, each with pixels inside the scanned part."""

    bounds: Box
    side: int
    windows: Boxes


@st.composite
def grids(draw: DrawFn) -> Cut:
    """Draw a grid over the scanned part."""
    bounds, side = draw(inside), draw(st.integers(1, 60))
    stride = draw(st.floats(max(1.0, side / 4), side))
    edge: Edge = draw(edges)
    windows = tile_grid(bounds, side_px=(side, side), stride=(stride, stride), edge=edge)
    return Cut(bounds=bounds, side=side, windows=windows[:60])


@st.composite
def scattered(draw: DrawFn) -> Cut:
    """Draw windows anywhere that meet the scanned part, in any order."""
    bounds, side = draw(inside), draw(st.integers(1, 60))
    x = st.integers(bounds.x - side + 1, bounds.x_end - 1)
    y = st.integers(bounds.y - side + 1, bounds.y_end - 1)
    corners = draw(st.lists(st.tuples(x, y), max_size=12))
    windows = np.array([(*corner, side, side) for corner in corners], dtype=np.int32)
    return Cut(bounds=bounds, side=side, windows=windows.reshape(-1, 4))


@given(seeds, st.one_of(grids(), scattered()), bands)
def test_tiles_are_slices_of_the_scanned_part_on_endless_white(
    seed: int, cut: Cut, band: int
) -> None:
    level = noise(seed, height=SIZE.height, width=SIZE.width)
    reader = MemoryReader([level], bounds0=cut.bounds)
    with bands_of(band):
        found = list(read_tiles(reader, as_they_are(cut.side), cut.windows))
    expected = [on_endless_white(level, cut.bounds, window) for window in as_boxes(cut.windows)]
    assert len(found) == len(expected)
    for tile, wanted in zip(found, expected, strict=True):
        assert np.array_equal(pixels_of(tile), wanted)


@given(
    seeds, st.one_of(grids(), scattered()), st.lists(inside_small, min_size=1, max_size=3), bands
)
def test_exactly_the_tiles_that_touch_unreadable_pixels_are_errors(
    seed: int, cut: Cut, unreadable: list[Box], band: int
) -> None:
    level = noise(seed, height=SIZE.height, width=SIZE.width)
    reader = MemoryReader([level], bounds0=cut.bounds, unreadable_px=unreadable)
    with bands_of(band):
        found = list(read_tiles(reader, as_they_are(cut.side), cut.windows))
    for window, tile in zip(as_boxes(cut.windows), found, strict=True):
        part = window.intersection(cut.bounds)
        touches = any(part and part.intersection(box) for box in unreadable)
        assert isinstance(tile, TileError) == touches
        if not isinstance(tile, TileError):
            assert np.array_equal(tile, on_endless_white(level, cut.bounds, window))


@given(scattered(), st.integers(0, 30))
def test_a_window_without_a_scanned_pixel_is_a_mistake_of_the_caller(cut: Cut, off: int) -> None:
    level = noise(0, height=SIZE.height, width=SIZE.width)
    reader = MemoryReader([level], bounds0=cut.bounds)
    outside = np.array([[cut.bounds.x_end + off, cut.bounds.y, cut.side, cut.side]], np.int32)
    with pytest.raises(ValueError, match="window: expected to begin inside"):
        list(read_tiles(reader, as_they_are(cut.side), outside))


@given(seeds, st.integers(1, 24), st.integers(1, 5), st.integers(0, 40))
def test_resampling_by_a_whole_number_gives_means_of_blocks(
    seed: int, tile_size: int, shrink: int, corner: int
) -> None:
    level = noise(seed, height=SIZE.height, width=SIZE.width)
    side = tile_size * shrink
    windows = np.array([[corner, corner, side, side]], dtype=np.int32)
    (tile,) = read_tiles(MemoryReader([level]), sampling_of(tile_size, side), windows)
    whole = Box(x=0, y=0, width=SIZE.width, height=SIZE.height)
    expected = block_means(on_endless_white(level, whole, as_boxes(windows)[0]), shrink)
    assert pixels_of(tile).shape == (tile_size, tile_size, 3)
    assert np.abs(pixels_of(tile) - expected).max() <= 1


@given(seeds, st.integers(3, 30), st.floats(1.0, 4.0))
def test_resampling_by_any_number_keeps_the_mean(seed: int, tile_size: int, shrink: float) -> None:
    side = round(tile_size * shrink)
    level = noise(seed, height=side, width=side)
    windows = np.array([[0, 0, side, side]], dtype=np.int32)
    (tile,) = read_tiles(MemoryReader([level]), sampling_of(tile_size, side), windows)
    assert np.mean(pixels_of(tile)) == pytest.approx(level.mean(), abs=1.0)


def test_tiles_of_a_slide_smaller_than_a_tile_are_white_around_it() -> None:
    reader = MemoryReader([np.zeros((3, 5, 3), np.uint8)])
    windows = np.array([[0, 0, 16, 16]], dtype=np.int32)
    (tile,) = read_tiles(reader, as_they_are(16), windows)
    pixels = pixels_of(tile)
    assert (pixels[:3, :5] == 0).all()
    assert (pixels == 255).sum() == 3 * (16 * 16 - 3 * 5)


def test_no_windows_are_no_tiles() -> None:
    reader = MemoryReader([np.zeros((3, 5, 3), np.uint8)])
    assert list(read_tiles(reader, as_they_are(16), np.empty((0, 4), np.int32))) == []


def test_changing_a_tile_changes_no_other_and_not_the_slide() -> None:
    level = noise(0, height=32, width=64)
    windows = np.array([[0, 0, 32, 32], [16, 0, 32, 32], [32, 0, 32, 32]], dtype=np.int32)
    untouched = level.copy()
    tiles = read_tiles(MemoryReader([level]), as_they_are(32), windows)
    for (x, _, width, _), tile in zip(windows.tolist(), tiles, strict=True):
        assert np.array_equal(pixels_of(tile), untouched[:, x : x + width])
        pixels_of(tile)[:] = 7
    assert np.array_equal(level, untouched)


def on_endless_white(level: Rgb, bounds: Box, window: Box) -> Rgb:
    """Return a window cut in plain numpy out of the scanned part with white all around."""
    canvas = np.full((SIZE.height + 2 * FAR, SIZE.width + 2 * FAR, 3), 255, np.uint8)
    rows, columns = slice(bounds.y, bounds.y_end), slice(bounds.x, bounds.x_end)
    canvas[FAR : FAR + SIZE.height, FAR : FAR + SIZE.width][rows, columns] = level[rows, columns]
    return canvas[FAR + window.y : FAR + window.y_end, FAR + window.x : FAR + window.x_end]


def as_boxes(windows: Boxes) -> list[Box]:
    return [Box(x=x, y=y, width=width, height=height) for x, y, width, height in windows.tolist()]


def pixels_of(tile: Rgb | TileError) -> Rgb:
    assert not isinstance(tile, TileError)
    return tile


def as_they_are(side: int) -> Sampling:
    return sampling_of(side, side)


def sampling_of(tile_size: int, side_px: int) -> Sampling:
    return Sampling(
        level=0,
        tile_size=tile_size,
        side_x_px=side_px,
        side_y_px=side_px,
        stride_x=side_px,
        stride_y=side_px,
        mpp=None,
    )


@contextmanager
def bands_of(longest_px: int) -> Iterator[None]:
    """Have rows of tiles read together only up to so many pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands_module, "BAND_PX", longest_px)
        yield
