from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.strategies import noise
from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid
from wsi_pipeline.slides.openslide_backend import OpenSlideReader

SIZE = Size(width=512, height=384)
BAD_TILE = Box(x=128, y=64, width=64, height=64)
INSIDE = Box(x=140, y=70, width=20, height=20)
ACROSS = Box(x=100, y=50, width=60, height=60)
LEFT_OF_IT = Box(x=0, y=0, width=128, height=384)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[OpenSlideReader]:
    with closing(OpenSlideReader(pyramid(tmp_path / "whole.tif"), reason="")) as reader:
        yield reader


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[OpenSlideReader]:
    path = pyramid(tmp_path / "damaged.tif")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        index = BAD_TILE.y // 64 * (SIZE.width // 64) + BAD_TILE.x // 64
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(bytes(count))
    with closing(OpenSlideReader(path, reason="")) as reader:
        yield reader


def test_after_a_damaged_tile_the_others_are_still_read(
    damaged: OpenSlideReader, whole: OpenSlideReader
) -> None:
    with pytest.raises(TileError, match=r"level 0, .*x=140"):
        damaged.read(0, INSIDE)
    assert np.array_equal(damaged.read(0, LEFT_OF_IT), whole.read(0, LEFT_OF_IT))


def test_a_damaged_tile_fails_every_window_that_touches_it_each_time(
    damaged: OpenSlideReader, whole: OpenSlideReader
) -> None:
    corner = Box(x=191, y=127, width=9, height=9)
    below = Box(x=128, y=128, width=64, height=64)
    for _ in range(3):
        for window in (INSIDE, ACROSS, BAD_TILE, corner):
            with pytest.raises(TileError):
                damaged.read(0, window)
        assert np.array_equal(damaged.read(0, below), whole.read(0, below))


def test_other_levels_do_not_suffer_from_a_damaged_tile(
    damaged: OpenSlideReader, whole: OpenSlideReader
) -> None:
    with pytest.raises(TileError):
        damaged.read(0, INSIDE)
    level1 = Box(x=0, y=0, width=128, height=96)
    assert np.array_equal(damaged.read(1, level1), whole.read(1, level1))


def test_a_window_outside_is_a_mistake_of_the_caller_and_leaves_the_handle_usable(
    whole: OpenSlideReader,
) -> None:
    with pytest.raises(ValueError, match="expected inside level 0 of 512 x 384 px"):
        whole.read(0, Box(x=500, y=0, width=20, height=20))
    assert whole.read(0, INSIDE).shape == (20, 20, 3)


def test_um_per_px_and_levels_are_those_of_the_file(whole: OpenSlideReader) -> None:
    assert whole.info.mpp == pytest.approx(1.0)
    assert [round(at.downsample) for at in whole.info.levels] == [1, 4]
    assert whole.info.bounds0 == Box(x=0, y=0, width=512, height=384)
    assert whole.info.backend == "openslide"


def test_gray_is_known_though_openslide_shows_rgb(tmp_path: Path) -> None:
    labels = noise(0, height=64, width=64)[..., 0] % 5
    tifffile.imwrite(tmp_path / "mask.tif", labels, tile=(32, 32), metadata=None)
    with closing(OpenSlideReader(tmp_path / "mask.tif", reason="")) as reader:
        assert reader.info.channels == 1
        found = reader.read(0, Box(x=0, y=0, width=64, height=64))
    assert np.array_equal(found, np.repeat(labels[..., np.newaxis], 3, axis=2))


@pytest.mark.parametrize("name", ["missing.svs", "text.svs"])
def test_what_openslide_cannot_open_is_an_error_of_the_slide(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(SlideError, match="OpenSlide cannot open it"):
        OpenSlideReader(tmp_path / name, reason="")


def test_after_a_slide_vanished_every_further_window_is_an_error_of_the_tile(
    damaged: OpenSlideReader, tmp_path: Path
) -> None:
    (tmp_path / "damaged.tif").unlink()
    with pytest.raises(TileError):
        damaged.read(0, INSIDE)
    for window in (LEFT_OF_IT, LEFT_OF_IT, INSIDE):
        with pytest.raises(TileError, match="cannot be opened again"):
            damaged.read(0, window)


def pyramid(path: Path) -> Path:
    """Write a drawn slide as JPEG tiles of 64 px."""
    rgb: Rgb = draw_slide(SIZE, seed=4, mpp=1.0).rgb
    write_pyramid(path, rgb, mpp=1.0, tile_px=64, levels=2, compression="jpeg")
    return path
