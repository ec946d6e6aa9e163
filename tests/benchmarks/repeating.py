"""Slides of any size that take a few megabytes: every tile of the TIFF points at one of few that are stored.

Readers see an ordinary tiled pyramid; what they decode and keep is that of a slide of the full size.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.writers.jpeg import encoded
from wsi_pipeline.geometry import Rgb

TILE_PX = 256
_STEP = 4  # from each level to the next, as scanners do
_SHORT, _LONG, _LONG8 = 3, 4, 16  # types of TIFF tags
_FORMATS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    side_px: int
    offsets: NDArray[np.int64]
    """Of the stored tiles, ``(rows, columns)``; the level repeats them."""
    counts: NDArray[np.int64]


def write_repeating(path: Path, block: Rgb, *, side_px: int, levels: int = 4) -> None:
    """Write a square slide that repeats a picture, as a pyramidal BigTIFF of JPEG tiles, quality 80."""
    height, width = (side // TILE_PX * TILE_PX for side in block.shape[:2])
    data = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    written = []
    for index in range(levels):
        shrink = _STEP**index
        size = width // shrink, height // shrink
        small = cv2.resize(block[:height, :width], size, interpolation=cv2.INTER_AREA)
        whole = np.tile(small, (shrink, shrink, 1))[:height, :width]
        written.append(_stored(data, whole, side_px // shrink))
    struct.pack_into("<Q", data, 8, len(data))  # where the first directory begins
    for index, level in enumerate(written):
        data += _directory(level, at=len(data), index=index, is_last=index + 1 == levels)
    path.write_bytes(data)


def _stored(data: bytearray, whole: Rgb, side_px: int) -> _Level:
    """Add a picture's tiles and return a level that is made of them."""
    rows, columns = (side // TILE_PX for side in whole.shape[:2])
    tiles = whole.reshape(rows, TILE_PX, columns, TILE_PX, 3).swapaxes(
        1, 2
    )  # (row, column, y, x, 3)
    extents = np.empty((rows, columns, 2), dtype=np.int64)
    for row, column in np.ndindex(rows, columns):
        tile = np.ascontiguousarray(tiles[row, column])
        stored = encoded(tile, colours="ycbcr", subsampling="420", quality=80, marks="none")
        extents[row, column] = len(data), len(stored)
        data += stored
    return _Level(side_px=side_px, offsets=extents[..., 0], counts=extents[..., 1])


def _directory(level: _Level, *, at: int, index: int, is_last: bool) -> bytes:
    """Return one IFD with the values that it points at, to be put at an offset."""
    count = -(-level.side_px // TILE_PX)
    tags: list[tuple[int, int, Sequence[int]]] = [
        (254, _LONG, [int(index > 0)]),  # NewSubfileType: a smaller copy
        (256, _LONG, [level.side_px]),
        (257, _LONG, [level.side_px]),
        (258, _SHORT, [8, 8, 8]),
        (259, _SHORT, [7]),  # JPEG
        (262, _SHORT, [6]),  # YCbCr
        (277, _SHORT, [3]),
        (284, _SHORT, [1]),
        (322, _LONG, [TILE_PX]),
        (323, _LONG, [TILE_PX]),
        (324, _LONG8, _repeated(level.offsets, count)),
        (325, _LONG8, _repeated(level.counts, count)),
        (530, _SHORT, [2, 2]),  # YCbCrSubSampling
    ]
    values_at = at + 8 + 20 * len(tags) + 8
    entries, values = b"", b""
    for number, kind, numbers in tags:
        packed = struct.pack(f"<{len(numbers)}{_FORMATS[kind]}", *numbers)
        inside = packed.ljust(8, b"\0")
        if len(packed) > 8:
            inside = struct.pack("<Q", values_at + len(values))
            values += packed
        entries += struct.pack("<HHQ", number, kind, len(numbers)) + inside
    following = 0 if is_last else values_at + len(values)
    return struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", following) + values


def _repeated(stored: NDArray[np.int64], count: int) -> Sequence[int]:
    """Return what is stored over and over, ``count`` times ``count``, row by row."""
    rows, columns = (np.arange(count) % side for side in stored.shape)
    repeated: list[int] = stored[rows[:, None], columns].reshape(-1).tolist()
    return repeated
