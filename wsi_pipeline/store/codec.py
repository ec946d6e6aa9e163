"""A tile to bytes and back: ordinary image files, or compressed raw pixels."""

from typing import Literal, TypeAlias, get_args

import imagecodecs
import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.pixels import decode_jpeg

CodecName: TypeAlias = Literal["jpeg", "webp", "jpegxl", "zstd"]

ZSTD_LEVEL = 1  # 10 ms for a 1024 px tile; level 3 takes twice as long and saves a twentieth
JPEGXL_EFFORT = 1  # 11 ms; effort 3 takes four times as long and saves a fifteenth


def parse_codec(text: str) -> tuple[CodecName, int | None]:
    """Return name and quality of a codec as the configuration writes it.

    >>> parse_codec("jpeg:90"), parse_codec("zstd")
    (('jpeg', 90), ('zstd', None))
    """
    name, _, quality = text.partition(":")
    for known in get_args(CodecName):
        if name == known:
            return known, int(quality) if quality else None
    raise ValueError(f"codec: expected one of {', '.join(get_args(CodecName))}, got {text!r}")


def encode_tile(rgb: Rgb, codec: str) -> bytes:
    """Return a tile ``(height, width, 3)`` as bytes; the same pixels give the same bytes."""
    name, quality = parse_codec(codec)
    match name:
        case "jpeg":
            return bytes(imagecodecs.jpeg8_encode(rgb, level=quality, subsampling="420"))
        case "webp":
            return bytes(imagecodecs.webp_encode(rgb, level=quality, lossless=False))
        case "jpegxl":
            return bytes(imagecodecs.jpegxl_encode(rgb, lossless=True, effort=JPEGXL_EFFORT))
        case "zstd":
            return bytes(imagecodecs.zstd_encode(rgb.tobytes(), level=ZSTD_LEVEL))


def decode_tile(data: bytes, codec: str, *, tile_size: int) -> Rgb:
    """Return the tile ``(tile_size, tile_size, 3)``.

    Raises
    ------
    TileError
        The bytes are damaged or of another size.
    """
    name, _ = parse_codec(codec)
    try:
        match name:
            case "jpeg":
                rgb = decode_jpeg(data)
            case "webp":
                rgb = imagecodecs.webp_decode(data)
            case "jpegxl":
                rgb = imagecodecs.jpegxl_decode(data)
            case "zstd":
                raw = imagecodecs.zstd_decode(data)
                rgb = np.frombuffer(raw, dtype=np.uint8).reshape(tile_size, tile_size, 3)
    except (ValueError, RuntimeError) as error:
        raise TileError(f"its {len(data)} bytes are no {name} tile ({error})") from error
    if rgb.shape != (tile_size, tile_size, 3):
        raise TileError(f"expected {tile_size} x {tile_size} x 3 {name}, got {rgb.shape}")
    return np.asarray(rgb, dtype=np.uint8)
