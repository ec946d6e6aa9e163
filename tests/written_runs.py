"""Runs that are written without slides: manifests, records and run.json as ``tile`` leaves them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.config import TileConfig
from wsi_pipeline.schema import METRIC_COLUMNS, SCHEMA_VERSION, TILE_COLUMNS, Column
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    publish_slides_table,
    write_record,
    write_run_json,
)
from wsi_pipeline.tables import table_of, write_table

_TILE_PX, _STRIDE_PX = 256, 205  # of slides without a tiling of their own
STARTED, ENDED = "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Square tiles in a grid, row by row; lengths in level-0 pixels."""

    across: int
    tiles: int
    """The last row may be shorter."""
    tile_px: int
    stride_px: int
    margin_px: int = 0
    """Above and on the left of the first tile."""

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every tile, ``(tiles,)``."""
        rows, columns = np.divmod(np.arange(self.tiles), self.across)
        return rows, columns

    @property
    def boxes0(self) -> dict[str, NDArray[np.int64]]:
        """Columns of the manifest that say where tiles are."""
        rows, columns = self.places
        side = np.full(self.tiles, self.tile_px)
        x, y = (self.margin_px + place * self.stride_px for place in (columns, rows))
        return {"x": x, "y": y, "width": side, "height": side}


def slide_table(
    slide_id: str,
    tiling: Tiling,
    values: Mapping[str, Any],
    *,
    columns: tuple[Column, ...] = TILE_COLUMNS,
) -> pa.Table:
    """Return the manifest of a slide: its tiles' places, and values by column; the others are null."""
    fixed = {
        "slide_id": [slide_id] * tiling.tiles,
        "tile": np.arange(tiling.tiles),
        "level": np.zeros(tiling.tiles, np.int8),
        "status": ["ok"] * tiling.tiles,
    }
    return table_of(columns, {**fixed, **tiling.boxes0, **values})


def slide_record(slide_id: str, source: int, *, tiles: int, **values: object) -> SlideRecord:
    """Return the record of a slide that is done; those of the same source are the same file."""
    fixed = {
        "tiles": tiles,
        "tiles_unreadable": 0,
        "size_bytes": 10_000 + source,
        "mtime_ns": 1,
        "fingerprint": f"{source:064d}",
        "source_crc32c": source,
    }
    return SlideRecord(
        slide_id=slide_id, path=f"{slide_id}.svs", status="done", values={**fixed, **values}
    )


def write_slides(
    path: Path, slides: Iterable[tuple[SlideRecord, pa.Table]], config: TileConfig
) -> RunDirectory:
    """Write a run of slides, one after another, or add them to one."""
    run = RunDirectory(path=path)
    write_run_json(run, config, started=STARTED, ended=ENDED)
    metadata = {"schema_version": SCHEMA_VERSION, "config_digest": config.digest()}
    for record, table in slides:
        write_table(run.manifest(record.slide_id), table, metadata=metadata)
        write_record(run, record)
    publish_slides_table(run)
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSlide:
    """One slide: a grid of tiles that overlap, of noise that is the slide's own."""

    slide_id: str
    patient_id: str | None = None
    scanner: str | None = "A"
    centre: str | None = "north"
    shares: dict[str, float] = field(default_factory=dict)
    """Mean share of each class over its tiles."""
    label: str | None = None
    """Of every tile."""
    across: int = 6
    down: int = 6
    source: int | None = None
    """Slides of the same number are the same file; each another one if not given."""
    looks: int | None = None
    """Slides of the same number look the same; each of its own if not given."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further columns of the slide table."""


def write_run(path: Path, slides: Sequence[WrittenSlide]) -> Path:
    """Write a run of these slides, or add them to one."""
    tables = [manifest_of(slide, number) for number, slide in enumerate(slides)]
    records = [
        record_of(slide, number, tiles=len(tables[number])) for number, slide in enumerate(slides)
    ]
    config = TileConfig(tile_size=_TILE_PX, store="none")
    return write_slides(path, zip(records, tables, strict=True), config).path


def manifest_of(slide: WrittenSlide, number: int) -> pa.Table:
    """Return the table of a slide's tiles; the same slide and number give the same table."""
    tiles = slide.across * slide.down
    tiling = Tiling(across=slide.across, tiles=tiles, tile_px=_TILE_PX, stride_px=_STRIDE_PX)
    rng = np.random.default_rng([5, number if slide.looks is None else slide.looks])
    values: dict[str, Any] = {
        "mpp": np.full(tiles, 0.5),
        "tissue": rng.uniform(0.3, 1, tiles),
        "crc32c": np.random.default_rng([6, number]).integers(0, 2**32, tiles),
    }
    for column in METRIC_COLUMNS:
        high = 255 if column.type == pa.uint8() else 200.0
        drawn = rng.uniform(1, high, tiles)
        values[column.name] = drawn.astype(column.type.to_pandas_dtype())
    table = slide_table(slide.slide_id, tiling, values)
    if slide.label is not None:
        words = pa.array([slide.label] * tiles).dictionary_encode()
        table = table.append_column("label", words)
    for name, share in slide.shares.items():
        shares = np.clip(rng.normal(share, 0.01, tiles), 0, 1).astype(np.float32)
        table = table.append_column(f"label_share_{name}", pa.array(shares))
    return table


def record_of(slide: WrittenSlide, number: int, *, tiles: int) -> SlideRecord:
    """Return a slide's record as ``tile`` writes it, with what later stages ask of it."""
    source = 1000 + number if slide.source is None else slide.source
    words = {"patient_id": slide.patient_id, "scanner": slide.scanner, "centre": slide.centre}
    return slide_record(slide.slide_id, source, tiles=tiles, **words, **slide.more)


def study() -> list[WrittenSlide]:
    """Return the study's cohort in small: 30 patients, a slide of each from two scanners."""
    rng = np.random.default_rng(30)
    slides = []
    for patient in range(30):
        cancer = float(rng.uniform(0, 0.6))
        centre = ("north", "south", "west")[patient % 3]
        slides += [
            WrittenSlide(
                slide_id=f"p{patient:02d}_{scanner}",
                patient_id=f"P{patient:02d}",
                scanner=scanner,
                centre=centre,
                shares={"cancer": cancer, "benign": 0.9 - cancer},
                label="cancer" if cancer > 0.3 else "benign",
            )
            for scanner in ("A", "B")
        ]
    return slides
