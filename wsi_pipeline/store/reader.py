"""Encoded tiles straight from the shard files, without Zarr."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import TileError
from wsi_pipeline.store.layout import (
    INDEX_CHECKSUM_BYTES,
    INDEX_ENTRY_BYTES,
    MISSING,
    SHARD_TILES,
    shard_name,
)
from wsi_pipeline.store.writer import checksum

FOOTER_BYTES = SHARD_TILES * INDEX_ENTRY_BYTES + INDEX_CHECKSUM_BYTES
"""Index and its checksum, at the end of every shard file."""


def shard_index(footer: bytes, path: Path, *, size_bytes: int) -> NDArray[np.uint64]:
    """Return offset and length of every chunk of a shard, ``(64, 2)``; both ``MISSING`` where left out.

    Parameters
    ----------
    footer
        The last ``FOOTER_BYTES`` of the file.
    path
        Of the file, for the message.
    size_bytes
        Of the whole file; no chunk reaches past it.

    Raises
    ------
    TileError
        It is cut off, or its checksum or what it says is wrong.
    """
    index, check = footer[:-INDEX_CHECKSUM_BYTES], footer[-INDEX_CHECKSUM_BYTES:]
    if len(footer) < FOOTER_BYTES or checksum(index) != int.from_bytes(check, "little"):
        raise TileError(f"{path}: its index is damaged or cut off ({size_bytes} bytes)")
    entries = np.frombuffer(index, dtype="<u8").reshape(SHARD_TILES, 2)
    there = entries[entries[:, 0] != MISSING]
    if there.size and int(there.sum(axis=1).max()) > size_bytes - FOOTER_BYTES:
        raise TileError(f"{path}: its index names bytes past its end ({size_bytes} bytes)")
    return entries


def read_shard(array: Path, shard: int) -> list[bytes | None]:
    """Return the 64 encoded tiles of a shard, None where one is left out.

    Raises
    ------
    TileError
        The file is missing, cut off, or its index is damaged.
    """
    path = array / shard_name(shard)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TileError(f"{path}: cannot be read ({error.strerror})") from error
    entries = shard_index(data[-FOOTER_BYTES:], path, size_bytes=len(data))
    return [
        None if offset == MISSING else data[int(offset) : int(offset) + int(length)]
        for offset, length in entries
    ]


def iterate_tiles(array: Path, *, tiles: int) -> Iterator[tuple[int, bytes | TileError | None]]:
    """Yield (tile, encoded bytes) in order; None where left out, an error for a shard that cannot be read."""
    for first in range(0, tiles, SHARD_TILES):
        count = min(SHARD_TILES, tiles - first)
        try:
            chunks = read_shard(array, first // SHARD_TILES)[:count]
        except TileError as error:
            yield from ((first + position, error) for position in range(count))
            continue
        yield from ((first + position, chunk) for position, chunk in enumerate(chunks))
