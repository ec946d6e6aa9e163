"""TIFF slides by their native tiles: OpenSlide's pixels, each tile decoded once, in bounded memory."""

import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.writers.bif import write_bif
from tests.writers.codings import (
    DEFLATE,
    GRAY_DEFLATE,
    GRAY_JPEG,
    LZW,
    LZW_PREDICTED,
    PACKBITS,
    RAW,
    ZSTD,
    Coding,
    jpeg,
    jpeg2000,
    to_ycbcr,
)
from tests.writers.jpeg import FACTORS, Colours, Marks
from tests.writers.pixels import REAL_SLIDES, pyramid, tissue
from tests.writers.reference import (
    ByOpenSlide,
    edge_windows,
    grid_windows,
    random_windows,
    whole,
)
from tests.writers.tiff import MPP, Missing, write_generic, write_ome, write_philips, write_svs
from wsi_pipeline.geometry import WHITE, Box, Rgb
from wsi_pipeline.slides import mosaic
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.slides.tiff_tiles import NativeTiles

Write: TypeAlias = Callable[[Path], Path]
Written: TypeAlias = Callable[[str], Path]
Opened: TypeAlias = Callable[[Path], SlideReader]

LEVELS = pyramid(tissue(704, 528), 4, 16)
"""5.5 x 5.5 native tiles at level 0; shrinks of exactly 4 and 16."""

GRAY_LEVELS = [np.asarray(cv2.cvtColor(level, cv2.COLOR_RGB2GRAY)) for level in LEVELS]
ODD_LEVELS = pyramid(tissue(705, 530), 2.001, 4.37)
SHARED_TABLES = jpeg("ycbcr", "420", shared=True)
FIRST_HAS_HOLES: Missing = [{2, 3, 14}]
ALL_HAVE_HOLES: Missing = [{2, 3, 14}, {0}]

COLOURS: tuple[Colours, ...] = ("rgb", "ycbcr")
MARKS: tuple[Marks, ...] = ("none", "jfif", "adobe-rgb", "adobe-ycbcr")
APERIO: dict[str, Coding] = {
    **{f"jpeg ycbcr {each}": jpeg("ycbcr", each) for each in FACTORS},
    **{f"jpeg {c} marked {m}": jpeg(c, marks=m) for c in COLOURS for m in MARKS},
    **{
        f"jpeg {c} abbreviated, marked {m}": jpeg(c, marks=m, shared=True)
        for c in COLOURS
        for m in MARKS
    },
    **{f"jpeg2000 {c}": jpeg2000(c) for c in COLOURS},
    **{f"jpeg2000 {c} lossy": jpeg2000(c, lossless=False) for c in COLOURS},
}
PLAIN: dict[str, Coding] = {
    "raw": RAW,
    "packbits": PACKBITS,
    "zstd": ZSTD,
    "lzw": LZW,
    "lzw predicted": LZW_PREDICTED,
    "deflate": DEFLATE,
    "jpeg rgb": jpeg(),
    "jpeg ycbcr": SHARED_TABLES,
}
SPARSE = {"raw": RAW, "jpeg": SHARED_TABLES}
VARIANTS: dict[str, Write] = {
    **{f"aperio {n}": partial(write_svs, levels=LEVELS, coding=c) for n, c in APERIO.items()},
    **{
        f"generic-tiff {n}": partial(write_generic, levels=LEVELS, coding=c)
        for n, c in PLAIN.items()
    },
    **{
        f"generic-tiff big {n}": partial(write_generic, levels=LEVELS, coding=c, big=True)
        for n, c in PLAIN.items()
    },
    **{f"philips {n}": partial(write_philips, levels=LEVELS, coding=c) for n, c in PLAIN.items()},
    "generic-tiff gray jpeg": partial(write_generic, levels=GRAY_LEVELS, coding=GRAY_JPEG),
    "generic-tiff gray deflate": partial(write_generic, levels=GRAY_LEVELS, coding=GRAY_DEFLATE),
    **{
        f"{vendor} sparse {n}": partial(write, levels=LEVELS, coding=c, missing=missing)
        for n, c in SPARSE.items()
        for vendor, write, missing in (
            ("generic-tiff", write_generic, ALL_HAVE_HOLES),
            ("philips", write_philips, ALL_HAVE_HOLES),
            ("aperio", write_svs, FIRST_HAS_HOLES),
            ("aperio all", write_svs, ALL_HAVE_HOLES),
        )
    },
}
"""Names begin with OpenSlide's vendor."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Give the path of a variant, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("tiffs")

    def path_of(name: str) -> Path:
        path = folder / f"{name.replace(' ', '_')}.tif"
        return path if path.exists() else VARIANTS[name](path)

    return path_of


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Open slides that are closed after the test."""
    with ExitStack() as readers:

        def reader_of(path: Path) -> SlideReader:
            return readers.enter_context(closing(open_slide(path)))

        yield reader_of


def pixels(read: object) -> Rgb:
    assert isinstance(read, np.ndarray), read
    return read


@pytest.mark.parametrize("name", VARIANTS)
def test_every_native_tile_is_read_as_it_lies_in_the_file(
    opened: Opened, name: str, written: Written
) -> None:
    reader = opened(written(name))
    assert reader.info.backend == "tiff tiles"
    assert reader.info.format == name.split(maxsplit=1)[0]
    assert reader.info.format in reader.info.backend_reason
    assert "decoded once" in reader.info.backend_reason
    assert reader.info.mpp == pytest.approx(MPP, rel=1e-6)
    assert [at.downsample for at in reader.info.levels] == [1, 4, 16]


@pytest.mark.parametrize("name", VARIANTS)
def test_windows_hold_the_pixels_that_openslide_gives(
    opened: Opened, name: str, written: Written
) -> None:
    reader, openslide = opened(written(name)), ByOpenSlide(written(name))
    assert [at.size_px for at in reader.info.levels] == openslide.sizes_px
    for level, size_px in enumerate(openslide.sizes_px):
        windows = [*edge_windows(size_px), *random_windows(size_px, seed=level)]
        together = list(reader.read_many(level, windows))
        for window_px, read in zip(windows, together, strict=True):
            expected = openslide.read(level, window_px)
            np.testing.assert_array_equal(pixels(read), expected, err_msg=f"{level} {window_px}")
            np.testing.assert_array_equal(reader.read(level, window_px), expected)


def test_philips_levels_that_are_filled_up_to_the_same_size_are_told_apart(
    opened: Opened, tmp_path: Path
) -> None:
    levels = pyramid(LEVELS[0], 2, 4, 8, 16, 32)  # the last three are stored as one tile each
    path = write_philips(tmp_path / "deep.tif", levels, coding=DEFLATE)
    reader, openslide = opened(path), ByOpenSlide(path)
    assert reader.info.backend == "tiff tiles"
    assert len(reader.info.levels) == 6
    for level, at in enumerate(reader.info.levels):
        np.testing.assert_array_equal(reader.read(level, whole(at.size_px)), openslide.whole(level))


@pytest.mark.parametrize(
    "coding", [DEFLATE, SHARED_TABLES, jpeg2000("rgb")], ids=["deflate", "jpeg", "jpeg2000"]
)
def test_whole_levels_of_a_broken_shrink_hold_the_pixels_that_openslide_gives(
    opened: Opened, coding: Coding, tmp_path: Path
) -> None:
    # Elsewhere than at 0, 0 OpenSlide itself interpolates: its windows begin between two pixels.
    path = write_svs(tmp_path / "odd.svs", ODD_LEVELS, coding=coding)
    reader, openslide = opened(path), ByOpenSlide(path)
    assert [at.downsample for at in reader.info.levels][1:] != [2, 4]
    for level in range(3):
        window_px = whole(openslide.sizes_px[level])
        np.testing.assert_array_equal(reader.read(level, window_px), openslide.whole(level))


@pytest.mark.parametrize("coding", [RAW, LZW_PREDICTED, DEFLATE], ids=["raw", "lzw", "deflate"])
def test_what_loses_nothing_gives_the_pixels_that_were_written(
    opened: Opened, coding: Coding, tmp_path: Path
) -> None:
    path = write_svs(tmp_path / "odd.svs", ODD_LEVELS, coding=coding)
    reader = opened(path)
    for level, rgb in enumerate(ODD_LEVELS):
        for window_px in random_windows(reader.info.levels[level].size_px, seed=5):
            expected = rgb[window_px.y : window_px.y_end, window_px.x : window_px.x_end]
            np.testing.assert_array_equal(reader.read(level, window_px), expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("name", PLAIN)
def test_ome_tiffs_of_both_byte_orders_give_every_sub_ifd_and_their_resolution(
    opened: Opened, name: str, byteorder: Literal["<", ">"], tmp_path: Path, written: Written
) -> None:
    path = write_ome(tmp_path / "a.ome.tif", LEVELS, coding=PLAIN[name], byteorder=byteorder)
    reader, same_tiles = opened(path), ByOpenSlide(written(f"generic-tiff {name}"))
    assert reader.info.format == "ome-tiff"
    assert reader.info.mpp == pytest.approx(MPP)
    assert [at.size_px for at in reader.info.levels] == same_tiles.sizes_px
    for level, size_px in enumerate(same_tiles.sizes_px):
        for window_px in [*edge_windows(size_px), *random_windows(size_px, seed=level)]:
            expected = same_tiles.read(level, window_px)
            np.testing.assert_array_equal(reader.read(level, window_px), expected)


@pytest.mark.parametrize("name", ["generic-tiff sparse raw", "generic-tiff sparse jpeg"])
def test_tiles_that_the_file_leaves_out_are_white(
    opened: Opened, name: str, written: Written
) -> None:
    reader = opened(written(name))
    hole_px = Box(x=256, y=0, width=256, height=96)
    assert reader.read(0, hole_px).min() == WHITE
    assert reader.read(0, Box(x=250, y=0, width=6, height=96)).min() < WHITE


@pytest.mark.parametrize(
    "slide", ["aperio_jpeg_he.svs", "aperio_jpeg2000_he.svs", "label_mask_pyramid.tif"]
)
def test_real_slides_hold_the_pixels_that_openslide_gives(opened: Opened, slide: str) -> None:
    path = REAL_SLIDES / slide
    if not path.exists():
        pytest.skip(f"{path} is not there")
    reader, openslide = opened(path), ByOpenSlide(path)
    assert reader.info.backend == "tiff tiles"
    for level, at in enumerate(reader.info.levels):
        exact = at.downsample == round(at.downsample)
        windows = [*edge_windows(at.size_px), *random_windows(at.size_px, seed=level)]
        for window_px in windows[1:] if exact else windows[:1]:
            expected = openslide.read(level, window_px)
            np.testing.assert_array_equal(reader.read(level, window_px), expected)


class Decodings:
    """Counts how often each native tile is decoded, and knows which of them are still kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = Counter[int]()
        self._alive: list[weakref.ref[Any]] = []
        decode = NativeTiles.decode

        def counted(native: NativeTiles, index: int, handle: object) -> Rgb:
            self.times[index] += 1
            tile = decode(native, index, handle)
            self._alive.append(weakref.ref(tile))
            return tile

        monkeypatch.setattr(NativeTiles, "decode", counted)

    @property
    def kept(self) -> int:
        """Tiles that somebody still holds."""
        self._alive = [each for each in self._alive if each() is not None]
        return len(self._alive)


@pytest.mark.parametrize(("side", "stride"), [(100, 60), (200, 40), (64, 64), (350, 300), (37, 31)])
@pytest.mark.parametrize("name", ["aperio jpeg ycbcr 420", "generic-tiff raw"])
def test_overlapping_windows_decode_each_native_tile_once(
    opened: Opened,
    name: str,
    side: int,
    stride: int,
    written: Written,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = opened(written(name))
    size_px = reader.info.levels[0].size_px
    decodings = Decodings(monkeypatch)
    for _ in reader.read_many(0, grid_windows(size_px, side=side, stride=stride)):
        pass
    assert decodings.times == Counter(range(6 * 6))


def test_only_native_tiles_that_windows_touch_are_decoded(
    opened: Opened, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = opened(written("aperio jpeg ycbcr 420"))
    decodings = Decodings(monkeypatch)
    reader.read(0, Box(x=127, y=95, width=2, height=1))
    list(reader.read_many(0, [Box(x=700, y=520, width=4, height=8)] * 3))
    assert decodings.times == Counter([0, 1, 35])


def test_rows_that_no_later_window_touches_are_let_go(
    opened: Opened, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = opened(written("generic-tiff raw"))
    decodings = Decodings(monkeypatch)
    windows = grid_windows(reader.info.levels[0].size_px, side=100, stride=60)
    kept = [decodings.kept for _ in reader.read_many(0, windows)]
    assert (
        max(kept) <= 3 * 6
    )  # a window of 100 px touches three rows of 96 px at most, of six tiles


@pytest.mark.parametrize("most_tiles", [1, 2, 7])
@pytest.mark.parametrize("name", ["aperio jpeg ycbcr 420", "generic-tiff deflate"])
def test_less_memory_gives_the_same_pixels(
    opened: Opened, name: str, most_tiles: int, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = opened(written(name))
    windows = grid_windows(reader.info.levels[0].size_px, side=150, stride=70)
    expected = [pixels(read) for read in reader.read_many(0, windows)]
    monkeypatch.setattr(mosaic, "KEPT_BYTES", most_tiles * 128 * 96 * 3)
    decodings = Decodings(monkeypatch)
    kept = []
    for read, whole_read in zip(reader.read_many(0, windows), expected, strict=True):
        np.testing.assert_array_equal(pixels(read), whole_read)
        kept.append(decodings.kept)
    assert max(kept) <= most_tiles + 3 * 3  # a window needs all its own tiles at once
    assert kept[-1] <= most_tiles
    assert max(decodings.times.values()) > 1


@pytest.mark.parametrize("name", ["aperio jpeg ycbcr 420", "philips deflate"])
def test_windows_in_any_order_and_repeated_are_what_they_are_alone(
    opened: Opened, name: str, written: Written
) -> None:
    reader = opened(written(name))
    windows = random_windows(reader.info.levels[0].size_px, seed=9, count=30)
    windows += windows[::3]
    for window_px, read in zip(windows, reader.read_many(0, windows), strict=True):
        np.testing.assert_array_equal(pixels(read), reader.read(0, window_px))


def test_what_was_read_may_be_changed_without_harm(opened: Opened, written: Written) -> None:
    reader = opened(written("generic-tiff raw"))
    tile_px = Box(x=128, y=96, width=128, height=96)  # a whole native tile
    first, second = map(pixels, reader.read_many(0, [tile_px, tile_px]))
    before = second.copy()
    first[:] = 0
    np.testing.assert_array_equal(second, before)
    np.testing.assert_array_equal(reader.read(0, tile_px), before)


def write_one(path: Path, picture: NDArray[Any], **tags: object) -> Path:
    arguments: dict[str, Any] = tags
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, tile=(96, 128), metadata=None, **arguments)
    return path


def planar(path: Path) -> Path:
    return write_one(path, np.moveaxis(LEVELS[0], 2, 0), photometric="rgb", planarconfig="separate")


def sixteen_bit(path: Path) -> Path:
    return write_one(path, LEVELS[0].astype(np.uint16) * 257, photometric="rgb")


def see_through(path: Path) -> Path:
    alpha = np.full(LEVELS[0].shape[:2], WHITE, np.uint8)
    alpha[100:200, 100:300] = 0
    return write_one(
        path, np.dstack([LEVELS[0], alpha]), photometric="rgb", extrasamples=["unassalpha"]
    )


def inverted(path: Path) -> Path:
    return write_one(path, GRAY_LEVELS[0], photometric="miniswhite")


def bare_ycbcr(path: Path) -> Path:
    return write_one(path, to_ycbcr(LEVELS[0]), photometric="ycbcr", subsampling=(1, 1))


def coarse_level_of_sixteen_bits(path: Path) -> Path:
    with tifffile.TiffWriter(path) as writer:
        tags: dict[str, Any] = {"tile": (96, 128), "photometric": "rgb", "metadata": None}
        writer.write(LEVELS[0], **tags)
        writer.write(LEVELS[1].astype(np.uint16) * 257, subfiletype=1, **tags)
    return path


UNFIT: dict[str, Write] = {
    "generic-tiff, planes apart": planar,
    "generic-tiff, 16 bit": sixteen_bit,
    "generic-tiff, with alpha": see_through,
    "generic-tiff, 0 is white": inverted,
    "generic-tiff, bare Y, Cb, Cr": bare_ycbcr,
    "generic-tiff, one level of 16 bit": coarse_level_of_sixteen_bits,
    "ventana, overlapping": partial(write_bif, rgb=LEVELS[0], coding=SHARED_TABLES, overlap_px=8),
}
UNFIT_BECAUSE = {
    "generic-tiff, planes apart": "level 0, 704 x 528 px: .* got colours in separate planes",
    "generic-tiff, 16 bit": "level 0, .* got 16 bits a sample",
    "generic-tiff, with alpha": "got 4 samples a pixel",
    "generic-tiff, bare Y, Cb, Cr": "got Y, Cb, Cr outside of a JPEG",
    "generic-tiff, 0 is white": "got colours stored as MINISWHITE",
    "generic-tiff, one level of 16 bit": "level 1, 176 x 132 px: .* got 16 bits a sample",
    "ventana, overlapping": "got photos that overlap or lie in several areas",
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_left_to_openslide_and_the_slide_says_so(
    opened: Opened, name: str, tmp_path: Path
) -> None:
    path = UNFIT[name](tmp_path / "unfit.tif")
    reader, openslide = opened(path), ByOpenSlide(path)
    assert reader.info.backend == "openslide"
    vendor = name.split(",", maxsplit=1)[0]
    known, reason = reader.info.backend_reason.split("; ")
    assert known == f"OpenSlide knows it as {vendor}"
    assert re.search(UNFIT_BECAUSE[name], reason)
    for level, size_px in enumerate(openslide.sizes_px):
        np.testing.assert_array_equal(reader.read(level, whole(size_px)), openslide.whole(level))


def test_a_level_in_strips_is_no_level(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "strips.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(LEVELS[0], tile=(96, 128), photometric="rgb", metadata=None)
        writer.write(LEVELS[1], rowsperstrip=16, photometric="rgb", subfiletype=1, metadata=None)
    reader = opened(path)
    assert reader.info.backend == "tiff tiles"
    assert len(reader.info.levels) == len(ByOpenSlide(path).sizes_px) == 1
    np.testing.assert_array_equal(reader.read(0, whole(reader.info.size0)), LEVELS[0])


def test_a_tiff_whose_compression_openslide_lacks_is_read_by_its_tiles(
    opened: Opened, tmp_path: Path
) -> None:
    path = write_one(tmp_path / "a.tif", LEVELS[0], photometric="rgb", compression="lzma")
    reader = opened(path)
    np.testing.assert_array_equal(reader.read(0, whole(reader.info.size0)), LEVELS[0])


def test_sixteen_bit_gray_in_tiles_is_never_garbled(opened: Opened, tmp_path: Path) -> None:
    # OpenSlide 4.0.1 garbles the last column of such tiles where it is cut off by the page.
    path = write_one(
        tmp_path / "a.tif", GRAY_LEVELS[0].astype(np.uint16) * 257, photometric="minisblack"
    )
    reader = opened(path)
    gray = reader.read(0, whole(reader.info.size0))[..., 0]
    pairs = np.unique(np.stack([gray, GRAY_LEVELS[0]], axis=-1).reshape(-1, 2), axis=0)
    # Whatever window the grays are shown in: each is shown as one gray, in every place.
    assert len(np.unique(pairs[:, 1])) == len(pairs)


def test_windows_outside_the_level_are_the_callers_mistake(
    opened: Opened, written: Written
) -> None:
    reader = opened(written("generic-tiff raw"))
    with pytest.raises(ValueError, match="expected inside level 0 of 704 x 528 px"):
        list(reader.read_many(0, [Box(x=700, y=0, width=5, height=5)]))
