import gc
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.strategies import noise
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides import flat_backend
from wsi_pipeline.slides.flat_backend import open_picture

PIXELS = noise(1, height=30, width=40)
WHOLE = Box(x=0, y=0, width=40, height=30)


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_a_picture_without_loss_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name)
    assert np.array_equal(read(tmp_path / name), PIXELS)


def test_a_flat_picture_has_one_level_and_no_um_per_px(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", dpi=(72, 72))
    info = open_picture(tmp_path / "a.png", reason="it begins as PNG").info
    assert len(info.levels) == 1
    assert info.bounds0 == WHOLE
    assert info.mpp is None
    assert info.mpp_note == "flat pictures do not say"
    assert (info.backend, info.format, info.channels) == ("flat", "png", 3)


def test_gray_becomes_three_equal_channels_and_is_known_as_one(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), np.repeat(PIXELS[..., :1], 3, axis=2))
    assert open_picture(tmp_path / "a.png", reason="").info.channels == 1


def test_a_palette_is_read_as_its_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS).quantize(16)
    palette.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), np.asarray(palette.convert("RGB")))


def test_what_is_transparent_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([PIXELS, np.full((30, 40), 255, np.uint8)])
    rgba[:10, :, 3], rgba[10:20, :, 3] = 0, 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert (found[:10] == 255).all()
    assert np.abs(found[10:20] - (PIXELS[10:20] * (128 / 255) + 127)).max() <= 1
    assert np.array_equal(found[20:], PIXELS[20:])


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    found = read(tmp_path / "a.png", Box(x=0, y=0, width=4, height=2))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 1].tolist() == [200, 10, 10]


def test_floating_point_pixels_are_refused_with_what_to_do(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"expected gray or RGB .* got mode F; export it so"):
        open_picture(tmp_path / "a.tif", reason="")
    gc.collect()  # an unclosed file would warn here, and warnings are errors


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_picture_that_is_cut_off_is_an_error_and_never_gray(
    tmp_path: Path, name: str, share: float
) -> None:
    whole = tmp_path / f"whole_{name}"
    Image.fromarray(noise(2, height=200, width=200)).save(whole)
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match="cut off"):
        read(tmp_path / name)


def test_a_picture_too_large_to_decode_whole_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr(flat_backend, "MAX_PX", 40 * 30)
    assert read(tmp_path / "a.png").shape == (30, 40, 3)
    monkeypatch.setattr(flat_backend, "MAX_PX", 40 * 30 - 1)
    with pytest.raises(SlideError, match=r"40 x 30 px .*convert it to a tiled TIFF"):
        open_picture(tmp_path / "a.png", reason="")
    gc.collect()


@pytest.mark.parametrize("side", [10_000, 14_000, 1 << 14])
def test_a_picture_up_to_the_limit_is_opened_without_a_warning(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    assert open_picture(tmp_path / "a.png", reason="").info.size0.width == side


@pytest.mark.parametrize("side", [(1 << 14) + 1, 1 << 20])
def test_a_picture_beyond_the_limit_is_told_to_become_a_tiled_tiff(
    tmp_path: Path, side: int
) -> None:
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    with pytest.raises(SlideError, match="convert it to a tiled TIFF"):
        open_picture(tmp_path / "a.png", reason="")


@pytest.mark.parametrize("size_bytes", [500, 1_700_000])
def test_a_colour_profile_of_any_size_is_kept_and_not_applied(
    tmp_path: Path, size_bytes: int
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=bytes(size_bytes))
    assert open_picture(tmp_path / "a.png", reason="").info.icc_profile == bytes(size_bytes)
    assert np.array_equal(read(tmp_path / "a.png"), PIXELS)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    with pytest.raises(SlideError, match="not a picture that can be opened"):
        open_picture(tmp_path / "a.png", reason="")


def read(path: Path, window: Box = WHOLE) -> Rgb:
    reader = open_picture(path, reason="")
    width, height = reader.info.size0.width, reader.info.size0.height
    if window is WHOLE:
        window = Box(x=0, y=0, width=width, height=height)
    return reader.read(0, window)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that says how large it is and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
