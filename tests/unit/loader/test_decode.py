"""Stored bytes into images: the same pixels as elsewhere, at the size asked for, or an error."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.loader.decode import Decoding, check_codec, decode_into
from wsi_pipeline.slides.drawn import draw_slide
from wsi_pipeline.store.codec import decode_tile, encode_tile

SIZE = 128


@pytest.fixture(scope="module")
def rgb() -> Rgb:
    return draw_slide(Size(width=SIZE, height=SIZE), seed=3).rgb


def decoded(data: bytes, codec: str, decoding: Decoding, *, tile_size: int = SIZE) -> Rgb:
    side = decoding.side_px(tile_size)
    out = np.full((side, side, 3), 7, np.uint8)
    decode_into(out, data, codec, decoding=decoding, tile_size=tile_size)
    return out


@pytest.mark.parametrize("codec", ["jpeg:90", "webp:90", "jpegxl", "zstd"])
def test_an_image_is_what_the_store_gives(codec: str, rgb: Rgb) -> None:
    data = encode_tile(rgb, codec)
    whole = decode_tile(data, codec, tile_size=SIZE)
    assert np.array_equal(decoded(data, codec, Decoding()), whole)
    small = cv2.resize(whole, (50, 50), interpolation=cv2.INTER_AREA)
    assert np.array_equal(decoded(data, codec, Decoding(image_px=50)), small)


@pytest.mark.parametrize("shrink", [2, 4])
def test_a_jpeg_decoded_smaller_is_about_the_mean_of_its_pixels(shrink: int, rgb: Rgb) -> None:
    data = encode_tile(rgb, "jpeg:90")
    side = SIZE // shrink
    image = decoded(data, "jpeg:90", Decoding(shrink=shrink))  # type: ignore[arg-type]
    assert image.shape == (side, side, 3)
    mean = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - mean).mean() < 12
    smaller = decoded(data, "jpeg:90", Decoding(shrink=shrink, image_px=20))  # type: ignore[arg-type]
    assert np.array_equal(smaller, cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("decoding", "said"),
    [
        (Decoding(image_px=129), "image_px: expected at most 128"),
        (Decoding(image_px=65, shrink=2), "image_px: expected at most 64"),
    ],
)
def test_nothing_is_enlarged(decoding: Decoding, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        decoding.side_px(SIZE)


def test_a_size_that_does_not_divide_and_a_codec_that_cannot_are_refused() -> None:
    with pytest.raises(ConfigError, match="shrink: expected a divisor of the tiles' 126 px"):
        Decoding(shrink=4).side_px(126)
    with pytest.raises(ConfigError, match="shrink: expected JPEG tiles, got zstd"):
        check_codec("zstd", Decoding(shrink=2))


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "nothing": lambda data: data[:0],
    "zeros": lambda data: bytes(len(data)),
    "a hole": lambda data: data[:700] + bytes(400) + data[1100:],
    "no end": lambda data: data[:-2],
}


@pytest.mark.parametrize("image_px", [None, 40])
@pytest.mark.parametrize("name", SPOILT)
def test_damaged_bytes_are_an_error_and_no_image(name: str, image_px: int | None, rgb: Rgb) -> None:
    data = SPOILT[name](encode_tile(rgb, "jpeg:90"))
    with pytest.raises(TileError, match="no whole JPEG of 128 px"):
        decoded(data, "jpeg:90", Decoding(image_px=image_px))


@pytest.mark.parametrize("side", [64, 120, 136, 256])
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(image_px=40), Decoding(shrink=2)])
def test_a_jpeg_of_another_size_is_an_error(side: int, decoding: Decoding) -> None:
    data = encode_tile(np.full((side, side, 3), 200, np.uint8), "jpeg:90")
    with pytest.raises(TileError, match=r"expected|no whole JPEG"):
        decoded(data, "jpeg:90", decoding)
