"""Masks of classes: exact at any resolution, read in blocks, refused where they are no masks of the slide."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.pipeline.runs import REAL_SLIDES
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Boxes, Size
from wsi_pipeline.labels import masks
from wsi_pipeline.labels.masks import UnfitMaskError, check_shape, mask_shares

CANVAS = Size(width=640, height=480)
WHOLE = Box(x=0, y=0, width=640, height=480)
VALUES = {"stroma": (1,), "cancer": (2, 3)}


def picture(seed: int, width: int, height: int, *, top: int = 5) -> NDArray[np.uint8]:
    """Return patches of the values 0 to 4."""
    rng = np.random.default_rng([11, seed])
    small = rng.integers(0, top, (-(-height // 7), -(-width // 5)), dtype=np.uint8)
    return np.kron(small, np.ones((7, 5), dtype=np.uint8))[:height, :width]


def grid(side: int, stride: int) -> Boxes:
    places = [
        (x, y) for y in range(0, CANVAS.height, stride) for x in range(0, CANVAS.width, stride)
    ]
    return np.array([(x, y, side, side) for x, y in places], dtype=np.int32)


def write_tiff(path: Path, pixels: NDArray[Any], **given: object) -> Path:
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"tile": (64, 64), "compression": "deflate", "metadata": None}
        writer.write(pixels, **{**options, **given})
    return path


def found_in(path: Path, tiles: Boxes, **given: object) -> dict[str, NDArray[np.float32]]:
    asked: dict[str, Any] = {"frame0": WHOLE, "canvas0": CANVAS, "values": VALUES, "channel": None}
    return dict(mask_shares(path, tiles, **{**asked, **given}).shares)


def enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask with a pixel per level-0 pixel; its scale is a whole number."""
    down, across = CANVAS.height // pixels.shape[0], CANVAS.width // pixels.shape[1]
    return np.kron(pixels, np.ones((down, across), dtype=np.uint8))


def counted(whole: NDArray[np.uint8], tiles: Boxes, values: tuple[int, ...]) -> NDArray[np.float64]:
    shares = [
        np.isin(whole[y : y + height, x : x + width], values).sum() / (width * height)
        for x, y, width, height in tiles.tolist()
    ]
    return np.array(shares)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    scale=st.sampled_from([1, 2, 4, 8, 16, 32]),
    side=st.integers(17, 200),
    stride=st.integers(40, 200),
    kind=st.sampled_from(["tiles", "strips", "png"]),
)
def test_shares_are_those_of_counting_pixels(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    scale: int,
    side: int,
    stride: int,
    kind: str,
) -> None:
    pixels = picture(seed, CANVAS.width // scale, CANVAS.height // scale)
    folder = tmp_path_factory.mktemp("mask")
    path = folder / ("m.png" if kind == "png" else "m.tif")
    if kind == "png":
        Image.fromarray(pixels).save(path)
    else:
        write_tiff(path, pixels, **({} if kind == "tiles" else {"tile": None, "rowsperstrip": 11}))
    tiles = grid(side, stride)
    found = found_in(path, tiles)
    for name, values in VALUES.items():
        expected = counted(enlarged(pixels), tiles, values)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_the_finest_level_is_read_and_absent_tiles_are_nothing(tmp_path: Path) -> None:
    fine = np.zeros((480, 640), dtype=np.uint8)
    fine[:100, :100] = 1
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(fine, tile=(64, 64), compression="lzw", metadata=None)
        writer.write(fine[::2, ::2] * 0 + 2, tile=(64, 64), subfiletype=1, metadata=None)
    tiles = np.array([[0, 0, 100, 200]], dtype=np.int32)
    assert {name: float(each[0]) for name, each in found_in(path, tiles).items()} == {
        "stroma": 0.5,
        "cancer": 0.0,
    }


def test_a_mask_of_the_scanned_part_is_laid_over_it(tmp_path: Path) -> None:
    Image.fromarray(np.ones((10, 20), dtype=np.uint8)).save(tmp_path / "m.png")
    frame0 = Box(x=100, y=50, width=200, height=100)
    tiles = np.array([[0, 0, 200, 100], [100, 50, 200, 100]], dtype=np.int32)
    found = found_in(tmp_path / "m.png", tiles, frame0=frame0)
    assert found["stroma"].tolist() == [0.25, 1.0]


def red_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask as PANDA has it: values in red, nothing in green and blue."""
    return np.stack([pixels, pixels * 0, pixels * 0], axis=2)


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([pixels] * 3, axis=2)


def with_alpha(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([grey(pixels), np.full_like(pixels, 255)])


@pytest.mark.parametrize("shape", [red_only, grey, with_alpha])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_first_channel_is_taken_where_the_others_say_nothing(
    tmp_path: Path, shape: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], ending: str
) -> None:
    pixels = picture(1, 160, 120)
    path = tmp_path / f"m{ending}"
    if ending == ".png":
        Image.fromarray(shape(pixels)).save(path)
    else:
        write_tiff(path, shape(pixels), photometric="rgb")
    tiles = grid(100, 90)
    expected = counted(enlarged(pixels), tiles, (2, 3))
    np.testing.assert_allclose(found_in(path, tiles)["cancer"], expected, atol=1e-6)


def test_colours_are_refused_until_a_channel_is_named(tmp_path: Path) -> None:
    pixels = np.stack([picture(1, 160, 120), picture(2, 160, 120), picture(3, 160, 120)], axis=2)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    tiles = grid(100, 90)
    with pytest.raises(SlideError, match=r"mask m.png: expected one number a pixel, got colours"):
        found_in(tmp_path / "m.png", tiles)
    found = found_in(tmp_path / "m.png", tiles, channel=1)
    expected = counted(enlarged(pixels[..., 1]), tiles, (1,))
    np.testing.assert_allclose(found["stroma"], expected, atol=1e-6)
    with pytest.raises(SlideError, match="mask_channel: expected 0 to 2, got 3"):
        found_in(tmp_path / "m.png", tiles, channel=3)


def test_a_palette_gives_its_numbers(tmp_path: Path) -> None:
    pixels = picture(4, 160, 120)
    image = Image.fromarray(pixels, mode="L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 7, 7, 7])
    image.putdata(pixels.ravel().tolist())
    image.save(tmp_path / "m.png")
    tiles = grid(100, 90)
    expected = counted(enlarged(pixels), tiles, (1,))
    np.testing.assert_allclose(found_in(tmp_path / "m.png", tiles)["stroma"], expected, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pictures_of_few_bits_give_the_values_that_were_written(tmp_path: Path, bits: int) -> None:
    top = min(4, 2**bits)
    pixels = picture(5, 160, 120, top=top)
    write_png_of_bits(tmp_path / "m.png", pixels, bits)
    found = mask_shares(
        tmp_path / "m.png", grid(100, 90), frame0=WHOLE, canvas0=CANVAS, values=VALUES, channel=None
    )
    values, counts = np.unique(pixels, return_counts=True)
    assert found.pixels == dict(zip(values.tolist(), counts.tolist(), strict=True))


def write_png_of_bits(path: Path, pixels: NDArray[np.uint8], bits: int) -> None:
    """Write a gray PNG of so many bits a pixel, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape
    each = np.unpackbits(pixels[..., None], axis=2)[..., 8 - bits :]  # (height, width, bits)
    rows = np.packbits(each.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int8, np.bool_])
def test_every_kind_of_whole_numbers_is_read(tmp_path: Path, dtype: type[np.generic]) -> None:
    pixels = picture(6, 160, 120, top=2)
    write_tiff(tmp_path / "m.tif", pixels.astype(dtype))
    tiles = grid(100, 90)
    expected = counted(enlarged(pixels), tiles, (1,))
    np.testing.assert_allclose(found_in(tmp_path / "m.tif", tiles)["stroma"], expected, atol=1e-6)


@given(
    width=st.integers(1000, 100_000),
    height=st.integers(1000, 100_000),
    scale=st.floats(0.5, 200),
    rounding=st.sampled_from([np.floor, np.ceil, np.round]),
)
def test_a_mask_of_any_scale_and_rounding_has_the_shape_of_its_slide(
    width: int, height: int, scale: float, rounding: Callable[[float], float]
) -> None:
    size_px = Size(
        width=max(1, int(rounding(width / scale))), height=max(1, int(rounding(height / scale)))
    )
    check_shape(size_px, Box(x=0, y=0, width=width, height=height))


@pytest.mark.parametrize("size", [(480, 640), (640, 470), (160, 123), (320, 120)])
def test_a_mask_of_another_shape_is_refused_with_both(size: tuple[int, int]) -> None:
    size_px = Size(width=size[0], height=size[1])
    with pytest.raises(
        UnfitMaskError, match=rf"640 x 480 px, at any scale, got {size[0]} x {size[1]} px"
    ):
        check_shape(size_px, WHOLE)


def test_lossy_broken_and_unfit_files_are_refused(tmp_path: Path) -> None:
    gray = picture(7, 160, 120)
    tiles = grid(100, 90)
    files = {
        "jpeg.tif": "which changes them",
        "float.tif": "expected whole numbers, got float32",
        "stack.tif": "expected one plane",
        "text.tif": "cannot be read",
        "text.png": "cannot be read",
        "cut.png": "cannot be read",
        "cut.tif": "cannot be read",
    }
    write_tiff(tmp_path / "jpeg.tif", gray, compression="jpeg")
    write_tiff(tmp_path / "float.tif", gray.astype(np.float32))
    write_tiff(
        tmp_path / "stack.tif",
        np.stack([gray] * 5),
        photometric="minisblack",
        volumetric=True,
        tile=(1, 64, 64),
    )
    (tmp_path / "text.tif").write_text("no mask")
    (tmp_path / "text.png").write_text("no mask")
    Image.fromarray(gray).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-60])
    whole = write_tiff(tmp_path / "whole.tif", gray).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    for name, message in files.items():
        with pytest.raises(SlideError, match=rf"mask {name}: .*{message}"):
            found_in(tmp_path / name, tiles)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_what_cannot_be_read_in_blocks_is_refused_when_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(masks, "MOST_BLOCK_PX", 5000)
    gray = picture(8, 160, 120)
    path = tmp_path / f"m{ending}"
    if ending == ".png":
        Image.fromarray(gray).save(path)
    else:
        write_tiff(path, gray, tile=None, rowsperstrip=120)
    with pytest.raises(SlideError, match="tiled TIFF"):
        found_in(path, grid(100, 90))
    write_tiff(tmp_path / "tiled.tif", gray)
    assert found_in(tmp_path / "tiled.tif", grid(100, 90)).keys() == VALUES.keys()


def test_no_tiles_are_no_trouble(tmp_path: Path) -> None:
    Image.fromarray(picture(9, 160, 120)).save(tmp_path / "m.png")
    found = found_in(tmp_path / "m.png", np.empty((0, 4), dtype=np.int32))
    assert {name: len(each) for name, each in found.items()} == {"stroma": 0, "cancer": 0}


@pytest.mark.skipif(
    not REAL_SLIDES.exists(), reason="the real slides are not beside this repository"
)
def test_a_real_mask_is_counted_as_it_is() -> None:
    path = REAL_SLIDES / "label_mask_pyramid.tif"
    whole = tifffile.imread(path)
    canvas = Size(width=3072 * 4, height=3968 * 4)  # of a slide four times as fine
    places = [(x, y) for y in range(0, canvas.height, 819) for x in range(0, canvas.width, 819)]
    tiles = np.array([(x, y, 1024, 1024) for x, y in places], dtype=np.int32)
    values = {str(value): (value,) for value in range(1, 5)}
    found = mask_shares(
        path,
        tiles,
        frame0=Box(x=0, y=0, width=canvas.width, height=canvas.height),
        canvas0=canvas,
        values=values,
        channel=None,
    )
    assert found.pixels == {0: 9356448, 1: 1871758, 2: 517992, 3: 283011, 4: 160487}
    for number, (x, y, _, _) in enumerate(tiles.tolist()):
        if x % 4 == 0 and y % 4 == 0:
            part = whole[y // 4 : y // 4 + 256, x // 4 : x // 4 + 256]
            for name, wanted in values.items():
                assert found.shares[name][number] == pytest.approx(
                    np.isin(part, wanted).sum() / 256**2, abs=1e-6
                )
