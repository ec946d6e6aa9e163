"""JPEG streams as TIFF files hold them: tables apart or inside, with and without marks of their colours.

Sources: ITU-T T.81 annex B (segments), TIFF technical note 2 (JPEGTables), Adobe technical note 5116
(APP14), JFIF 1.02 (APP0).
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import imagecodecs

from wsi_pipeline.geometry import Rgb

Colours: TypeAlias = Literal["rgb", "ycbcr"]
"""What the three components hold."""

Subsampling: TypeAlias = Literal["444", "422", "420", "440"]
Marks: TypeAlias = Literal["none", "jfif", "adobe-rgb", "adobe-ycbcr"]
"""What a stream says of its colours; scanners write wrong ones, JFIF says YCbCr."""

FACTORS: dict[Subsampling, tuple[int, int]] = {
    "444": (1, 1),
    "422": (2, 1),
    "420": (2, 2),
    "440": (1, 2),
}
"""Luma samples per chroma sample, along and down: the TIFF tag YCbCrSubSampling."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP14, _HUFFMAN, _QUANTIZATION, _SCAN = 0xE0, 0xEE, 0xC4, 0xDB, 0xDA
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_MARKS: dict[Marks, bytes] = {
    "none": b"",
    "jfif": b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00",
    "adobe-rgb": _ADOBE + b"\x00",
    "adobe-ycbcr": _ADOBE + b"\x01",
}


def encoded(
    rgb: Rgb, *, colours: Colours, subsampling: Subsampling, quality: int, marks: Marks
) -> bytes:
    """Return a JPEG with the standard Huffman tables, so that all of one quality share their tables."""
    data = imagecodecs.jpeg8_encode(
        rgb,
        level=quality,
        colorspace="RGB",
        outcolorspace="RGB" if colours == "rgb" else "YCBCR",
        subsampling=FACTORS[subsampling],
    )
    kept = (part for kind, part in segments(bytes(data)) if kind not in {_APP0, _APP14})
    return _START + _MARKS[marks] + b"".join(kept)


def without_tables(data: bytes) -> tuple[bytes, bytes]:
    """Return the tables of a JPEG, as the TIFF tag JPEGTables holds them, and the rest of it."""
    parts = list(segments(data))
    is_table = {_HUFFMAN, _QUANTIZATION}
    tables = b"".join(part for kind, part in parts if kind in is_table)
    rest = b"".join(part for kind, part in parts if kind not in is_table)
    return _START + tables + _END, _START + rest


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield a stream's segments after its start, each with its marker; the scan is the last one."""
    position = len(_START)
    while data[position + 1] != _SCAN:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield data[position + 1], data[position:end]
        position = end
    yield _SCAN, data[position:]
