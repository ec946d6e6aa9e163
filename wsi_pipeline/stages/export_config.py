"""What ``export`` is asked to do, and what every kind of export is given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from wsi_pipeline.config import Config, TileConfig, expected
from wsi_pipeline.errors import TileError
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.selection import Selection
from wsi_pipeline.store.codec import decode_tile, encode_tile, parse_codec
from wsi_pipeline.store.layout import SHARD_TILES
from wsi_pipeline.store.reader import read_shard
from wsi_pipeline.store.writer import checksum

NO_LABEL = "unlabelled"


class ExportConfig(Config):
    """Which tiles are exported, and how they look."""

    where: str | None = Field(
        None,
        min_length=1,
        description="Which tiles: a condition on the manifest's columns as `pandas.DataFrame.query` takes "
        'it, in place of `status == "ok"`.',
        json_schema_extra=expected('a condition such as tissue > 0.5 and label == "tumour"'),
    )
    colour_by: str | None = Field(
        None,
        min_length=1,
        description="Column that colours GeoJSON: words are classes, numbers are put into deciles.",
        json_schema_extra=expected("a column of the manifest"),
    )
    slides: bool = Field(
        default=False,
        description="GeoJSON of one outline per slide around its tiles, in place of the tiles.",
        json_schema_extra=expected("true or false"),
    )
    objects: Literal["tile", "annotation"] = Field(
        "tile",
        description="What QuPath takes the rectangles for; annotations can be edited there.",
        json_schema_extra=expected("tile or annotation"),
    )
    origin: Literal["bounds", "canvas"] = Field(
        "bounds",
        description="Corner that GeoJSON counts from: that of the scanned part, `bounds`, as QuPath does "
        "unless told not to crop, or that of the `canvas`, as the manifest. Other than 0, 0 mostly in MRXS.",
        json_schema_extra=expected("bounds or canvas"),
    )
    gz: bool = Field(
        default=False,
        description="Compress GeoJSON files.",
        json_schema_extra=expected("true or false"),
    )
    shard_size: int = Field(
        1000,
        ge=1,
        description="Tiles in each tar file of a WebDataset.",
        json_schema_extra=expected("a number of tiles, 1 or more"),
    )
    quality: int = Field(
        90,
        ge=1,
        le=100,
        description="JPEG quality of tiles that are not stored as JPEG; JPEG tiles are never encoded again.",
        json_schema_extra=expected("1 to 100"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What one export wrote."""

    kind: str
    folder: str
    files: int
    tiles: int
    """Or outlines."""
    problems: tuple[str, ...] = ()
    """Tiles that were meant and could not be read."""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class TileSource:
    """Tiles of a run with their pixels, one slide after another."""

    run: RunDirectory
    tiles: TileConfig
    config: ExportConfig
    selection: Selection
    problems: list[str] = field(default_factory=list)

    @property
    def is_jpeg(self) -> bool:
        """Whether tiles are JPEG files in the store already."""
        return parse_codec(self.tiles.codec)[0] == "jpeg"

    def notes(self) -> tuple[str, ...]:
        """Return what is to be known of all tiles that were exported."""
        if self.is_jpeg:
            return ()
        return (
            f"tiles are stored as {self.tiles.codec}: encoded again as JPEG of quality {self.config.quality}",
        )

    def jpegs(self, slide_id: str, table: pa.Table) -> Iterator[tuple[int, bytes]]:
        """Yield row and JPEG file of every tile of a table that can be read; what cannot is a problem."""
        numbers = table.column("tile").to_numpy().tolist()
        expected = table.column("crc32c").to_pylist()
        for row, data in _stored(self.run.array(slide_id), numbers):
            try:
                yield row, self._jpeg(data, expected[row])
            except TileError as error:
                self.problems.append(f"{slide_id}: tile {numbers[row]}: {error}")

    def _jpeg(self, data: bytes | TileError | None, expected: int | None) -> bytes:
        if isinstance(data, TileError):
            raise data
        if data is None:
            raise TileError("no pixels are stored")
        if checksum(data) != expected:
            raise TileError(f"its {len(data)} bytes are not those that were written (CRC-32C)")
        if self.is_jpeg:
            return data
        rgb = decode_tile(data, self.tiles.codec, tile_size=self.tiles.tile_size)
        return encode_tile(rgb, f"jpeg:{self.config.quality}")


def _stored(array: Path, numbers: Sequence[int]) -> Iterator[tuple[int, bytes | TileError | None]]:
    """Yield row and stored bytes of tiles in ascending order; a shard is read once."""
    shard, chunks = -1, list[bytes | TileError | None]()
    for row, number in enumerate(numbers):
        if number // SHARD_TILES != shard:
            shard = number // SHARD_TILES
            try:
                chunks = list(read_shard(array, shard))
            except TileError as error:
                chunks = [error] * SHARD_TILES
        yield row, chunks[number % SHARD_TILES]
