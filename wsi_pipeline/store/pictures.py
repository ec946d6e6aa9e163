"""Picture files as stored tiles: a JPEG's bytes as they are, everything else encoded anew."""

from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.pixels import decode_jpeg, on_white
from wsi_pipeline.store.codec import encode_tile, parse_codec

_JPEG_START = b"\xff\xd8\xff"
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """A picture as the store keeps it."""

    data: bytes = field(repr=False)
    rgb: Rgb = field(repr=False)
    """Its pixels before they were encoded anew, or those of the bytes that were kept."""
    kept: bool
    """Whether the bytes are those that were given."""


def picture_size(data: bytes) -> Size:
    """Return the size of an encoded picture from its header; nothing is decoded.

    Raises
    ------
    TileError
        It is no picture.
    """
    if not data:
        raise TileError("expected a picture, got 0 bytes")
    try:
        if data.startswith(_JPEG_START):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
            return Size(width=width, height=height)
        with _opened(data) as image:
            return Size(width=image.width, height=image.height)
    except (ValueError, OSError, SyntaxError) as error:
        raise TileError(f"its {len(data)} bytes are no picture that can be opened") from error


def stored_picture(data: bytes, codec: str, *, tile_size: int) -> StoredPicture:
    """Return a picture as a tile of a store.

    A JPEG is kept as it is where the store's codec is JPEG and its strict decoder gives RGB: gray ones
    are kept, those of four inks are not.

    Raises
    ------
    TileError
        It is no picture, is damaged, is deeper than 8 bits, or is not ``tile_size`` pixels on both sides.
    """
    size = picture_size(data)  # before a small file can become many gigabytes of pixels
    if (size.width, size.height) != (tile_size, tile_size):
        raise TileError(
            f"it is {size.width} x {size.height} px, the tiles of this run are {tile_size} x {tile_size}"
        )
    if data.startswith(_JPEG_START) and parse_codec(codec)[0] == "jpeg":
        try:
            return StoredPicture(data=data, rgb=decode_jpeg(data), kept=True)
        except ValueError as error:
            if not _is_of_four_inks(data):
                raise TileError(f"its {len(data)} bytes are no whole JPEG ({error})") from error
    rgb = _pixels(data)
    return StoredPicture(data=encode_tile(rgb, codec), rgb=rgb, kept=False)


def _is_of_four_inks(data: bytes) -> bool:
    try:
        with _opened(data) as image:
            return image.mode == "CMYK"
    except (ValueError, OSError, SyntaxError):
        return False


def _pixels(data: bytes) -> Rgb:
    """Return the pixels of a picture of 8 bits; transparent is white."""
    try:
        with _opened(data) as image:
            if image.mode not in _EIGHT_BIT:
                raise TileError(
                    f"expected 8 bits per channel, got mode {image.mode}: brightness would be a guess; "
                    "convert it to 8 bits first"
                )
            if image.format == "JPEG" and image.mode in {"RGB", "L"}:
                return decode_jpeg(data)
            if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
                return on_white(np.asarray(image.convert("RGBA")))
            return np.asarray(image.convert("RGB"))
    except (ValueError, OSError, SyntaxError) as error:
        raise TileError(f"its {len(data)} bytes cannot be decoded ({error})") from error


def _opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))
