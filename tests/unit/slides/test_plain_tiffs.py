"""TIFF pictures of every kind of pixels: in their true colours, or refused; never another picture."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.writers.codings import to_ycbcr
from tests.writers.pixels import tissue
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import WHITE, Box, Rgb
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.reader import SlideInfo
from wsi_pipeline.slides.window_level import to_eight_bits, window_of

Write: TypeAlias = Callable[[Path], object]

PIXELS = tissue(200, 120)
GRAY = np.ascontiguousarray(PIXELS[..., 1])
DEEP = GRAY.astype(np.uint16) * 100


def by_tifffile(pixels: NDArray[Any], **tags: object) -> Write:
    arguments: dict[str, Any] = tags
    return lambda path: tifffile.imwrite(path, pixels, metadata=None, **arguments)


def by_pillow(mode: str) -> Write:
    return lambda path: Image.fromarray(PIXELS).convert(mode).save(path, format="TIFF")


def as_rgb(gray: NDArray[np.uint8]) -> Rgb:
    return np.dstack([gray, gray, gray])


KINDS: dict[str, tuple[Write, Rgb]] = {
    "planes apart": (
        by_tifffile(np.moveaxis(PIXELS, 2, 0), photometric="rgb", planarconfig="separate"),
        PIXELS,
    ),
    "Y, Cb, Cr": (
        by_tifffile(to_ycbcr(PIXELS), photometric="ycbcr", subsampling=(1, 1)),
        PIXELS,
    ),
    "CMYK": (by_pillow("CMYK"), PIXELS),
    "a palette": (by_pillow("P"), np.asarray(Image.fromarray(PIXELS).convert("P").convert("RGB"))),
    "one bit": (
        by_pillow("1"),
        as_rgb(np.asarray(Image.fromarray(PIXELS).convert("1").convert("L"))),
    ),
    "gray": (by_tifffile(GRAY), as_rgb(GRAY)),
    "gray, 0 is white": (by_tifffile(GRAY, photometric="miniswhite"), as_rgb(WHITE - GRAY)),
    "gray of 16 bits": (by_tifffile(DEEP), as_rgb(to_eight_bits(DEEP, window_of(DEEP)))),
    "gray of 16 bits, 0 is white": (
        by_tifffile(DEEP, photometric="miniswhite"),
        as_rgb(to_eight_bits(DEEP, window_of(DEEP), inverted=True)),
    ),
    "gray and alpha": (
        by_tifffile(np.dstack([GRAY, np.full_like(GRAY, WHITE)]), extrasamples=["unassalpha"]),
        as_rgb(GRAY),
    ),
}


def read(path: Path) -> tuple[SlideInfo, Rgb]:
    with closing(open_slide(path)) as reader:
        return reader.info, reader.read(0, Box(x=0, y=0, width=200, height=120))


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_shown_in_its_colours(kind: str, tmp_path: Path) -> None:
    write, expected = KINDS[kind]
    write(tmp_path / "a.tif")
    info, rgb = read(tmp_path / "a.tif")
    assert len(info.levels) == 1
    assert np.abs(rgb.astype(int) - expected).max() <= (2 if kind == "Y, Cb, Cr" else 0)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("planes apart", "a TIFF of uint8 with axes SYX (3, 120, 200), decoded whole"),
        ("CMYK", "a TIFF of 4 samples of SEPARATED a pixel, decoded whole"),
    ],
)
def test_what_is_decoded_whole_says_why(kind: str, said: str, tmp_path: Path) -> None:
    KINDS[kind][0](tmp_path / "a.tif")
    info, _ = read(tmp_path / "a.tif")
    assert (info.backend, info.backend_reason) == ("flat", said)


def test_colours_deeper_than_8_bits_are_refused_with_what_to_do(tmp_path: Path) -> None:
    by_tifffile(PIXELS.astype(np.uint16) * 257, photometric="rgb")(tmp_path / "a.tif")
    with pytest.raises(
        SlideError, match=r"got uint16 with axes YXS .*export the picture as 8-bit RGB"
    ):
        open_slide(tmp_path / "a.tif")


def test_a_stack_of_pictures_is_refused_with_what_to_do(tmp_path: Path) -> None:
    by_tifffile(np.stack([GRAY, GRAY]), photometric="minisblack")(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"got uint8 with axes .*export the picture as 8-bit RGB"):
        open_slide(tmp_path / "a.tif")


def test_an_ome_tiff_with_its_colours_in_planes_is_left_to_openslide_which_says_so(
    tmp_path: Path,
) -> None:
    planes, path = np.moveaxis(PIXELS, 2, 0), tmp_path / "a.ome.tif"
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate", "tile": (64, 64)}
    tifffile.imwrite(path, planes, metadata={"axes": "SYX", "PhysicalSizeX": 0.5}, **options)
    info, rgb = read(path)
    assert info.backend == "openslide"
    assert "an OME-TIFF of uint8 with axes SYX" in info.backend_reason
    np.testing.assert_array_equal(rgb, PIXELS)


def test_an_ome_tiff_of_deep_gray_is_shown_through_its_window(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, DEEP, metadata={"axes": "YX"}, tile=(64, 64))
    info, rgb = read(path)
    assert "deeper than 8 bits" in info.backend_reason
    np.testing.assert_array_equal(rgb[..., 0], to_eight_bits(DEEP, window_of(DEEP)))


def test_channels_of_an_ome_tiff_are_never_taken_for_one_picture(tmp_path: Path) -> None:
    channels = np.stack([GRAY, GRAY // 2, GRAY // 3])
    tifffile.imwrite(tmp_path / "a.ome.tif", channels, metadata={"axes": "CYX"}, tile=(64, 64))
    with pytest.raises(SlideError, match=r"axes CYX \(3, 120, 200\); export the picture"):
        open_slide(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("left", [0.5, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_cut_off_is_an_error(kind: str, left: float, tmp_path: Path) -> None:
    KINDS[kind][0](tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(len(data) * left)])
    with pytest.raises(SlideError):
        read(tmp_path / "a.tif")


def test_damaged_pixels_of_a_picture_that_is_decoded_whole_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    by_tifffile(GRAY, photometric="miniswhite", compression="zlib")(path)
    with tifffile.TiffFile(path) as tiff:
        at, count = tiff.pages.first.dataoffsets[0], tiff.pages.first.databytecounts[0]
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(bytes(count))
    with pytest.raises(SlideError, match="cannot be decoded"):
        read(path)
