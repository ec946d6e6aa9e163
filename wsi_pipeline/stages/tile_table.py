"""One array's rows of the manifest, of tiles that were cut or imported, and what is said of all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.files import names_below
from wsi_pipeline.provenance import code_version
from wsi_pipeline.schema import METRIC_COLUMNS, SCHEMA_VERSION, TILE_COLUMNS
from wsi_pipeline.stages.stage import StepClock
from wsi_pipeline.store.layout import ArrayLayout, shard_name
from wsi_pipeline.tables import table_of

_BY_ROW = ("status", "reason", "crc32c", *(column.name for column in METRIC_COLUMNS))


def tile_table(values: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows of the manifest: columns that were known before, and what each tile gave."""
    measured = {name: [row.get(name) for row in rows] for name in _BY_ROW}
    return table_of(TILE_COLUMNS, {**values, **measured})


def unreadable_row(error: TileError) -> dict[str, Any]:
    """Return what the manifest says of a tile that could not be read."""
    return {"status": "unreadable", "reason": str(error)}


def unreadable_tiles(table: pa.Table) -> list[int]:
    """Return the tiles that could not be read."""
    statuses = table.column("status").to_pylist()
    return [tile for tile, status in enumerate(statuses) if status == "unreadable"]


def unreadable_reason(table: pa.Table) -> str:
    """Return a sentence on the tiles that could not be read, of which there is one at least."""
    bad = len(unreadable_tiles(table))
    return f"{bad} of {len(table)} tiles unreadable; the first: {_first_reason(table)}"


def refuse_all_unreadable(table: pa.Table) -> None:
    """Refuse a slide of whose tiles none can be read.

    Raises
    ------
    SlideError
        So it is; the message gives the first tile's reason.
    """
    if len(table) and len(unreadable_tiles(table)) == len(table):
        raise SlideError(
            f"none of its {len(table)} tiles can be read; the first: {_first_reason(table)}"
        )


def refuse_lost_shards(array: Path, layout: ArrayLayout) -> None:
    """Stop where shards are gone whose units are recorded: a slide that is done has all of them."""
    there = set(names_below(array)) if layout.shards else set()
    lost = [shard_name(shard) for shard in range(layout.shards) if shard_name(shard) not in there]
    if lost:
        raise FileNotFoundError(  # says nothing of the slide: the next command tries it again
            f"{len(lost)} of its shards {'is' if len(lost) == 1 else 'are'} gone, the first {lost[0]}: "
            "something else removes files of this run; run the same command again"
        )


def manifest_metadata(config: TileConfig, fingerprint: str) -> dict[str, str]:
    """Return what is written beside a manifest's columns."""
    return {
        "schema_version": SCHEMA_VERSION,
        "config_digest": config.digest(),
        "fingerprint": fingerprint,
        "code_version": code_version(),
    }


def seconds_columns(clock: StepClock) -> dict[str, float]:
    """Return the columns of slides.parquet that say where the time went."""
    steps = {f"seconds_{name}": seconds for name, seconds in clock.seconds.items()}
    return {**steps, "seconds": sum(clock.seconds.values())}


def _first_reason(table: pa.Table) -> str:
    return next(str(reason) for reason in table.column("reason").to_pylist() if reason)
