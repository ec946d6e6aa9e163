"""Picture files as stored tiles: a JPEG's bytes as they are, everything else encoded anew."""

from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.pixels import decode_jpeg, on_white
from wsi_pipeline.store.codec import encode_tile, parse_codec

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_KEPT = ("RGB", "L")  # what every decoder of JPEG gives as RGB; not four inks
_BROKEN = (ValueError, OSError, SyntaxError, KeyError, EOFError)  # of Pillow and simplejpeg

Image.MAX_IMAGE_PIXELS = None  # the size is looked at before anything is decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """A picture as the store keeps it."""

    data: bytes = field(repr=False)
    rgb: Rgb = field(repr=False)
    """Its pixels before they were encoded anew, or those of the bytes that were kept."""
    kept: bool
    """Whether the bytes are those that were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What a picture says of itself before it is decoded."""

    size: Size
    kind: str
    mode: str


def picture_size(data: bytes) -> Size:
    """Return the size of an encoded picture from its header; nothing is decoded.

    Raises
    ------
    TileError
        It is no picture.
    """
    return _header(data).size


def stored_picture(data: bytes, codec: str, *, tile_size: int) -> StoredPicture:
    """Return a picture as a tile of a store.

    A JPEG in colours or gray is kept as it is where the store's codec is JPEG; one of four inks is not,
    for not every decoder gives RGB of it.

    Raises
    ------
    TileError
        It is no picture, is damaged, is deeper than 8 bits, or is not ``tile_size`` pixels on both sides.
    """
    header = _header(data)
    size = header.size  # looked at before a small file becomes many gigabytes of pixels
    if (size.width, size.height) != (tile_size, tile_size):
        raise TileError(
            f"it is {size.width} x {size.height} px, the tiles of this run are {tile_size} x {tile_size}"
        )
    if header.mode not in _EIGHT_BIT:
        raise TileError(
            f"expected 8 bits per channel, got mode {header.mode}: brightness would be a guess; "
            "convert it to 8 bits first"
        )
    try:
        is_plain = header.kind == "JPEG" and header.mode in _KEPT
        rgb = decode_jpeg(data) if is_plain else _pixels(data)
    except _BROKEN as error:
        raise TileError(f"its {len(data)} bytes cannot be decoded ({error})") from error
    if is_plain and parse_codec(codec)[0] == "jpeg":
        return StoredPicture(data=data, rgb=rgb, kept=True)
    return StoredPicture(data=encode_tile(rgb, codec), rgb=rgb, kept=False)


def _header(data: bytes) -> _Header:
    if not data:
        raise TileError("expected a picture, got 0 bytes")
    try:
        with Image.open(BytesIO(data)) as image:
            size = Size(width=image.width, height=image.height)
            return _Header(size=size, kind=image.format or "", mode=image.mode)
    except _BROKEN as error:
        raise TileError(f"its {len(data)} bytes are no picture that can be opened") from error


def _pixels(data: bytes) -> Rgb:
    """Return the pixels of a picture; transparent is white."""
    with Image.open(BytesIO(data)) as image:
        if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
            return on_white(np.asarray(image.convert("RGBA")))
        return np.asarray(image.convert("RGB"))
