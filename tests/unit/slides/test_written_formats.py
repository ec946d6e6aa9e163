"""Slides that OpenSlide reads or describes: MRXS, DICOM, BIF; and a run on one slide of every format."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import openslide
import pytest
import tifffile

from tests.pipeline.runs import padded, rows_of, slides_of, stored, tile
from tests.writers import bif, dicom, mrxs_files, ndpi, scn, tiff
from tests.writers.codings import DEFLATE, LZW, RAW, TILE_PX, jpeg, jpeg2000
from tests.writers.mrxs import Camera, Mrxs, write_mrxs
from tests.writers.pixels import pyramid, tissue
from tests.writers.reference import ByOpenSlide, edge_windows, grid_windows, random_windows, whole
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import WHITE, Box, Rgb, Size
from wsi_pipeline.slides import bands
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.reader import SlideReader

Opened: TypeAlias = Callable[[Path], SlideReader]

RGB = tissue(700, 500)
LEVELS = pyramid(tissue(704, 528), 4, 16)
CAMERAS = {
    "photos side by side": Camera(),
    "one image a photo": Camera(image_px=128, images=1, overlap_px=8),
    "photos that overlap": Camera(overlap_px=16),
    "overlap and holes": Camera(overlap_px=16, unscanned={(0, 0), (1, 0), (3, 2), (6, 4)}),
    "photos out of place": Camera(
        overlap_px=16, moved_px={(1, 1): (4, -4), (2, 2): (-8, 4)}, unscanned={(0, 0), (3, 3)}
    ),
    "sixteen images a photo": Camera(images=4, overlap_px=32, unscanned={(1, 1)}),
}
TISSUE_IN_ONE_CORNER = Camera(
    overlap_px=16,
    unscanned={(column, row) for column in range(7) for row in range(5)} - {(4, 2), (5, 2), (5, 3)},
)


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Open slides that are closed after the test."""
    with ExitStack() as readers:

        def reader_of(path: Path) -> SlideReader:
            return readers.enter_context(closing(open_slide(path)))

        yield reader_of


class Readings:
    """Every window that OpenSlide is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes_px: list[Size] = []
        read_region = openslide.OpenSlide.read_region

        def noted(
            slide: openslide.OpenSlide,
            location0: tuple[int, int],
            level: int,
            size: tuple[int, int],
        ) -> object:
            self.sizes_px.append(Size(width=size[0], height=size[1]))
            return read_region(slide, location0, level, size)

        monkeypatch.setattr(openslide.OpenSlide, "read_region", noted)


def pixels(read: object) -> Rgb:
    assert isinstance(read, np.ndarray), read
    return read


def part(canvas: Rgb, window_px: Box) -> Rgb:
    return canvas[window_px.y : window_px.y_end, window_px.x : window_px.x_end]


def canvas_of(slide: Mrxs, size_px: Size, rgb: Rgb = RGB) -> Rgb:
    """Return what the photos show in their places, white elsewhere."""
    canvas = np.full((size_px.height, size_px.width, 3), WHITE, np.uint8)
    whole_rgb = np.full((2000, 2000, 3), WHITE, np.uint8)
    whole_rgb[: rgb.shape[0], : rgb.shape[1]] = rgb
    for box0 in slide.photos0.values():
        seen = box0.intersection(whole(size_px))
        assert seen is not None
        canvas[seen.y : seen.y_end, seen.x : seen.x_end] = part(whole_rgb, seen)
    return canvas


@pytest.mark.parametrize("name", CAMERAS)
def test_mrxs_without_loss_shows_every_photo_in_its_place_and_white_between(
    name: str, opened: Opened, tmp_path: Path
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=CAMERAS[name], image_format="PNG")
    reader = opened(slide.path)
    size_px = reader.info.size0
    canvas = canvas_of(slide, size_px)
    for window_px in [*edge_windows(size_px), *random_windows(size_px, seed=1)]:
        np.testing.assert_array_equal(reader.read(0, window_px), part(canvas, window_px))
    half = reader.info.levels[1].size_px
    means = canvas[: half.height * 2, : half.width * 2].reshape(half.height, 2, half.width, 2, 3)
    difference = reader.read(1, whole(half)) - means.mean(axis=(1, 3))
    # Photos are shrunk before they are put in place; pixels at the borders of what was not scanned differ.
    assert np.mean(abs(difference) > 1) < 0.01


@pytest.mark.parametrize("name", CAMERAS)
def test_mrxs_of_jpegs_holds_the_pixels_that_openslide_gives(
    name: str, opened: Opened, tmp_path: Path
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=CAMERAS[name])
    reader, reference = opened(slide.path), ByOpenSlide(slide.path)
    size_px = reader.info.size0
    assert abs(reader.read(0, whole(size_px)).astype(float) - canvas_of(slide, size_px)).mean() < 3
    for level, at in enumerate(reader.info.levels):
        windows = grid_windows(at.size_px, side=100, stride=60)
        for window_px, read in zip(windows, reader.read_many(level, windows), strict=True):
            np.testing.assert_array_equal(pixels(read), reference.read(level, window_px))


def test_mrxs_says_what_it_is_and_where_it_was_scanned(opened: Opened, tmp_path: Path) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=TISSUE_IN_ONE_CORNER)
    info = opened(slide.path).info
    assert info.backend == "mrxs images"
    assert info.backend_reason == "MRXS images decoded once; metadata by OpenSlide"
    assert (info.mpp_x, info.mpp_y, info.objective_power) == (mrxs_files.MPP, mrxs_files.MPP, 20)
    assert [at.downsample for at in info.levels] == [1, 2, 4]
    boxes0 = slide.photos0.values()
    x0, y0 = min(box0.x for box0 in boxes0), min(box0.y for box0 in boxes0)
    assert info.bounds0 == Box(
        x=x0,
        y=y0,
        width=max(box0.x_end for box0 in boxes0) - x0,
        height=max(box0.y_end for box0 in boxes0) - y0,
    )
    assert info.bounds0.width < info.size0.width / 2


def test_what_was_not_scanned_is_white(opened: Opened, tmp_path: Path) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=TISSUE_IN_ONE_CORNER)
    reader = opened(slide.path)
    for level, at in enumerate(reader.info.levels):
        assert reader.read(level, Box(x=0, y=0, width=32, height=at.size_px.height)).min() == WHITE
    assert reader.read(0, reader.info.bounds0).min() < WHITE


@pytest.mark.parametrize("band_px", [4096, 300, 1])
def test_windows_of_a_row_are_read_at_once_and_their_overlap_once(
    band_px: int, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = CAMERAS["photos that overlap"]
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=camera, image_format="PNG")
    reader = opened(slide.path)
    size_px = reader.info.size0
    windows = grid_windows(size_px, side=100, stride=80)
    alone = [reader.read(0, window_px) for window_px in windows]
    monkeypatch.setattr(bands, "BAND_PX", band_px)
    readings = Readings(monkeypatch)
    for read, expected in zip(reader.read_many(0, windows), alone, strict=True):
        np.testing.assert_array_equal(pixels(read), expected)
    if band_px == 4096:
        assert {each.width for each in readings.sizes_px} == {size_px.width}
    area_px = sum(each.width * each.height for each in readings.sizes_px)
    assert area_px == size_px.width * size_px.height
    assert max(each.width for each in readings.sizes_px) <= max(band_px, 100)


def test_windows_far_apart_are_not_joined(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(), image_format="PNG")
    reader = opened(slide.path)
    windows = [
        Box(x=x, y=y, width=50, height=50) for x, y in ((0, 0), (51, 0), (600, 0), (600, 10))
    ]
    readings = Readings(monkeypatch)
    reads = [pixels(read) for read in reader.read_many(0, windows)]
    alone = Size(width=50, height=50)
    assert readings.sizes_px == [alone, alone, alone, Size(width=50, height=10)]
    for window_px, read in zip(windows, reads, strict=True):
        np.testing.assert_array_equal(read, reader.read(0, window_px))


@pytest.mark.parametrize("transfer", ["none", "jpeg"])
def test_dicom_levels_are_one_slide(
    transfer: dicom.Transfer, opened: Opened, tmp_path: Path
) -> None:
    path = dicom.write_dicom(tmp_path / "slide", LEVELS, transfer=transfer)
    reader, reference = opened(path), ByOpenSlide(path)
    assert reader.info.backend_reason == "OpenSlide knows it as dicom"
    assert [at.downsample for at in reader.info.levels] == [1, 4, 16]
    assert (reader.info.mpp, reader.info.objective_power) == (dicom.MPP, 20)
    for level, rgb in enumerate(LEVELS):
        size_px = reader.info.levels[level].size_px
        difference = reader.read(level, whole(size_px)).astype(float) - rgb
        assert abs(difference).mean() < (0.5 if transfer == "none" else 7)
        windows = random_windows(size_px, seed=level)
        for window_px, read in zip(windows, reader.read_many(level, windows), strict=True):
            np.testing.assert_array_equal(pixels(read), reference.read(level, window_px))
            if transfer == "none":
                np.testing.assert_array_equal(pixels(read), part(rgb, window_px))


@pytest.mark.parametrize("overlap_px", [0, 8])
def test_bif_photos_lie_where_their_joints_say(
    overlap_px: int, opened: Opened, tmp_path: Path
) -> None:
    path = bif.write_bif(tmp_path / "a.bif", RGB, coding=RAW, overlap_px=overlap_px)
    reader = opened(path)
    assert (reader.info.format, reader.info.mpp) == ("ventana", bif.MPP)
    canvas = np.full((reader.info.size0.height, reader.info.size0.width, 3), WHITE, np.uint8)
    canvas[: RGB.shape[0], : RGB.shape[1]] = RGB
    for window_px in [*edge_windows(reader.info.size0), *random_windows(reader.info.size0, seed=2)]:
        np.testing.assert_array_equal(reader.read(0, window_px), part(canvas, window_px))


def test_bif_without_overlap_is_a_plain_grid(opened: Opened, tmp_path: Path) -> None:
    path = bif.write_bif(tmp_path / "a.bif", RGB, coding=jpeg("ycbcr", "420"))
    reader, reference = opened(path), ByOpenSlide(path)
    assert reader.info.backend == "tiff tiles"
    for level, at in enumerate(reader.info.levels):
        for window_px in [*edge_windows(at.size_px), *random_windows(at.size_px, seed=level)]:
            expected = reference.read(level, window_px)
            np.testing.assert_array_equal(reader.read(level, window_px), expected)


SCANNED0 = Box(x=3200, y=4000, width=704, height=528)


def write_scn(path: Path) -> Path:
    slide_px = Size(width=8000, height=12000)
    return scn.write_scn(path, LEVELS, coding=RAW, slide_px=slide_px, at=SCANNED0)


def test_scn_is_read_where_it_was_scanned(opened: Opened, tmp_path: Path) -> None:
    reader = opened(write_scn(tmp_path / "a.scn"))
    assert (reader.info.format, reader.info.mpp) == ("leica", scn.NM / 1e3)
    assert reader.info.bounds0 == SCANNED0
    for level, rgb in enumerate(LEVELS):
        np.testing.assert_array_equal(reader.read(level, reader.info.bounds_px(level)), rgb)
    assert reader.read(0, Box(x=2900, y=4000, width=100, height=100)).min() == WHITE


def test_ndpi_gets_levels_that_the_file_does_not_store(opened: Opened, tmp_path: Path) -> None:
    path = ndpi.write_ndpi(tmp_path / "a.ndpi", LEVELS)
    reader, reference = opened(path), ByOpenSlide(path)
    assert (reader.info.format, reader.info.mpp) == ("hamamatsu", ndpi.MPP)
    assert [at.downsample for at in reader.info.levels] == [1, 2, 4, 8, 16]
    for level, at in enumerate(reader.info.levels):
        windows = grid_windows(at.size_px, side=100, stride=60)
        for window_px, read in zip(windows, reader.read_many(level, windows), strict=True):
            np.testing.assert_array_equal(pixels(read), reference.read(level, window_px))
    assert abs(reader.read(0, whole(reader.info.size0)).astype(float) - LEVELS[0]).mean() < 4


def test_qptiff_is_read_by_its_native_tiles(opened: Opened, tmp_path: Path) -> None:
    path = tiff.write_qptiff(tmp_path / "a.qptiff", LEVELS, coding=jpeg("ycbcr", "420"))
    reader, reference = opened(path), ByOpenSlide(path)
    assert reader.info.backend == "tiff tiles"
    assert reader.info.mpp == pytest.approx(tiff.MPP)
    assert [at.downsample for at in reader.info.levels] == [1, 4, 16]
    for level, at in enumerate(reader.info.levels):
        for window_px in random_windows(at.size_px, seed=level):
            expected = reference.read(level, window_px)
            np.testing.assert_array_equal(reader.read(level, window_px), expected)


def test_channels_that_are_pages_are_refused_and_never_shown_as_levels(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.qptiff") as writer:
        for index, level in enumerate(LEVELS):
            for channel in range(3):
                gray = np.ascontiguousarray(level[..., channel])
                writer.write(
                    gray,
                    tile=(96, 128),
                    subfiletype=int(index > 0),
                    metadata=None,
                    software="PerkinElmer-QPI",
                )
    with pytest.raises(SlideError, match=r"expected one picture, got 3 gray pages of 704 x 528 px"):
        open_slide(tmp_path / "a.qptiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A slide that loses nothing, and what it shows at level 0."""

    write: Callable[[Path], Path]
    rgb: Rgb = field(default_factory=lambda: LEVELS[0], repr=False)
    suffix: str = ".tif"


def _mrxs(path: Path) -> Path:
    return write_mrxs(path, RGB, camera=TISSUE_IN_ONE_CORNER, image_format="PNG").path


def _mrxs_canvas() -> Rgb:
    canvas = np.full((600, 850, 3), WHITE, np.uint8)
    for photo in ((4, 2), (5, 2), (5, 3)):
        box0 = TISSUE_IN_ONE_CORNER.box0(photo)
        seen = part(RGB, box0)
        canvas[box0.y : box0.y + seen.shape[0], box0.x : box0.x + seen.shape[1]] = seen
    return canvas


def _scn_canvas() -> Rgb:
    canvas = np.full((5000, 4000, 3), WHITE, np.uint8)
    canvas[SCANNED0.y : SCANNED0.y_end, SCANNED0.x : SCANNED0.x_end] = LEVELS[0]
    return canvas


def _philips_canvas() -> Rgb:
    bottom, right = -528 % TILE_PX.height, -704 % TILE_PX.width
    return np.pad(LEVELS[0], ((0, bottom), (0, right), (0, 0)), mode="edge")


FORMATS = {
    "aperio": Format(write=partial(tiff.write_svs, levels=LEVELS, coding=DEFLATE), suffix=".svs"),
    "aperio jpeg2000": Format(
        write=partial(tiff.write_svs, levels=LEVELS, coding=jpeg2000("rgb")), suffix=".svs"
    ),
    "generic": Format(write=partial(tiff.write_generic, levels=LEVELS, coding=LZW)),
    "big": Format(write=partial(tiff.write_generic, levels=LEVELS, coding=RAW, big=True)),
    "philips": Format(
        write=partial(tiff.write_philips, levels=LEVELS, coding=DEFLATE),
        suffix=".tiff",
        rgb=_philips_canvas(),
    ),
    "ome little": Format(
        write=partial(tiff.write_ome, levels=LEVELS, coding=DEFLATE, byteorder="<"),
        suffix=".ome.tif",
    ),
    "ome big": Format(
        write=partial(tiff.write_ome, levels=LEVELS, coding=DEFLATE, byteorder=">"),
        suffix=".ome.tif",
    ),
    "bif": Format(
        write=partial(bif.write_bif, rgb=RGB, coding=RAW, overlap_px=8), suffix=".bif", rgb=RGB
    ),
    "qptiff": Format(write=partial(tiff.write_qptiff, levels=LEVELS, coding=LZW), suffix=".qptiff"),
    "scn": Format(write=write_scn, suffix=".scn", rgb=_scn_canvas()),
    "mrxs": Format(write=_mrxs, suffix=".mrxs", rgb=_mrxs_canvas()),
    "dicom": Format(
        write=lambda path: dicom.write_dicom(path.with_suffix(""), LEVELS, transfer="none"),
        suffix=".dcm",
    ),
}
KNOWN_MPP = {"mrxs": mrxs_files.MPP, "bif": bif.MPP, "dicom": dicom.MPP, "scn": scn.NM / 1e3}
CONFIG = TileConfig(tile_size=100, overlap=0.2, tissue="none", min_tissue=0, codec="zstd")


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_stores_the_pixels_of_every_format(name: str, tmp_path: Path) -> None:
    slide = FORMATS[name]
    path = slide.write(tmp_path / f"slide{slide.suffix}")
    outcome = tile(tmp_path / "RUN", path, config=CONFIG)
    (record,) = outcome.records
    assert (record.status, record.reason) == ("done", None), record.reason
    rows = rows_of(tmp_path / "RUN", record.slide_id)
    assert len(rows) == record.tiles > 6
    for row, tile_rgb in zip(rows, stored(tmp_path / "RUN", record.slide_id), strict=True):
        assert row["status"] == "ok"
        np.testing.assert_array_equal(tile_rgb, padded(slide.rgb, row))


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_knows_the_resolution_and_the_backend_of_every_format(
    name: str, tmp_path: Path
) -> None:
    slide = FORMATS[name]
    path = slide.write(tmp_path / f"slide{slide.suffix}")
    config = CONFIG.model_copy(update={"mpp": 1.0, "store": "none"})
    (record,) = tile(tmp_path / "RUN", path, config=config).records
    assert record.status == "done", record.reason
    (row,) = slides_of(tmp_path / "RUN").values()
    known_mpp = KNOWN_MPP.get(name, tiff.MPP)
    assert row["mpp_x"] == pytest.approx(known_mpp)
    side0 = 100 * 1.0 / known_mpp
    assert all(
        each["width"] == pytest.approx(side0, rel=5e-3)
        for each in rows_of(tmp_path / "RUN", record.slide_id)
    )
