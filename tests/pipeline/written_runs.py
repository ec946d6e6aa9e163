"""Runs that are written without slides: manifests, records and run.json as ``tile`` leaves them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsi_pipeline.config import TileConfig
from wsi_pipeline.schema import TILE_COLUMNS
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    publish_slides_table,
    write_record,
    write_run_json,
)
from wsi_pipeline.tables import table_of, write_table

TILE_PX, STRIDE_PX = 256, 205


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
    run = RunDirectory(path=path)
    config = TileConfig(tile_size=TILE_PX, store="none")
    write_run_json(run, config, started="2026-01-01T00:00:00+00:00", ended=None)
    run.manifests.mkdir(exist_ok=True)
    for number, slide in enumerate(slides):
        table = manifest_of(slide, number)
        write_table(run.manifest(slide.slide_id), table, metadata={"schema_version": "1"})
        write_record(run, record_of(slide, number, tiles=len(table)))
    publish_slides_table(run)
    return path


def manifest_of(slide: WrittenSlide, number: int) -> pa.Table:
    """Return the table of a slide's tiles; the same slide and number give the same table."""
    tiles = slide.across * slide.down
    rng = np.random.default_rng([5, number if slide.looks is None else slide.looks])
    rows, columns = np.divmod(np.arange(tiles), slide.across)
    values: dict[str, Any] = {
        "slide_id": [slide.slide_id] * tiles,
        "tile": np.arange(tiles),
        "x": columns * STRIDE_PX,
        "y": rows * STRIDE_PX,
        "width": np.full(tiles, TILE_PX),
        "height": np.full(tiles, TILE_PX),
        "level": np.zeros(tiles),
        "mpp": np.full(tiles, 0.5),
        "tissue": rng.uniform(0.3, 1, tiles),
        "status": ["ok"] * tiles,
        "crc32c": np.random.default_rng([6, number]).integers(0, 2**32, tiles),
    }
    for column in TILE_COLUMNS:
        if column.name not in values and column.name != "reason":
            high = 255 if column.type == pa.uint8() else 200.0
            values[column.name] = rng.uniform(1, high, tiles).astype(column.type.to_pandas_dtype())
    table = table_of(TILE_COLUMNS, values)
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
    values = {
        "tiles": tiles,
        "tiles_unreadable": 0,
        "size_bytes": 10_000 + source,
        "mtime_ns": 1,
        "fingerprint": f"{source:064d}",
        "source_crc32c": source,
        "patient_id": slide.patient_id,
        "scanner": slide.scanner,
        "centre": slide.centre,
        **slide.more,
    }
    return SlideRecord(
        slide_id=slide.slide_id, path=f"{slide.slide_id}.svs", status="done", values=values
    )


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
