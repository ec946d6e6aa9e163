"""Encoded tiles straight from the shard files, without Zarr."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.files import read_bytes
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


def read_shard(array: Path, shard: int) -> list[bytes | None]:
    """Return the 64 encoded tiles of a shard, None where one is left out.

    Raises
    ------
    TileError
        The file is missing, cut off, or its index is damaged.
    """
    path = array / shard_name(shard)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise TileError(f"{path}: cannot be read ({error.strerror})") from error
    return [
        None if offset == MISSING else data[offset : offset + length]
        for offset, length in shard_index(path, data[-FOOTER_BYTES:], size_bytes=len(data))
    ]


def read_tile(array: Path, tile: int) -> bytes | None:
    """Return one encoded tile, None where it is left out; reads no more of its shard than that.

    Raises
    ------
    TileError
        The shard is missing, cut off, or its index is damaged.
    """
    path = array / shard_name(tile // SHARD_TILES)
    try:
        with path.open("rb") as handle:
            size_bytes = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size_bytes - FOOTER_BYTES))
            entries = shard_index(path, handle.read(), size_bytes=size_bytes)
            offset, length = entries[tile % SHARD_TILES]
            if offset == MISSING:
                return None
            handle.seek(offset)
            return bytes(handle.read(length))
    except OSError as error:
        raise TileError(f"{path}: cannot be read ({error.strerror})") from error


def shard_index(path: Path, footer: bytes, *, size_bytes: int) -> list[tuple[int, int]]:
    """Return (offset, length) of every tile of a shard, both ``MISSING`` where it is left out.

    Parameters
    ----------
    path
        Of the file, for the message.
    footer
        Its last ``FOOTER_BYTES``.
    size_bytes
        Of the whole file; no tile reaches past it.

    Raises
    ------
    TileError
        It is cut off, or its checksum or what it says is wrong.
    """
    index, expected = footer[:-INDEX_CHECKSUM_BYTES], footer[-INDEX_CHECKSUM_BYTES:]
    if len(footer) < FOOTER_BYTES or checksum(index) != int.from_bytes(expected, "little"):
        raise TileError(f"{path}: its index is damaged or cut off ({size_bytes} bytes)")
    entries = np.frombuffer(index, dtype="<u8").reshape(SHARD_TILES, 2)
    pairs = [(int(offset), int(length)) for offset, length in entries]
    ends = [offset + length for offset, length in pairs if offset != MISSING]
    if max(ends, default=0) > size_bytes - FOOTER_BYTES:
        raise TileError(f"{path}: its index names bytes past its end ({size_bytes} bytes)")
    return pairs


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
