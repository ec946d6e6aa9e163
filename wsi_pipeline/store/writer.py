"""Encoded tiles into shard files, each written whole, and an array published last."""

from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from wsi_pipeline.files import exists, publish_bytes, published
from wsi_pipeline.store.layout import (
    MISSING,
    SHARD_TILES,
    ArrayLayout,
    array_json,
    group_json,
    shard_name,
)


def open_group(store: Path) -> None:
    """Make the group that holds the arrays, if it is not there."""
    if not exists(store / "zarr.json"):
        publish_bytes(store / "zarr.json", group_json())


def write_shard(array: Path, shard: int, chunks: Sequence[bytes | None]) -> int:
    """Write one shard and return its size in bytes; a chunk that is None reads as the fill value.

    The index always has 64 entries, also in the last shard of a slide.
    """
    index = np.full((SHARD_TILES, 2), MISSING, dtype="<u8")  # (chunk, offset and length)
    offset = 0
    for position, chunk in enumerate(chunks):
        if chunk is not None:
            index[position] = offset, len(chunk)
            offset += len(chunk)
    footer = index.tobytes()
    footer += checksum(footer).to_bytes(4, "little")
    with published(array / shard_name(shard)) as temporary, temporary.open("wb") as handle:
        handle.writelines(chunk for chunk in chunks if chunk is not None)
        handle.write(footer)
    return offset + len(footer)


def publish_array(array: Path, layout: ArrayLayout) -> None:
    """Write the array's metadata: from now on Zarr readers see the array."""
    publish_bytes(array / "zarr.json", array_json(layout))


def checksum(data: bytes) -> int:
    """Return the CRC-32C of bytes, as Zarr and the manifest keep it."""
    return int(google_crc32c.value(data))
