"""How the tiles of a TIFF are stored: compression, colours, and the bytes of one tile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from tests.writers.jpeg import FACTORS, Colours, Marks, Subsampling, encoded, without_tables
from wsi_pipeline.geometry import WHITE, Rgb, Size

TILE_PX = Size(width=128, height=96)
"""Not square, so that who mixes up the sides is found out; multiples of 16, as 4:2:0 asks for."""

_YCBCR_OF_RGB = np.array(  # ITU-T T.871
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How tiles are stored; ``encode`` is given whole tiles."""

    compression: int
    """TIFF tag 259."""
    encode: Callable[[NDArray[np.uint8]], bytes]
    photometric: Literal["rgb", "ycbcr", "minisblack"] = "rgb"
    lossless: bool = True
    predictor: bool = False
    """Whether values are stored as differences along the row."""
    subsampling: tuple[int, int] | None = None
    tables: bytes | None = None
    """JPEG tables that all tiles share."""
    tile_px: Size = TILE_PX


def jpeg(
    colours: Colours = "rgb",
    subsampling: Subsampling = "444",
    *,
    marks: Marks = "none",
    shared: bool = False,
    quality: int = 80,
) -> Coding:
    """Return JPEG tiles; ``shared`` keeps their tables once, in the page, and not in the tiles."""

    def whole(rgb: Rgb) -> bytes:
        return encoded(rgb, colours=colours, subsampling=subsampling, quality=quality, marks=marks)

    tables, _ = without_tables(whole(np.zeros((16, 16, 3), np.uint8)))
    return Coding(
        compression=7,
        photometric=colours,
        encode=(lambda rgb: without_tables(whole(rgb))[1]) if shared else whole,
        lossless=False,
        subsampling=FACTORS[subsampling] if colours == "ycbcr" else None,
        tables=tables if shared else None,
    )


def jpeg2000(colours: Colours, *, lossless: bool = True) -> Coding:
    """Return Aperio's JPEG 2000 tiles: bare code streams, 33003 of Y, Cb, Cr, 33005 of R, G, B."""

    def encode(rgb: Rgb) -> bytes:
        stream = imagecodecs.jpeg2k_encode(
            to_ycbcr(rgb) if colours == "ycbcr" else rgb,
            level=0 if lossless else 38,  # decibel
            codecformat="j2k",
            colorspace="SRGB",
            mct=colours == "rgb",
        )
        return bytes(stream)

    return Coding(
        compression=33003 if colours == "ycbcr" else 33005,
        photometric=colours,
        encode=encode,
        lossless=lossless and colours == "rgb",
        subsampling=(1, 1) if colours == "ycbcr" else None,
    )


def _gray_jpeg(gray: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(gray, level=80, colorspace="GRAYSCALE"))


def _predicted(rgb: Rgb) -> bytes:
    return bytes(imagecodecs.lzw_encode(imagecodecs.delta_encode(rgb, axis=1).tobytes()))


def _packed(rgb: Rgb) -> bytes:
    return b"".join(bytes(imagecodecs.packbits_encode(row.tobytes())) for row in rgb)


RAW = Coding(compression=1, encode=lambda rgb: rgb.tobytes())
LZW = Coding(compression=5, encode=lambda rgb: bytes(imagecodecs.lzw_encode(rgb.tobytes())))
LZW_PREDICTED = Coding(compression=5, encode=_predicted, predictor=True)
DEFLATE = Coding(compression=8, encode=lambda rgb: bytes(imagecodecs.zlib_encode(rgb.tobytes())))
PACKBITS = Coding(compression=32773, encode=_packed)
ZSTD = Coding(compression=50000, encode=lambda rgb: bytes(imagecodecs.zstd_encode(rgb.tobytes())))
GRAY_JPEG = Coding(compression=7, encode=_gray_jpeg, photometric="minisblack", lossless=False)
GRAY_DEFLATE = Coding(
    compression=8,
    encode=lambda gray: bytes(imagecodecs.zlib_encode(gray.tobytes())),
    photometric="minisblack",
)


def to_ycbcr(rgb: Rgb) -> NDArray[np.uint8]:
    """Return full-range Y, Cb, Cr, rounded."""
    ycbcr = rgb @ _YCBCR_OF_RGB.T + (0, 128, 128)
    rounded: NDArray[np.uint8] = np.clip(np.rint(ycbcr), 0, WHITE).astype(np.uint8)
    return rounded
