"""Names and numbers of the tile store: Zarr v3, one array per slide. Arithmetic only.

Sources: Zarr core specification 3.0; codec ``sharding_indexed`` 1.0. A shard file is its encoded
chunks one after another, then an index of (offset, length) uint64 pairs, one per chunk, then the
index's CRC-32C.
"""

import json
from dataclasses import dataclass
from typing import Any

from wsi_pipeline.store.codec import ZSTD_LEVEL, parse_codec

SHARD_TILES = 64
"""Tiles per shard file: 4.7 million tiles are about 75 000 files of 10 MB."""

MISSING = (1 << 64) - 1
"""Offset and length of a chunk that a shard leaves out."""

FILL_VALUE = 0
"""What Zarr gives for a tile that could not be read; its manifest row says ``unreadable``."""

INDEX_ENTRY_BYTES = 16
INDEX_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayLayout:
    """One slide's array: ``(tiles, tile_size, tile_size, 3)`` uint8, an inner chunk a tile."""

    tiles: int
    tile_size: int
    codec: str

    def __post_init__(self) -> None:
        if self.tiles < 0 or self.tile_size < 1:
            raise ValueError(f"array: expected 0 or more tiles of at least 1 px, got {self}")

    @property
    def shards(self) -> int:
        """How many shard files the array has."""
        return -(-self.tiles // SHARD_TILES)


def shard_name(shard: int) -> str:
    """Return a shard's name inside its array.

    With dots: Zarr's default ``c/7/0/0/0`` costs four folders a shard, 300 000 of a run of 4.7 million tiles.

    >>> shard_name(7)
    'c.7.0.0.0'
    """
    return f"c.{shard}.0.0.0"


def group_json() -> bytes:
    """Return the metadata of the group that holds every slide's array."""
    return _json({"zarr_format": 3, "node_type": "group", "attributes": {}})


def array_json(layout: ArrayLayout) -> bytes:
    """Return the Zarr metadata of one slide's array."""
    size = layout.tile_size
    sharding = {
        "chunk_shape": [1, size, size, 3],
        "codecs": _inner_codecs(layout.codec),
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "index_location": "end",
    }
    return _json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [layout.tiles, size, size, 3],
            "data_type": "uint8",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [SHARD_TILES, size, size, 3]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": FILL_VALUE,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
            "dimension_names": ["tile", "y", "x", "channel"],
        }
    )


def read_array_json(data: bytes) -> ArrayLayout:
    """Return the layout that ``array_json`` wrote.

    >>> layout = ArrayLayout(tiles=7, tile_size=256, codec="jpeg:90")
    >>> read_array_json(array_json(layout)) == layout
    True
    """
    found = json.loads(data)
    codec = found["codecs"][0]["configuration"]["codecs"][-1]
    name = str(codec["name"]).removeprefix("wsi_pipeline.")
    quality = codec["configuration"].get("quality")
    return ArrayLayout(
        tiles=found["shape"][0],
        tile_size=found["shape"][1],
        codec=name if quality is None else f"{name}:{quality}",
    )


def _inner_codecs(codec: str) -> list[dict[str, Any]]:
    name, quality = parse_codec(codec)
    if name == "zstd":
        zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
        return [{"name": "bytes"}, zstd]
    configuration = {} if quality is None else {"quality": quality}
    return [{"name": f"wsi_pipeline.{name}", "configuration": configuration}]


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
