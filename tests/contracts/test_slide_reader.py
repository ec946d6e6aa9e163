"""What every slide reader does; a new backend is one more line in ``READERS``."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from PIL import Image

from tests.strategies import inner_boxes, noise
from tests.writers.mrxs import Camera, write_mrxs
from tests.writers.reference import ByOpenSlide
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides import bands, mosaic
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.memory_backend import MemoryReader
from wsi_pipeline.slides.open import open_slide, open_source
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.slides.tiff_backend import open_tiff

LEVEL0 = noise(11, height=192, width=320)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A reader and the pixels that it should give, a level each."""

    open: Callable[[], SlideReader]
    levels: list[Rgb] = field(repr=False)
    backend: str
    path: Path


def quarters() -> list[Rgb]:
    """Return the levels of a drawn pyramid, each the mean over 4 x 4 pixels of the one before."""
    levels: list[Rgb] = [LEVEL0]
    for _ in range(2):
        smaller = cv2.resize(levels[-1], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(smaller))
    return levels


def memory(folder: Path) -> Subject:
    return Subject(
        open=lambda: MemoryReader(quarters(), mpp=0.5),
        levels=quarters(),
        backend="memory",
        path=folder / "nothing",
    )


def generic_tiff(folder: Path) -> Path:
    path = folder / "pyramid.tif"
    write_pyramid(path, LEVEL0, mpp=0.5, tile_px=64, levels=3, compression="deflate")
    return path


def openslide(folder: Path) -> Subject:
    path = generic_tiff(folder)
    return Subject(
        open=lambda: OpenSlideReader(path, reason="asked for"),
        levels=quarters(),
        backend="openslide",
        path=path,
    )


def native_tiles(folder: Path) -> Subject:
    path = generic_tiff(folder)
    return Subject(
        open=lambda: open_slide(path), levels=quarters(), backend="tiff tiles", path=path
    )


def restated(folder: Path) -> Subject:
    path = generic_tiff(folder)
    source = SlideSource(slide_id="s", path=str(path), mpp=0.25)
    return Subject(
        open=lambda: open_source(source, slide_mpp=None),
        levels=quarters(),
        backend="tiff tiles",
        path=path,
    )


def ome(folder: Path) -> Subject:
    path, halves = folder / "slide.ome.tif", [LEVEL0, LEVEL0[::2, ::2]]
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    options: dict[str, Any] = {"photometric": "rgb", "tile": (48, 64), "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(halves[0], subifds=1, metadata=metadata, **options)
        writer.write(np.ascontiguousarray(halves[1]), subfiletype=1, **options)
    return Subject(
        open=lambda: open_tiff(path, reason="asked for"),
        levels=halves,
        backend="tifffile",
        path=path,
    )


def strips(folder: Path) -> Subject:
    path = folder / "strips.tif"
    tifffile.imwrite(path, LEVEL0, photometric="rgb", rowsperstrip=17, metadata=None)
    return Subject(open=lambda: open_slide(path), levels=[LEVEL0], backend="tifffile", path=path)


def flat(folder: Path) -> Subject:
    path = folder / "picture.png"
    Image.fromarray(LEVEL0).save(path)
    return Subject(open=lambda: open_slide(path), levels=[LEVEL0], backend="flat", path=path)


def mrxs_images(folder: Path) -> Subject:
    slide = write_mrxs(folder / "slide.mrxs", LEVEL0, camera=Camera(images=1))
    reference = ByOpenSlide(slide.path)  # JPEGs lose something
    return Subject(
        open=lambda: open_slide(slide.path),
        levels=[reference.whole(level) for level in range(3)],
        backend="mrxs images",
        path=slide.data,
    )


READERS = (memory, openslide, native_tiles, restated, ome, strips, flat, mrxs_images)


@pytest.fixture(scope="module", params=READERS, ids=lambda make: make.__name__)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    made: Subject = request.param(tmp_path_factory.mktemp("slide"))
    return made


@pytest.fixture(scope="module")
def reader(subject: Subject) -> Iterator[SlideReader]:
    with closing(subject.open()) as opened:
        yield opened


@given(st.data())
def test_a_window_has_the_pixels_that_were_written(
    subject: Subject, reader: SlideReader, data: DataObject
) -> None:
    level = data.draw(st.integers(0, len(subject.levels) - 1))
    window = data.draw(inner_boxes(reader.info.levels[level].size_px))
    pixels = reader.read(level, window)
    assert pixels.shape == (window.height, window.width, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, part(subject.levels[level], window))


@given(st.data())
def test_windows_read_together_are_those_read_one_by_one(
    subject: Subject, reader: SlideReader, data: DataObject
) -> None:
    level = data.draw(st.integers(0, len(subject.levels) - 1))
    windows = data.draw(st.lists(inner_boxes(reader.info.levels[level].size_px), max_size=6))
    assert_pixels(reader, level, windows, subject)


@given(st.data(), st.integers(1, 90), st.integers(1, 64), st.integers(1, 400))
def test_rows_of_windows_do_not_depend_on_how_much_is_kept_in_memory(
    subject: Subject, reader: SlideReader, data: DataObject, side: int, stride: int, most: int
) -> None:
    y = data.draw(st.integers(0, 192 - side))
    windows = [
        Box(x=x, y=row, width=side, height=side)
        for row in (y, min(y + stride, 192 - side))
        for x in range(0, 320 - side, stride)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PX", most)
        patch.setattr(bands, "KEPT_BYTES", 20 * most)
        patch.setattr(mosaic, "KEPT_BYTES", most)
        assert_pixels(reader, 0, windows, subject)


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
def test_a_window_that_reaches_outside_is_refused(
    reader: SlideReader, x_off: int, y_off: int, side: int
) -> None:
    for level, at in enumerate(reader.info.levels):
        whole = Box(x=0, y=0, width=at.size_px.width, height=at.size_px.height)
        for corner_x, corner_y in ((0, 0), (at.size_px.width, at.size_px.height)):
            window = Box(x=corner_x + x_off, y=corner_y + y_off, width=side, height=side)
            if whole.contains(window):
                continue
            with pytest.raises(ValueError, match=f"window: expected inside level {level}"):
                reader.read(level, window)
            with pytest.raises(ValueError, match=f"window: expected inside level {level}"):
                list(reader.read_many(level, [window]))


def test_writing_into_a_window_changes_no_later_one(subject: Subject, reader: SlideReader) -> None:
    window = Box(x=5, y=6, width=50, height=40)
    expected = part(subject.levels[0], window)
    reader.read(0, window)[:] = 7
    assert np.array_equal(reader.read(0, window), expected)
    whole = Box(x=0, y=0, width=320, height=192)
    reader.read(0, whole)[:] = 7
    assert np.array_equal(reader.read(0, window), expected)


def test_writing_into_a_window_changes_no_other_that_is_read_together(
    subject: Subject, reader: SlideReader
) -> None:
    windows = [Box(x=x, y=6, width=50, height=40) for x in (5, 5, 30, 55)]
    for window, pixels in zip(windows, reader.read_many(0, windows), strict=True):
        assert not isinstance(pixels, TileError)
        assert np.array_equal(pixels, part(subject.levels[0], window))
        pixels[:] = 7


def test_no_windows_are_no_pixels(reader: SlideReader) -> None:
    assert list(reader.read_many(0, [])) == []


def test_levels_are_known_before_any_pixel_is_read(subject: Subject) -> None:
    with closing(subject.open()) as unread:
        sizes = [at.size_px for at in unread.info.levels]
    assert sizes == [Size(width=rgb.shape[1], height=rgb.shape[0]) for rgb in subject.levels]


def test_levels_get_smaller_by_what_their_downsample_says(reader: SlideReader) -> None:
    info = reader.info
    assert (info.levels[0].downsample_x, info.levels[0].downsample_y) == (1, 1)
    assert [at.downsample for at in info.levels] == sorted(at.downsample for at in info.levels)
    for at in info.levels:
        assert min(at.downsample_x, at.downsample_y) >= 1
        assert at.size_px.width * at.downsample_x == pytest.approx(info.size0.width, rel=0.02)
        assert at.size_px.height * at.downsample_y == pytest.approx(info.size0.height, rel=0.02)


def test_the_scanned_part_lies_inside_the_canvas_at_every_level(reader: SlideReader) -> None:
    for level, at in enumerate(reader.info.levels):
        whole = Box(x=0, y=0, width=at.size_px.width, height=at.size_px.height)
        assert whole.contains(reader.info.bounds_px(level))


def test_a_reader_says_what_it_is_and_why(subject: Subject, reader: SlideReader) -> None:
    assert reader.info.backend == subject.backend
    assert reader.info.backend_reason
    assert reader.info.format
    assert (reader.info.mpp is None) == ("not say" in reader.info.mpp_note)


def test_closing_twice_does_no_harm(subject: Subject) -> None:
    opened = subject.open()
    box = Box(x=0, y=0, width=9, height=9)
    before = opened.read(0, box)
    opened.close()
    opened.close()
    with closing(subject.open()) as again:
        assert np.array_equal(again.read(0, box), before)


def test_closing_gives_the_file_back(subject: Subject) -> None:
    before = open_files().count(str(subject.path))
    opened = subject.open()
    opened.read(0, Box(x=0, y=0, width=9, height=9))
    opened.close()
    assert open_files().count(str(subject.path)) == before


def test_two_readers_of_one_slide_do_not_disturb_each_other(subject: Subject) -> None:
    window = Box(x=3, y=4, width=60, height=50)
    first, second = subject.open(), subject.open()
    first.read(0, window)
    first.close()
    assert np.array_equal(second.read(0, window), part(subject.levels[0], window))
    second.close()


def test_what_a_slide_is_can_be_sent_to_another_process(reader: SlideReader) -> None:
    assert pickle.loads(pickle.dumps(reader.info)) == reader.info


def part(level: Rgb, window: Box) -> Rgb:
    return level[window.y : window.y_end, window.x : window.x_end]


def assert_pixels(reader: SlideReader, level: int, windows: list[Box], subject: Subject) -> None:
    found = list(reader.read_many(level, windows))
    assert len(found) == len(windows)
    for window, pixels in zip(windows, found, strict=True):
        assert not isinstance(pixels, TileError)
        assert np.array_equal(pixels, part(subject.levels[level], window))


def open_files() -> list[str]:
    """Return what this process has open, as often as it is."""
    return [
        str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()
    ]
