"""Windows read in bands: the pixels of each read alone, no pixel of neighbours read twice."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.strategies import inner_boxes, noise
from tests.writers import czi
from tests.writers.mrxs import Camera, write_mrxs
from tests.writers.pixels import tissue
from tests.writers.reference import grid_windows
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides import bands
from wsi_pipeline.slides.bands import read_alone, read_in_bands
from wsi_pipeline.slides.czi_backend import CziReader
from wsi_pipeline.slides.memory_backend import MemoryReader
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import RgbOrError, SlideReader

SIZE = Size(width=160, height=120)
LEVEL = noise(3, height=SIZE.height, width=SIZE.width)


class Noted:
    """A reader in memory that notes what it is asked for."""

    def __init__(self, *unreadable_px: Box) -> None:
        self._inner = MemoryReader([LEVEL], unreadable_px=unreadable_px)
        self.times = np.zeros(LEVEL.shape[:2], np.int64)

    def read(self, level: int, window_px: Box) -> Rgb:
        self.times[window_px.y : window_px.y_end, window_px.x : window_px.x_end] += 1
        return self._inner.read(level, window_px)


@st.composite
def tissue_windows(draw: DrawFn) -> list[Box]:
    """Draw a grid of which some windows are left out, as if no tissue lay there."""
    side, stride = draw(st.integers(1, 50)), draw(st.integers(5, 60))
    grid = grid_windows(SIZE, side=side, stride=stride)
    taken = draw(st.lists(st.booleans(), min_size=len(grid), max_size=len(grid)))
    return [window_px for window_px, is_taken in zip(grid, taken, strict=True) if is_taken]


windows = st.one_of(tissue_windows(), st.lists(inner_boxes(SIZE), max_size=9))


@contextmanager
def limits(band_px: int, kept_bytes: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PX", band_px)
        patch.setattr(bands, "KEPT_BYTES", kept_bytes)
        yield


@given(windows, st.lists(inner_boxes(SIZE), max_size=2), st.integers(1, 200), st.integers(1, 30000))
def test_bands_are_the_windows_read_alone_whatever_is_kept_and_whatever_fails(
    windows_px: list[Box], unreadable_px: list[Box], band_px: int, kept_bytes: int
) -> None:
    alone = list(read_alone(Noted(*unreadable_px), 0, windows_px))
    with limits(band_px, kept_bytes):
        assert_same(list(read_in_bands(Noted(*unreadable_px), 0, windows_px)), alone)


@given(st.integers(20, 60), st.integers(15, 60), st.integers(1, 200))
def test_overlap_of_a_whole_grid_is_read_once_in_both_directions(
    side: int, stride: int, band_px: int
) -> None:
    reader, grid = Noted(), grid_windows(SIZE, side=side, stride=min(side, stride))
    with limits(band_px, 1 << 20):
        assert len(list(read_in_bands(reader, 0, grid))) == len(grid)
    assert reader.times.max() == reader.times.min() == 1


@given(tissue_windows())
def test_a_pixel_is_read_no_more_often_in_bands_than_alone(windows_px: list[Box]) -> None:
    together, alone = Noted(), Noted()
    list(read_in_bands(together, 0, windows_px))
    list(read_alone(alone, 0, windows_px))
    assert (together.times <= alone.times).all()


@given(tissue_windows(), st.integers(1, 20_000))
def test_no_more_is_kept_than_allowed(windows_px: list[Box], most: int) -> None:
    kept = bands._Kept()
    with limits(4096, most):
        for box in windows_px:
            kept.keep(box, np.zeros((box.height, box.width, 3), np.uint8))
            assert sum(strip.pixels.size for strip in kept.strips) == kept.bytes <= most


def between_pixels(folder: Path) -> SlideReader:
    """A level that is 3.004 times smaller, of which OpenSlide interpolates every pixel."""
    path = folder / "odd.tif"
    with tifffile.TiffWriter(path) as tiff:
        for level in (np.s_[:1000, :1301], np.s_[:999:3, :1299:3]):
            rgb = np.ascontiguousarray(noise(5, height=1000, width=1301)[level])
            tiff.write(rgb, photometric="rgb", tile=(64, 64), compression="zlib")
    return OpenSlideReader(path, reason="a test")


def photos_out_of_place(folder: Path) -> SlideReader:
    """Photos at odd places lie between the pixels of coarser levels."""
    moved = {(1, 1): (3, -5), (2, 2): (-7, 1), (3, 1): (1, 1)}
    camera = Camera(overlap_px=1, moved_px=moved, unscanned={(0, 0), (4, 2)}, own_light=True)
    slide = write_mrxs(folder / "a.mrxs", tissue(700, 500), camera=camera)
    return OpenSlideReader(slide.path, reason="a test")


def scenes_of_different_depth(folder: Path) -> SlideReader:
    """One scene of a CZI has no layer of its own for the coarsest level."""
    half = Box(x=0, y=0, width=400, height=533)
    scenes = (half, replace(half, x=400, width=300))
    layout = czi.Layout(tile_px=160, scenes=scenes, shrinks=(2, 8))
    tiles = [
        tile for tile in czi.mosaic(tissue(700, 533), layout) if (tile.scene, tile.shrink) != (1, 8)
    ]
    czi.write_subblocks(folder / "a.czi", tiles, xml=czi.metadata_xml(mpp=(0.5, 0.5)))
    return CziReader(folder / "a.czi", reason="a test")


@pytest.mark.parametrize(
    "make",
    [between_pixels, photos_out_of_place, scenes_of_different_depth],
    ids=lambda make: make.__name__,
)
def test_every_level_of_every_backend_has_the_pixels_of_windows_read_alone(
    make: Callable[[Path], SlideReader], tmp_path: Path
) -> None:
    with closing(make(tmp_path)) as reader:
        for level, at in enumerate(reader.info.levels):
            side = min(90, at.size_px.width // 4)
            grid = grid_windows(at.size_px, side=side, stride=side * 2 // 3)
            alone = list(read_alone(reader, level, grid))
            assert_same(list(reader.read_many(level, grid)), alone)
            scattered = grid[1::3] + grid[::4]
            alone = list(read_alone(reader, level, scattered))
            assert_same(list(reader.read_many(level, scattered)), alone)


def assert_same(found: list[RgbOrError], expected: list[RgbOrError]) -> None:
    assert len(found) == len(expected)
    for read, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, TileError):
            assert str(read) == str(wanted)
        else:
            assert isinstance(read, np.ndarray), read
            np.testing.assert_array_equal(read, wanted)
