"""Encoded tiles straight from the shard files, without Zarr."""

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
    index_bytes = SHARD_TILES * INDEX_ENTRY_BYTES
    footer = data[-(index_bytes + INDEX_CHECKSUM_BYTES) :]
    index = footer[:index_bytes]
    if len(index) < index_bytes or checksum(index) != int.from_bytes(
        footer[index_bytes:], "little"
    ):
        raise TileError(f"{path}: its index is damaged or cut off ({len(data)} bytes)")
    entries = np.frombuffer(index, dtype="<u8").reshape(SHARD_TILES, 2)
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
