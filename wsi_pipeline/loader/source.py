"""Where the pixels of tiles come from: shard files, or the slides themselves where a run stores none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.loader.decode import Decoding, check_codec, decode_into
from wsi_pipeline.loader.objects import LocalCache, RemoteShard
from wsi_pipeline.loader.rows import Rows
from wsi_pipeline.loader.shards import Bounded, Encoded, LocalShard, Shard, read_encoded
from wsi_pipeline.remote import is_remote
from wsi_pipeline.store.layout import SHARD_TILES, ArrayLayout, read_array_json, shard_name
from wsi_pipeline.store.writer import checksum

RowNumbers: TypeAlias = NDArray[np.int64]
Problem: TypeAlias = tuple[int, TileError]
"""A place in what was asked for, and why its tile cannot be had."""

LOCAL_FILES = 640
"""Shard files open at once: as many as a block of tiles comes from, and below the usual limit of 1024."""

REMOTE_SHARDS = 4_096
"""Indexes of remote shards that are kept: 8 kB each."""

CHECKSUM = "crc32c"
"""Column of the manifest with each tile's checksum, read where a device decodes."""

PART_BYTES = 1 << 22
"""Pixels of the tiles that one thread reads and decodes at a time."""


class Source(Protocol):
    """Gives tiles; any number of threads ask at once."""

    tile_size: int
    """Side of every tile in pixels."""

    def parts(self, rows: RowNumbers) -> list[RowNumbers]:
        """Return the places of rows in parts that are best read together, each by one thread."""
        ...

    def fetch(self, rows: RowNumbers) -> list[Any]:
        """Return what has to be waited for, such as stored bytes."""
        ...

    def decode(self, rows: RowNumbers, fetched: list[Any], out: Sequence[Rgb]) -> list[Problem]:
        """Fill an image for each row and return which ones could not be."""
        ...


class StoredTiles:
    """Tiles of runs that store them."""

    def __init__(self, rows: Rows, decoding: Decoding, *, cache: LocalCache | None = None) -> None:
        self._rows = rows
        self._decoding = decoding
        self._files = _Files(rows, decoding, cache)
        self._layouts: Bounded[int, ArrayLayout] = Bounded(self._files.layout, most=1 << 20)
        self._shards: Bounded[tuple[int, int], Shard] = Bounded(
            self._files.open, most=self._files.most_open
        )
        self.tile_size = self._layouts(int(rows.array[0])).tile_size

    def parts(self, rows: RowNumbers) -> list[RowNumbers]:
        """Return places in order of their bytes, so that neighbours are read together."""
        in_order = np.lexsort((self._rows.tile[rows], self._rows.array[rows]))
        length = max(1, min(64, PART_BYTES // (3 * self.tile_size**2)))
        return np.array_split(in_order, range(length, len(rows), length))

    def fetch(self, rows: RowNumbers) -> list[Encoded]:
        """Return the stored bytes of tiles."""
        wanted = [
            (array, tile // SHARD_TILES, tile % SHARD_TILES)
            for array, tile in zip(
                self._rows.array[rows].tolist(), self._rows.tile[rows].tolist(), strict=True
            )
        ]
        return read_encoded(self._shards, wanted)

    def decode(self, rows: RowNumbers, fetched: list[Encoded], out: Sequence[Rgb]) -> list[Problem]:
        """Fill images; a tile that cannot be decoded is named with its file."""
        problems: list[Problem] = []
        for place, (row, data, image) in enumerate(zip(rows.tolist(), fetched, out, strict=True)):
            try:
                self._decode_one(row, data, image)
            except TileError as error:
                problems.append((place, self.problem(row, error)))
        return problems

    def checked(self, rows: RowNumbers, fetched: list[Encoded]) -> list[Encoded]:
        """Return stored bytes again; an error in place of those that are not what the manifest says."""
        for array in set(self._rows.array[rows].tolist()):
            self._layouts(array)  # refuses other sizes and codecs
        sums = self._rows.columns[CHECKSUM].values[rows].tolist()
        found = list(fetched)
        for place, (row, data, expected) in enumerate(
            zip(rows.tolist(), fetched, sums, strict=True)
        ):
            if isinstance(data, TileError):
                found[place] = self.problem(row, data)
            elif checksum(bytes(data)) != expected:
                said = (
                    f"its {len(data)} bytes are not those that were stored (their checksum differs)"
                )
                found[place] = self.problem(row, said)
        return found

    def problem(self, row: int, error: TileError | str) -> TileError:
        """Return what is wrong with a tile, with run, slide, tile and file."""
        return TileError(f"{self._named(row)}: {error}")

    def _decode_one(self, row: int, data: Encoded, image: Rgb) -> None:
        if isinstance(data, TileError):
            raise data
        layout = self._layouts(int(self._rows.array[row]))
        decode_into(image, data, layout.codec, decoding=self._decoding, tile_size=layout.tile_size)

    def _named(self, row: int) -> str:
        shard = shard_name(int(self._rows.tile[row]) // SHARD_TILES)
        return (
            f"{self._rows.name(row)}, in {self._files.folder(int(self._rows.array[row])) / shard}"
        )


class _Files:
    """The files of runs; apart from what keeps them open, so that nothing holds itself."""

    def __init__(self, rows: Rows, decoding: Decoding, cache: LocalCache | None) -> None:
        self._rows = rows
        self._decoding = decoding
        self._cache = cache
        self._tile_size: int | None = None

    @property
    def most_open(self) -> int:
        """How many shards are kept open: files, or only their indexes."""
        remote = any(is_remote(run.path) for run in self._rows.runs)
        return REMOTE_SHARDS if remote and self._cache is None else LOCAL_FILES

    def folder(self, array: int) -> Path:
        """Return the folder of an array."""
        run, slide_id = self._rows.arrays[array]
        return self._rows.runs[run].path / "tiles.zarr" / slide_id

    def open(self, key: tuple[int, int]) -> Shard:
        """Return a shard by the numbers of its array and of itself there."""
        array, shard = key
        path = self.folder(array) / shard_name(shard)
        if not is_remote(path):
            return LocalShard(path)
        return RemoteShard(path) if self._cache is None else self._cache.shard(path)

    def layout(self, array: int) -> ArrayLayout:
        """Return what an array is, once it is seen to be as the others."""
        path = self.folder(array) / "zarr.json"
        try:
            layout = read_array_json(path.read_bytes())
        except (OSError, ValueError, LookupError) as error:
            raise TileError(f"{path}: cannot be read ({error})") from error
        check_codec(layout.codec, self._decoding)
        if self._tile_size not in {None, layout.tile_size}:
            raise ConfigError(
                f"{path}: expected tiles of {self._tile_size} px, as the others, got {layout.tile_size} px; "
                "load them apart"
            )
        self._tile_size = layout.tile_size
        return layout
