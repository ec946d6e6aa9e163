"""Runs whose tables are invented: a page over any number of slides without cutting any."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.config import TileConfig
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.schema import CHANNELS, QC_COLUMNS, TILE_COLUMNS, Column
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    write_record,
    write_slides_table,
)
from wsi_pipeline.tables import table_of, write_table

TILE_PX, STRIDE_PX = 1024, 819
SCANNERS, CENTRES = ("AT2", "S360", "Pannoramic"), ("north", "south")
LABELS = ("benign", "tumour", "stroma")
WORD = pa.dictionary(pa.int32(), pa.string())
LATER = (
    Column(name="patient_id", type=WORD, meaning=""),
    Column(name="scanner", type=WORD, meaning=""),
    Column(name="centre", type=WORD, meaning=""),
    Column(name="label", type=WORD, meaning=""),
    *QC_COLUMNS,
    Column(name="split", type=WORD, meaning=""),
)
"""What label, qc and split add."""


def write_run(folder: Path, *, slides: int, tiles: int, later: bool = True) -> RunDirectory:
    """Write a run of so many slides with so many tiles each, without pixels."""
    run = RunDirectory(path=folder)
    names = [f"slide_{number:04d}" for number in range(slides)]
    records = [_record(name, number, tiles) for number, name in enumerate(names)]
    for number, record in enumerate(records):
        columns = (*TILE_COLUMNS, *LATER) if later else TILE_COLUMNS
        values = _values(record, number, tiles, later=later)
        write_table(run.manifest(record.slide_id), table_of(columns, values), metadata={})
        _write_thumbnail(run.thumbnail(record.slide_id), number)
        write_record(run, record)
    write_slides_table(run, records)
    config = TileConfig(store="none")
    about = {
        "schema_version": "1",
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "versions": library_versions(),
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T01:00:00+00:00",
    }
    run.run_json.write_text(json.dumps(about))
    return run


def _record(name: str, number: int, tiles: int) -> SlideRecord:
    side = (int(np.ceil(np.sqrt(tiles))) + 2) * STRIDE_PX
    values = {
        "patient_id": f"P{number // 2:03d}",
        "scanner": SCANNERS[number % 3],
        "centre": CENTRES[number // 2 % 2],
        "tiles": tiles,
        "tiles_unreadable": 0,
        "format": "aperio",
        "bounds_x": 0,
        "bounds_y": 0,
        "bounds_width": side,
        "bounds_height": side,
        "mpp": 0.25,
        "tissue_share": 0.4,
        "stored_bytes": tiles * 150_000,
        "size_bytes": tiles * 100_000 + number,
        "source_crc32c": number,
        "fingerprint": f"{number:064x}",
        "seconds": tiles / 10,
    }
    return SlideRecord(slide_id=name, path=f"/slides/{name}.svs", status="done", values=values)


def _values(record: SlideRecord, number: int, tiles: int, *, later: bool) -> dict[str, Any]:
    random = np.random.default_rng([2026, number])
    across = int(np.ceil(np.sqrt(tiles)))
    columns, rows = np.arange(tiles) % across, np.arange(tiles) // across
    smooth = _hills(random, across)[rows, columns]
    sharp = np.exp(3 + 2 * (number % 3) + smooth + random.normal(0, 0.4, tiles))
    colours = {f"{name}_mean": 150 + 30 * smooth + random.normal(0, 9, tiles) for name in CHANNELS}
    values: dict[str, Any] = {
        "slide_id": [record.slide_id] * tiles,
        "tile": np.arange(tiles),
        "x": (columns + 1) * STRIDE_PX,
        "y": (rows + 1) * STRIDE_PX,
        "width": np.full(tiles, TILE_PX),
        "height": np.full(tiles, TILE_PX),
        "level": np.zeros(tiles, np.int8),
        "mpp": np.full(tiles, 0.25),
        "tissue": np.clip(0.9 + 0.5 * smooth + random.normal(0, 0.05, tiles), 0.25, 1),
        "status": ["ok"] * tiles,
        "reason": [None] * tiles,
        "crc32c": random.integers(0, 2**32, tiles),
        "laplacian_var": sharp,
        **colours,
    }
    if later:
        values |= _later(record, number, smooth, random)
    return values


def _later(
    record: SlideRecord, number: int, smooth: NDArray[np.float64], random: np.random.Generator
) -> dict[str, Any]:
    tiles = len(smooth)
    blur = random.random(tiles) < 0.05
    words = {name: [record.values[name]] * tiles for name in ("patient_id", "scanner", "centre")}
    part = ("train", "train", "validation", "test")[number // 2 % 4]
    flags = {
        column.name: np.zeros(tiles, np.bool_)
        for column in QC_COLUMNS
        if pa.types.is_boolean(column.type)
    }
    return {
        **words,
        "label": [LABELS[1 if each > 0.4 else 0 if each > -0.4 else 2] for each in smooth],
        "split": [part] * tiles,
        **flags,
        "qc_blur": blur,
        "outlier": blur,
        "outlier_reason": ["blur" if each else None for each in blur],
        "cluster": np.clip(5 + 3 * smooth + random.normal(0, 0.8, tiles), 0, 11).astype(np.int16),
    }


def _hills(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Return a smooth surface between about -1 and 1, as tissue changes from place to place."""
    coarse = random.normal(0, 0.7, (6, 6))
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))


def _write_thumbnail(path: Path, number: int) -> None:
    """Write a picture whose small copy has about as many bytes as one of stained tissue."""
    random = np.random.default_rng([7, number])
    tissue = np.clip(cv2.resize(_hills(random, 64), (512, 512)) + 0.4, 0, 1)[..., None]
    grain = cv2.resize(random.normal(0, 30, (150, 150, 3)), (512, 512))
    rgb = 240 - tissue * (60 * np.array([0.4, 1.6, 0.8]) + grain)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(rgb[..., ::-1], 0, 255).astype(np.uint8))
