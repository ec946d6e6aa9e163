import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.strategies import noise
from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.tiff_backend import TiffReader, open_tiff

PIXELS = noise(1, height=100, width=140)
Opened: TypeAlias = Callable[[Path], TiffReader]
"""Opens a file and has it closed after the test."""

WHOLE = Box(x=0, y=0, width=140, height=100)
WINDOWS = (WHOLE, Box(x=31, y=17, width=50, height=40), Box(x=139, y=99, width=1, height=1))
OME = {
    "axes": "YXS",
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeYUnit": "µm",
}


@pytest.fixture
def opened() -> Iterator[Opened]:
    with ExitStack() as readers:

        def open_one(path: Path) -> TiffReader:
            return readers.enter_context(closing(open_tiff(path, reason="")))

        yield open_one


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"rowsperstrip": 16},
        {"tile": (32, 48)},
        {"tile": (32, 32), "compression": "zlib"},
        {"rowsperstrip": 7, "compression": "lzw"},
        {"tile": (32, 32), "compression": "zlib", "predictor": True},
        {"byteorder": ">", "tile": (16, 16)},
        {"bigtiff": True, "rowsperstrip": 10},
    ],
    ids=str,
)
def test_rgb_is_read_as_it_is_whatever_the_layout(
    tmp_path: Path, opened: Opened, layout: dict[str, Any]
) -> None:
    path = write(tmp_path, PIXELS, photometric="rgb", **layout)
    assert_pixels(opened(path), PIXELS)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (32, 48)}], ids=str)
def test_gray_becomes_three_equal_channels_and_is_known_as_one(
    tmp_path: Path, opened: Opened, layout: dict[str, Any]
) -> None:
    path = write(tmp_path, PIXELS[..., 0], photometric="minisblack", **layout)
    assert_pixels(opened(path), np.repeat(PIXELS[..., :1], 3, axis=2))
    assert opened(path).info.channels == 1


def test_what_is_transparent_is_white(tmp_path: Path, opened: Opened) -> None:
    rgba = np.dstack([PIXELS, np.full((100, 140), 255, np.uint8)])
    rgba[:50, :, 3] = 0
    path = write(tmp_path, rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(32, 32))
    assert_pixels(opened(path), np.vstack([np.full((50, 140, 3), 255, np.uint8), PIXELS[50:]]))


def test_jpeg_tiles_are_read_near_to_what_was_written(tmp_path: Path, opened: Opened) -> None:
    smooth = np.repeat(np.repeat(PIXELS[::20, ::20], 20, axis=0), 20, axis=1)
    path = write(tmp_path, smooth, photometric="rgb", tile=(32, 32), compression="jpeg")
    found = opened(path).read(0, WHOLE)
    assert np.abs(found.astype(int) - smooth).mean() < 20


def test_an_ome_tiff_states_um_per_px_of_both_axes(tmp_path: Path, opened: Opened) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS, photometric="rgb", metadata=OME)
    info = opened(tmp_path / "a.ome.tif").info
    assert (info.mpp_x, info.mpp_y, info.format) == (0.25, 0.5, "ome-tiff")


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("µm", 0.25), ("μm", 0.25), ("nm", None), ("mm", None), ("pixel", None)],
)
def test_um_per_px_of_ome_are_taken_in_their_unit_and_only_where_plausible(
    tmp_path: Path, opened: Opened, unit: str, expected: float | None
) -> None:
    metadata = OME | {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS, photometric="rgb", metadata=metadata)
    assert opened(tmp_path / "a.ome.tif").info.mpp_x == expected


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("CENTIMETER", 20_000, 0.5),
        ("INCH", 50_800, 0.5),
        ("INCH", 72, None),  # the screen's
        ("NONE", 20_000, None),
    ],
)
def test_resolution_tags_are_um_per_px_where_they_state_a_length(
    tmp_path: Path, opened: Opened, unit: str, per_unit: float, expected: float | None
) -> None:
    path = write(
        tmp_path, PIXELS, photometric="rgb", resolution=(per_unit, per_unit), resolutionunit=unit
    )
    assert opened(path).info.mpp_x == (None if expected is None else pytest.approx(expected))


def test_an_aperio_slide_that_openslide_refuses_keeps_its_um_per_px(tmp_path: Path) -> None:
    about = "Aperio Image Library v12.0.15\r\n140x100 (32x32) Q=80|AppMag = 20|MPP = 0.4990"
    options: dict[str, Any] = {"photometric": "rgb", "tile": (32, 32), "compression": "lzma"}
    path = write(tmp_path, PIXELS, description=about, **options)
    with closing(open_slide(path)) as reader:
        assert (reader.info.backend, reader.info.mpp) == ("tifffile", 0.499)
        assert "OpenSlide knows it as aperio and cannot open it" in reader.info.backend_reason
        assert np.array_equal(reader.read(0, WHOLE), PIXELS)


def test_levels_in_sub_ifds_are_levels(tmp_path: Path, opened: Opened) -> None:
    small = np.ascontiguousarray(PIXELS[::2, ::2])
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        options: dict[str, Any] = {"photometric": "rgb", "tile": (32, 32)}
        writer.write(PIXELS, subifds=1, metadata=OME, **options)
        writer.write(small, subfiletype=1, **options)
    reader = opened(path)
    assert [at.downsample for at in reader.info.levels] == [1.0, 2.0]
    assert np.array_equal(reader.read(1, Box(x=0, y=0, width=70, height=50)), small)


def test_a_tile_that_the_file_leaves_out_is_white(tmp_path: Path, opened: Opened) -> None:
    path = write(tmp_path, PIXELS, photometric="rgb", tile=(32, 32))
    patch_first(path, "TileByteCounts", index=6, value=0)  # second row, second column
    expected = PIXELS.copy()
    expected[32:64, 32:64] = 255
    assert_pixels(opened(path), expected)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.zeros((40, 40, 3), np.uint16), {"photometric": "rgb"}),
        (np.zeros((40, 40), np.float32), {"photometric": "minisblack"}),
        (np.zeros((3, 40, 40), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}),
        (np.zeros((9, 40, 40), np.uint8), {"photometric": "minisblack"}),
        (np.zeros((40, 40), np.uint8), {"photometric": "miniswhite"}),
        (
            np.zeros((40, 40), np.uint8),
            {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
        ),
    ],
    ids=["16 bit", "float", "planes", "stack", "inverted", "palette"],
)
def test_what_is_no_8_bit_picture_of_one_plane_is_refused_and_closed(
    tmp_path: Path, opened: Opened, pixels: NDArray[Any], options: dict[str, Any]
) -> None:
    path = write(tmp_path, pixels, **options)
    with pytest.raises(SlideError, match="expected 8-bit RGB or gray in one plane, got"):
        opened(path)
    gc.collect()  # an unclosed file would warn here, and warnings are errors


@pytest.mark.parametrize("size_bytes", [4, 8, 50])
def test_a_file_that_is_cut_in_its_header_is_an_error_of_the_slide(
    tmp_path: Path, opened: Opened, size_bytes: int
) -> None:
    path = write(tmp_path, PIXELS, photometric="rgb")
    path.write_bytes(path.read_bytes()[:size_bytes])
    with pytest.raises(SlideError, match=r"tifffile cannot open it|cut off"):
        opened(path)
    gc.collect()


@pytest.mark.parametrize("layout", [{"rowsperstrip": 10}, {"tile": (32, 32)}], ids=str)
def test_a_file_that_is_cut_in_its_pixels_is_refused_with_what_to_do(
    tmp_path: Path, opened: Opened, layout: dict[str, Any]
) -> None:
    path = write(tmp_path, PIXELS, photometric="rgb", **layout)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SlideError, match=r"cut off: .*copy it again"):
        opened(path)
    gc.collect()


@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_a_tile_whose_end_is_missing_is_an_error_and_the_others_are_read(
    tmp_path: Path, opened: Opened, compression: str
) -> None:
    path = write(tmp_path, PIXELS, photometric="rgb", tile=(32, 32), compression=compression)
    whole = opened(path).read(0, WHOLE)
    with tifffile.TiffFile(path) as tiff:
        count = tiff.pages.first.databytecounts[6]
    patch_first(path, "TileByteCounts", index=6, value=count * 2 // 3)
    reader = opened(path)
    for window in (WHOLE, Box(x=63, y=63, width=1, height=1), Box(x=32, y=32, width=9, height=9)):
        with pytest.raises(TileError):
            reader.read(0, window)
    above = Box(x=0, y=0, width=140, height=32)
    assert np.array_equal(reader.read(0, above), whole[:32])


def write(folder: Path, pixels: NDArray[Any], **options: Any) -> Path:  # noqa: ANN401
    """Write a TIFF without the description that tifffile would recognise as its own."""
    own = {name: options.pop(name) for name in ("byteorder", "bigtiff") if name in options}
    with tifffile.TiffWriter(folder / "a.tif", **own) as writer:
        writer.write(pixels, metadata=None, **options)
    return folder / "a.tif"


def patch_first(path: Path, tag: str, *, index: int, value: int) -> None:
    """Overwrite one number of a list in the first page."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        entry = tiff.pages.first.tags[tag]
        numbers = list(entry.value)
        numbers[index] = value
        entry.overwrite(numbers)


def assert_pixels(reader: TiffReader, expected: Rgb) -> None:
    for window in WINDOWS:
        wanted = expected[window.y : window.y_end, window.x : window.x_end]
        assert np.array_equal(reader.read(0, window), wanted)
