"""Native tiles that cannot be decoded: who touches them says so, everybody else sees nothing of it.

What is done to tiles here, a decoder can notice. Of 200 tiles (128 x 96 px of H&E) damaged at random per
kind, these were given back as another picture and without a word; decoder versions of 0006-strict-jpeg.md:

| damage | JPEG 4:2:0 | JPEG 2000 lossy | LZW | deflate | none | MRXS | MRXS by OpenSlide |
|---|---|---|---|---|---|---|---|
| all zeros, all random, or the first 64 bytes zeros | 0 | 0 | 0 | 0 | 200 | 0 | 0 |
| zeros from somewhere to the end | 0 | 149, 0 where its end mark is asked for | 0 | 0 | 200 | 0 | 63 |
| 512 bytes of zeros within | 26 | 139 | 0 | 0 | 200 | 4 | 65 |
| 64 random bytes within | 13 | 142 | 6 | 0 | 200 | 9 | 63 |
| one bit | 106 | 148 | 165 | 0 | 200 | 75 | 88 |
| byte count too small | 0 | 0 | 0 | 0 | 0 | - | - |

MRXS are JPEGs 4:4:4, of another drawing (docs/concepts/mrxs.md). Only deflate has a checksum.
Where the data is valid data of another picture, nothing can be noticed.
"""

from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import tifffile

from tests.pipeline.runs import rows_of, slides_of, stored, tile
from tests.writers.codings import DEFLATE, LZW, RAW, TILE_PX, Coding, jpeg, jpeg2000
from tests.writers.mrxs import Camera, Mrxs, write_mrxs
from tests.writers.pixels import pyramid, tissue
from tests.writers.reference import grid_windows, whole
from tests.writers.tiff import write_generic, write_ome, write_philips, write_qptiff, write_svs
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.overview import read_overview
from wsi_pipeline.slides.reader import RgbOrError, SlideReader

Opened: TypeAlias = Callable[[Path], SlideReader]
Harm: TypeAlias = Callable[[Path, int], None]

LEVELS = pyramid(tissue(704, 528), 4, 16)
ACROSS = 6
BAD = (8, 21, 35)  # in the middle, and the last one of all
CODINGS: dict[str, Coding] = {
    "jpeg": jpeg("ycbcr", "420"),
    "jpeg abbreviated": jpeg("ycbcr", "422", shared=True),
    "jpeg rgb": jpeg(),
    "jpeg2000": jpeg2000("rgb", lossless=False),
    "jpeg2000 ycbcr": jpeg2000("ycbcr"),
    "lzw": LZW,
    "deflate": DEFLATE,
}
CONFIG = TileConfig(tile_size=100, overlap=0.2, tissue="none", min_tissue=0, codec="zstd")


def place(path: Path, index: int) -> tuple[int, int]:
    """Return where a native tile of level 0 lies in its file, and how many bytes it has."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first.aspage()
        return int(page.dataoffsets[index]), int(page.databytecounts[index])


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(data)


def restate(path: Path, tag: str, index: int, value: int) -> None:
    """Change what a tag of the first page says of one native tile."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        entry = tiff.pages.first.aspage().tags[tag]
        values = list(entry.value)
        values[index] = value
        entry.overwrite(values)


def directories_first(path: Path, *, reverse: bool) -> bytes:
    """Return a file with its tiles behind everything else, the last level's first if reversed."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        pages = [page.aspage() for page in tiff.pages]
        data = path.read_bytes()
        for page in reversed(pages) if reverse else pages:
            offsets = []
            for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                offsets.append(len(data))
                data += data[at : at + count]
            page.tags["TileOffsets"].overwrite(offsets)
    directory = path.read_bytes()
    return directory + data[len(directory) :]


def zeros(path: Path, index: int) -> None:
    at, count = place(path, index)
    overwrite(path, at, bytes(count))


def random_bytes(path: Path, index: int) -> None:
    at, count = place(path, index)
    overwrite(path, at, np.random.default_rng([index, 3]).bytes(count))


def no_header(path: Path, index: int) -> None:
    at, _ = place(path, index)
    overwrite(path, at, bytes(64))


def zeros_at_the_end(path: Path, index: int) -> None:
    at, count = place(path, index)
    overwrite(path, at + count // 2, bytes(count - count // 2))


def too_few_bytes(path: Path, index: int) -> None:
    _, count = place(path, index)
    restate(path, "TileByteCounts", index, count // 2)


def beyond_the_file(path: Path, index: int) -> None:
    restate(path, "TileOffsets", index, path.stat().st_size + 1000)


def more_than_the_file(path: Path, index: int) -> None:
    restate(path, "TileByteCounts", index, path.stat().st_size)


HARMS: dict[str, Harm] = {
    each.__name__: each
    for each in (
        zeros,
        random_bytes,
        no_header,
        zeros_at_the_end,
        too_few_bytes,
    )
}


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Open slides that are closed after the test."""
    with ExitStack() as readers:

        def reader_of(path: Path) -> SlideReader:
            return readers.enter_context(closing(open_slide(path)))

        yield reader_of


def box_px(index: int) -> Box:
    row, column = divmod(index, ACROSS)
    width, height = TILE_PX.width, TILE_PX.height
    return Box(x=column * width, y=row * height, width=width, height=height)


def assert_only_these_fail(
    reads: list[RgbOrError], whole_reads: list[RgbOrError], windows: list[Box], bad: Set[int]
) -> None:
    """Assert that windows that touch a bad native tile name one, and that the others are undisturbed."""
    assert len(reads) == len(windows)
    for window_px, read, expected in zip(windows, reads, whole_reads, strict=True):
        touched = {index for index in bad if box_px(index).intersection(window_px)}
        if touched:
            assert isinstance(read, TileError), f"{window_px} touches {touched} and was read"
            assert any(f"native tile {index}:" in str(read) for index in touched)
            assert str(window_px) in str(read)
        else:
            assert isinstance(read, np.ndarray), f"{window_px}: {read}"
            np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", CODINGS)
def test_exactly_the_windows_that_touch_a_bad_native_tile_fail(
    name: str, harm: str, opened: Opened, tmp_path: Path
) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=CODINGS[name])
    windows = grid_windows(opened(path).info.size0, side=100, stride=60)
    expected = list(opened(path).read_many(0, windows))
    damaged = tmp_path / "damaged.svs"
    damaged.write_bytes(path.read_bytes())
    for index in BAD:
        HARMS[harm](damaged, index)
    reader = opened(damaged)
    assert reader.info.backend == "tiff tiles"
    assert_only_these_fail(list(reader.read_many(0, windows)), expected, windows, set(BAD))
    alone = [read_or_error(reader, 0, window_px) for window_px in windows[::7]]
    assert_only_these_fail(alone, expected[::7], windows[::7], set(BAD))
    for level in (1, 2):
        at_px = whole(reader.info.levels[level].size_px)
        np.testing.assert_array_equal(reader.read(level, at_px), opened(path).read(level, at_px))


def test_without_a_codec_only_missing_bytes_can_be_noticed(opened: Opened, tmp_path: Path) -> None:
    # Any bytes are a picture here: zeros are black, and nothing tells them from a black one.
    path = write_generic(tmp_path / "a.tif", LEVELS, coding=RAW)
    windows = grid_windows(opened(path).info.size0, side=100, stride=60)
    expected = list(opened(path).read_many(0, windows))
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(path.read_bytes())
    too_few_bytes(damaged, 14)
    assert_only_these_fail(list(opened(damaged).read_many(0, windows)), expected, windows, {14})


@pytest.mark.parametrize("harm", [beyond_the_file, more_than_the_file])
@pytest.mark.parametrize("name", CODINGS)
@pytest.mark.parametrize("index", [0, 14, 35])
def test_one_entry_of_the_directory_that_points_past_the_file_costs_one_native_tile(
    index: int, name: str, harm: Harm, opened: Opened, tmp_path: Path
) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=CODINGS[name])
    windows = grid_windows(opened(path).info.size0, side=100, stride=60)
    expected = list(opened(path).read_many(0, windows))
    harm(path, index)
    reader = opened(path)
    assert reader.info.backend == "tiff tiles"
    assert_only_these_fail(list(reader.read_many(0, windows)), expected, windows, {index})
    with pytest.raises(
        TileError, match=f"expected .* bytes from byte .*, the file ends at {path.stat().st_size}"
    ):
        reader.read(0, box_px(index).intersection(whole(reader.info.size0)) or box_px(index))


def test_several_such_entries_of_a_small_slide_are_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=jpeg())
    for index in (7, 20):
        beyond_the_file(path, index)
    with pytest.raises(SlideError, match=r"cut off: .*copy it again"):
        open_slide(path)


def test_of_a_hundred_tiles_one_may_lie_past_the_file(opened: Opened, tmp_path: Path) -> None:
    coding = replace(DEFLATE, tile_px=Size(width=32, height=32))
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=coding)  # 22 x 17 + 6 x 5 + 2 x 2
    for index in (0, 100, 200, 373):
        beyond_the_file(path, index)
    assert opened(path).info.backend == "tiff tiles"
    beyond_the_file(path, 300)
    with pytest.raises(SlideError, match="cut off: its tiles reach to byte"):
        open_slide(path)


@pytest.mark.parametrize("lost", ["a byte", "a tile", "a tile and a byte"])
@pytest.mark.parametrize("order", ["finest first", "finest last"])
def test_a_copy_that_ends_early_is_refused_however_little_is_missing(
    order: str, lost: str, tmp_path: Path
) -> None:
    coding = replace(RAW, tile_px=Size(width=32, height=32))
    path = write_generic(tmp_path / "a.tif", LEVELS[:2], coding=coding)
    data = directories_first(path, reverse=order == "finest last")
    tile_bytes = 32 * 32 * 3
    less = {"a byte": 1, "a tile": tile_bytes, "a tile and a byte": tile_bytes + 1}[lost]
    path.write_bytes(data[:-less])
    with pytest.raises(SlideError, match=r"cut off: .*copy it again"):
        open_slide(path)
    path.write_bytes(data)
    open_slide(path).close()


@pytest.mark.parametrize("left", [0.3, 0.7, 0.9, 0.97, 0.995, 0.999])
@pytest.mark.parametrize("write", [write_svs, write_generic, write_qptiff, write_philips])
def test_a_copy_of_a_pyramid_that_ends_early_is_never_taken_for_a_smaller_one(
    write: Callable[..., Path], left: float, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", LEVELS, coding=jpeg("ycbcr", "420"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(SlideError, match=r"cut off|is the file complete"):
        open_slide(path)


@pytest.mark.parametrize("harm", ["zeros", "zeros_at_the_end", "too_few_bytes"])
def test_bad_tiles_of_an_ome_tiff_are_named_too(harm: str, opened: Opened, tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tif", LEVELS, coding=jpeg(), byteorder=">")
    windows = grid_windows(opened(path).info.size0, side=100, stride=60)
    expected = list(opened(path).read_many(0, windows))
    HARMS[harm](path, 14)
    assert_only_these_fail(list(opened(path).read_many(0, windows)), expected, windows, {14})


def test_a_bad_tile_is_tried_once_for_all_windows(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=jpeg())
    reader = opened(path)
    tries: list[bytes] = []

    def refuse(data: bytes) -> Rgb:
        tries.append(data)
        raise ValueError("no picture")

    monkeypatch.setattr("wsi_pipeline.slides.tiff_tiles.decode_jpeg", refuse)
    windows = [Box(x=x, y=0, width=50, height=50) for x in range(0, 70, 10)]
    reads = list(reader.read_many(0, windows))
    assert all(isinstance(read, TileError) for read in reads)
    assert len(tries) == 1


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", "deflate"])
def test_a_run_marks_the_tiles_that_touch_and_stores_the_others_unchanged(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    write_svs(folder / "whole.svs", LEVELS, coding=CODINGS[name])
    damaged = write_svs(folder / "damaged.svs", LEVELS, coding=CODINGS[name])
    for index in BAD:
        zeros(damaged, index)
    run = tmp_path / "RUN"
    tile(run, folder, config=CONFIG)
    rows, whole_rows = rows_of(run, "damaged"), rows_of(run, "whole")
    pictures = zip(stored(run, "damaged"), stored(run, "whole"), strict=True)
    bad = 0
    for row, whole_row, (rgb, whole_rgb) in zip(rows, whole_rows, pictures, strict=True):
        box0 = Box(x=row["x"], y=row["y"], width=row["width"], height=row["height"])
        touches = any(box_px(index).intersection(box0) for index in BAD)
        assert row["status"] == ("unreadable" if touches else "ok")
        bad += touches
        if not touches:
            np.testing.assert_array_equal(rgb, whole_rgb)
            assert row["crc32c"] == whole_row["crc32c"]
    slide = slides_of(run)["damaged"]
    assert (slide["status"], slide["tiles_unreadable"]) == ("done", bad)
    assert "native tile 8" in slide["reason"]
    assert slides_of(run)["whole"]["tiles_unreadable"] == 0


def test_the_overview_marks_what_it_cannot_read(opened: Opened, tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS[:1], coding=jpeg())
    zeros(path, 14)
    overview = read_overview(opened(path), level=0, shrink=1)
    bad_px = box_px(14)
    inside = overview.unreadable[bad_px.y : bad_px.y_end, bad_px.x : bad_px.x_end]
    assert inside.all()
    assert overview.unreadable.mean() < 0.3


def mrxs_image(slide: Mrxs, image: tuple[int, int]) -> Box:
    """Return where a level-0 image of photos of 2 x 2 images of 64 px without overlap lies."""
    assert (0, image) in slide.images
    return Box(x=image[0] * 64, y=image[1] * 64, width=64, height=64)


@pytest.mark.parametrize("harm", ["zeros", "random", "no header"])
def test_mrxs_images_that_are_damaged_fail_alone_and_later_reads_work(
    harm: str, opened: Opened, tmp_path: Path
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", LEVELS[0], camera=Camera())
    windows = grid_windows(opened(slide.path).info.size0, side=100, stride=60)
    expected = list(opened(slide.path).read_many(0, windows))
    image = (4, 3)
    at, count, _ = slide.images[0, image]
    bad = {
        "zeros": bytes(count),
        "random": np.random.default_rng(4).bytes(count),
        "no header": bytes(64),
    }
    overwrite(slide.data, at, bad[harm])
    bad_px = mrxs_image(slide, image)
    reader = opened(slide.path)
    reads = list(reader.read_many(0, windows))
    for window_px, read, before in zip(windows, reads, expected, strict=True):
        if bad_px.intersection(window_px):
            assert isinstance(read, TileError)
            assert f"level 0, {window_px}: " in str(read)
        else:
            np.testing.assert_array_equal(read, before)
    with pytest.raises(TileError):
        reader.read(0, bad_px)
    np.testing.assert_array_equal(reader.read(0, windows[0]), expected[0])
    half_px = whole(reader.info.levels[1].size_px)
    assert reader.read(1, half_px).shape == (half_px.height, half_px.width, 3)


def test_an_mrxs_run_marks_the_tiles_that_touch_a_damaged_image(tmp_path: Path) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", LEVELS[0], camera=Camera())
    at, count, _ = slide.images[0, (4, 3)]
    overwrite(slide.data, at, bytes(count))
    tile(tmp_path / "RUN", slide.path, config=CONFIG)
    bad_px = mrxs_image(slide, (4, 3))
    for row in rows_of(tmp_path / "RUN", "a"):
        box0 = Box(x=row["x"], y=row["y"], width=row["width"], height=row["height"])
        assert row["status"] == ("unreadable" if bad_px.intersection(box0) else "ok")


def read_or_error(reader: SlideReader, level: int, window_px: Box) -> RgbOrError:
    try:
        return reader.read(level, window_px)
    except TileError as error:
        return error
