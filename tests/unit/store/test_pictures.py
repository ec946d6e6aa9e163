"""Picture files become tiles: JPEG bytes untouched, everything else encoded, what is damaged refused."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.images import SIDE, encoded, pixels
from wsi_pipeline.errors import TileError
from wsi_pipeline.store.codec import decode_tile
from wsi_pipeline.store.pictures import picture_size, stored_picture


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("how", [{"quality": 70}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_kept_byte_for_byte(mode: str, how: dict[str, int]) -> None:
    data = encoded(1, "JPEG", mode=mode, side=SIDE, **how)
    stored = stored_picture(data, "jpeg:90", tile_size=SIDE)
    assert stored.kept
    assert stored.data == data
    assert np.array_equal(stored.rgb, decode_tile(data, "jpeg:90", tile_size=SIDE))


def test_a_jpeg_of_four_inks_is_encoded_anew() -> None:
    stored = stored_picture(encoded(1, mode="CMYK"), "jpeg:95", tile_size=SIDE)
    assert not stored.kept
    again = decode_tile(stored.data, "jpeg:95", tile_size=SIDE).astype(int)
    assert np.abs(again - pixels(1)).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("codec", ["zstd", "jpegxl"])
def test_pictures_without_loss_keep_their_pixels(kind: str, codec: str) -> None:
    stored = stored_picture(encoded(2, kind), codec, tile_size=SIDE)
    assert not stored.kept
    assert np.array_equal(decode_tile(stored.data, codec, tile_size=SIDE), pixels(2))
    assert np.array_equal(stored.rgb, pixels(2))


def test_another_codec_encodes_jpegs_too() -> None:
    data = encoded(3)
    stored = stored_picture(data, "zstd", tile_size=SIDE)
    assert not stored.kept
    expected = decode_tile(data, "jpeg:90", tile_size=SIDE)
    assert np.array_equal(decode_tile(stored.data, "zstd", tile_size=SIDE), expected)


def test_transparent_is_white() -> None:
    rgba = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(rgba).save(target, format="PNG")
    assert stored_picture(target.getvalue(), "zstd", tile_size=SIDE).rgb.min() == 255


def bomb() -> bytes:
    """A PNG whose header says 60 000 x 60 000 px."""
    data = bytearray(encoded(1, "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(data)


def deep() -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE), 40_000, dtype=np.uint16)).save(target, format="PNG")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected a picture, got 0 bytes"),
        (b"not a picture at all", "no picture that can be opened"),
        (encoded(1)[:10], "no picture that can be opened"),
        (encoded(1)[:-200], "bytes cannot be decoded"),
        (encoded(1, "PNG")[:-60], "cannot be decoded"),
        (encoded(1, side=64), "it is 64 x 64 px, the tiles of this run are 48 x 48"),
        (bomb(), "it is 60000 x 60000 px|no picture"),
        (deep(), "expected 8 bits per channel, got mode I;16"),
    ],
    ids=["empty", "text", "head", "cut", "cut png", "size", "bomb", "deep"],
)
def test_what_cannot_be_a_tile_says_why(data: bytes, said: str) -> None:
    with pytest.raises(TileError, match=said):
        stored_picture(data, "jpeg:90", tile_size=SIDE)


def test_the_size_comes_from_the_header() -> None:
    for kind in ("JPEG", "PNG", "TIFF"):
        size = picture_size(encoded(1, kind, side=40))
        assert (size.width, size.height) == (40, 40)
