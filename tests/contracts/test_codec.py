"""What every codec does; a new one is one more line in ``CODECS``."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tests.strategies import noise, seeds, smooth
from wsi_pipeline import config
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.store.codec import decode_tile, encode_tile, parse_codec

LOSSLESS = ("zstd", "jpegxl")
LOSSY = ("jpeg:90", "webp:90", "jpeg:50", "jpeg:100")
CODECS = (*LOSSLESS, *LOSSY)

sides = st.integers(1, 70)
tiles = sides.flatmap(
    lambda side: arrays.arrays(np.uint8, (side, side, 3), elements=st.integers(0, 255))
)


def test_every_codec_of_the_configuration_is_tested_here() -> None:
    assert {parse_codec(codec)[0] for codec in CODECS} == config.CODECS.keys()


@pytest.mark.parametrize("codec", LOSSLESS)
@given(rgb=tiles)
def test_without_loss_a_tile_comes_back_as_it_was(codec: str, rgb: Rgb) -> None:
    assert np.array_equal(roundtrip(rgb, codec), rgb)


@pytest.mark.parametrize("codec", LOSSY)
@given(seed=seeds)
def test_with_loss_a_smooth_tile_comes_back_nearly_as_it_was(codec: str, seed: int) -> None:
    rgb = smooth(seed, side=64)
    found = roundtrip(rgb, codec).astype(int)
    assert np.abs(found - rgb).mean() < 3
    assert np.abs(found.mean(axis=(0, 1)) - rgb.mean(axis=(0, 1))).max() < 1.5


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize(
    "colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]
)
def test_with_loss_colours_are_not_swapped(codec: str, colour: tuple[int, int, int]) -> None:
    rgb = np.full((32, 32, 3), colour, np.uint8)
    assert np.abs(roundtrip(rgb, codec).astype(int) - colour).max() <= 4


@pytest.mark.parametrize("codec", CODECS)
@given(rgb=tiles)
def test_the_same_pixels_give_the_same_bytes(codec: str, rgb: Rgb) -> None:
    data = encode_tile(rgb, codec)
    assert isinstance(data, bytes)
    assert encode_tile(rgb.copy(), codec) == data
    assert encode_tile(np.ascontiguousarray(rgb), codec) == data


@pytest.mark.parametrize("codec", CODECS)
@given(seed=seeds, side=sides)
def test_a_tile_is_uint8_of_its_side(codec: str, seed: int, side: int) -> None:
    found = roundtrip(noise(seed, height=side, width=side), codec)
    assert found.shape == (side, side, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("codec", CODECS)
@given(seed=seeds, share=st.floats(0, 1, exclude_max=True))
def test_a_tile_whose_end_is_missing_is_an_error(codec: str, seed: int, share: float) -> None:
    data = encode_tile(noise(seed, height=24, width=24), codec)
    with pytest.raises(TileError, match=codec.partition(":")[0]):
        decode_tile(data[: int(share * len(data))], codec, tile_size=24)


@pytest.mark.parametrize("codec", CODECS)
def test_a_tile_without_its_last_byte_is_an_error(codec: str) -> None:
    data = encode_tile(noise(0, height=24, width=24), codec)
    with pytest.raises(TileError):
        decode_tile(data[:-1], codec, tile_size=24)


@pytest.mark.parametrize("codec", CODECS)
@given(seed=seeds, flip=st.integers(1, 255))
def test_a_tile_whose_first_byte_is_wrong_is_an_error(codec: str, seed: int, flip: int) -> None:
    data = bytearray(encode_tile(noise(seed, height=24, width=24), codec))
    data[0] ^= flip
    with pytest.raises(TileError):
        decode_tile(bytes(data), codec, tile_size=24)


@pytest.mark.parametrize("codec", CODECS)
@given(seed=seeds, place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_damage_anywhere_is_an_error_of_the_tile_or_still_a_tile(
    codec: str, seed: int, place: float, flip: int
) -> None:
    data = bytearray(encode_tile(noise(seed, height=24, width=24), codec))
    data[int(place * len(data))] ^= flip
    try:
        found = decode_tile(bytes(data), codec, tile_size=24)
    except TileError:
        return
    assert found.shape == (24, 24, 3)


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=200))
def test_what_was_never_a_tile_is_an_error(codec: str, data: bytes) -> None:
    with pytest.raises(TileError):
        decode_tile(data, codec, tile_size=24)


@pytest.mark.parametrize("codec", CODECS)
def test_a_tile_of_another_size_is_an_error(codec: str) -> None:
    data = encode_tile(noise(0, height=24, width=24), codec)
    for tile_size in (23, 25, 48):
        with pytest.raises(TileError):
            decode_tile(data, codec, tile_size=tile_size)


@given(seed=seeds, quality=st.integers(1, 100))
def test_a_jpeg_tile_is_an_ordinary_jpeg_file(seed: int, quality: int) -> None:
    data = encode_tile(smooth(seed, side=48), f"jpeg:{quality}")
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (48, 48), "RGB")
        shown = np.asarray(image).astype(int)
    ours = decode_tile(data, f"jpeg:{quality}", tile_size=48)
    assert np.abs(shown - ours).max() <= 3


def test_a_gray_jpeg_becomes_three_channels_or_is_an_error() -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(0, height=16, width=16)[..., 0]).save(buffer, "JPEG")
    try:
        found = decode_tile(buffer.getvalue(), "jpeg:90", tile_size=16)
    except TileError:
        return
    assert found.shape == (16, 16, 3)


def test_a_better_quality_takes_more_bytes() -> None:
    rgb = noise(0, height=64, width=64)
    for name in ("jpeg", "webp"):
        sizes = [len(encode_tile(rgb, f"{name}:{quality}")) for quality in (10, 50, 90)]
        assert sizes == sorted(sizes)


@pytest.mark.parametrize("text", ["", "png", "JPEG:90", "jpeg2000"])
def test_an_unknown_codec_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f"expected one of jpeg, webp, jpegxl, zstd, got '{text}'"):
        parse_codec(text)


def roundtrip(rgb: Rgb, codec: str) -> Rgb:
    return decode_tile(encode_tile(rgb, codec), codec, tile_size=rgb.shape[0])
