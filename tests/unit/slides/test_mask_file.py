from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.strategies import seeds, speckled
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Mask, Size
from wsi_pipeline.slides.mask_file import mask_path, read_mask

TISSUE = speckled(3, height=30, width=40)
CANVAS0 = Size(width=4000, height=3000)


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.tiff"])
@pytest.mark.parametrize("value", [1, 4, 255])
def test_a_mask_is_true_where_it_is_not_black(tmp_path: Path, name: str, value: int) -> None:
    path = save(tmp_path / name, TISSUE * np.uint8(value))
    assert np.array_equal(read_mask(path, canvas0=CANVAS0, max_side_px=4096), TISSUE)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "I;16"])
def test_a_mask_may_be_stored_in_any_mode(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(TISSUE * np.uint8(255))
    gray.convert(mode).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", canvas0=CANVAS0, max_side_px=4096)
    assert found.dtype == np.bool_
    assert np.array_equal(found, TISSUE)


def test_a_mask_in_any_colour_is_tissue(tmp_path: Path) -> None:
    rgb = np.zeros((30, 40, 3), np.uint8)
    rgb[:10, :, 0], rgb[10:20, :, 1], rgb[20:, :20, 2] = 200, 1, 255
    path = save(tmp_path / "m.png", rgb)
    found = read_mask(path, canvas0=CANVAS0, max_side_px=4096)
    assert np.array_equal(found, rgb.any(axis=2))


@given(seeds, st.integers(1, 50))
def test_a_large_mask_is_thinned_to_pixels_of_its_own_and_never_averaged(
    tmp_path_factory: pytest.TempPathFactory, seed: int, max_side_px: int
) -> None:
    tissue = speckled(seed, height=30, width=40)
    path = save(tmp_path_factory.getbasetemp() / "thinned.png", tissue * np.uint8(255))
    found = read_mask(path, canvas0=CANVAS0, max_side_px=max_side_px)
    step = -(-40 // max_side_px)
    assert max(found.shape) <= max_side_px
    assert np.array_equal(found, tissue[::step, ::step])


def test_of_a_mask_pyramid_the_finest_level_that_is_small_enough_is_read(tmp_path: Path) -> None:
    levels: list[Mask] = [speckled(side, height=side, width=side) for side in (128, 64, 32)]
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for number, level in enumerate(levels):
            writer.write(
                level * np.uint8(255),
                subifds=2 if number == 0 else 0,
                subfiletype=int(number > 0),
            )
    canvas0 = Size(width=1280, height=1280)
    for max_side_px, level in ((4096, levels[0]), (64, levels[1]), (63, levels[2])):
        found = read_mask(tmp_path / "m.tif", canvas0=canvas0, max_side_px=max_side_px)
        assert np.array_equal(found, level)


@pytest.mark.parametrize(("width", "height"), [(40, 31), (41, 30), (30, 40), (1, 1)])
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, width: int, height: int) -> None:
    path = save(tmp_path / "m.png", np.zeros((height, width), np.uint8))
    with pytest.raises(SlideError, match=rf"4000 x 3000 px .*got {width} x {height}"):
        read_mask(path, canvas0=CANVAS0, max_side_px=4096)


def test_a_mask_one_pixel_in_fifty_off_is_that_of_a_rounded_thumbnail(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.zeros((299, 400), np.uint8))
    assert read_mask(path, canvas0=CANVAS0, max_side_px=4096).shape == (299, 400)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"m.{ending}", content) for ending in ("png", "tif", "jpg") for content in (b"", b"no")),
        ("m.tif", b"II*\x00"),
        ("m.tif", b"II*\x00\x08\x00\x00\x00"),
        ("m.tif", b"II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
    ],
)
def test_a_mask_that_is_no_image_is_an_error_of_the_slide(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=f"mask {name}: cannot be read"):
        read_mask(tmp_path / name, canvas0=CANVAS0, max_side_px=4096)


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_a_mask_with_damaged_pixels_is_an_error_of_the_slide(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    tissue = speckled(0, height=300, width=400) * np.uint8(255)
    if name == "m.tif":
        tifffile.imwrite(path, tissue, compression="zlib")
        with tifffile.TiffFile(path) as tiff:
            offset, count = tiff.pages.first.dataoffsets[0], tiff.pages.first.databytecounts[0]
    else:
        save(path, tissue)
        offset, count = path.read_bytes().index(b"IDAT") + 4, 200
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = b"\xff" * count
    path.write_bytes(data)
    with pytest.raises(SlideError, match=f"mask {name}: cannot be read"):
        read_mask(path, canvas0=CANVAS0, max_side_px=4096)


def test_a_stack_of_planes_is_no_mask(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((7, 30, 40), np.uint8))
    with pytest.raises(SlideError, match="one plane"):
        read_mask(tmp_path / "m.tif", canvas0=CANVAS0, max_side_px=4096)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".jpg", ".jpeg", ".PNG", ".TIF"])
def test_a_slide_has_the_mask_with_its_name(tmp_path: Path, suffix: str) -> None:
    for name in ("case 7", "case 70"):
        (tmp_path / f"{name}{suffix}").touch()
    assert mask_path(tmp_path, "case 7") == tmp_path / f"case 7{suffix}"


def test_no_mask_and_two_masks_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"expected one file a\.png or \.tif in .*, got none"):
        mask_path(tmp_path, "a")
    (tmp_path / "a.png").touch()
    (tmp_path / "a.tif").touch()
    with pytest.raises(SlideError, match=r"got a\.png and a\.tif"):
        mask_path(tmp_path, "a")
    (tmp_path / "b.png").touch()
    (tmp_path / "b.PNG").touch()
    with pytest.raises(SlideError, match=r"got b\.png and b\.PNG"):
        mask_path(tmp_path, "b")


def test_a_disk_that_does_not_tell_capitals_apart_holds_one_mask(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.PNG").hardlink_to(tmp_path / "a.png")
    assert mask_path(tmp_path, "a") == tmp_path / "a.png"


def save(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    if path.suffix in {".tif", ".tiff"}:
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path
