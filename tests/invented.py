"""Runs whose tables are invented: a page over any number of slides without cutting any."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.written_runs import Tiling, slide_record, slide_table, write_slides
from wsi_pipeline.config import TileConfig
from wsi_pipeline.schema import CHANNELS, QC_COLUMNS, TILE_COLUMNS, Column
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord

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
    records = [_record(f"slide_{number:04d}", number, tiles) for number in range(slides)]
    made = (
        (record, _table(record, number, tiles, later=later))
        for number, record in enumerate(records)
    )
    run = write_slides(folder, made, TileConfig(store="none"))
    for number, record in enumerate(records):
        _write_thumbnail(run.thumbnail(record.slide_id), number)
    return run


def _record(name: str, number: int, tiles: int) -> SlideRecord:
    side = (int(np.ceil(np.sqrt(tiles))) + 2) * STRIDE_PX
    return slide_record(
        name,
        number,
        tiles=tiles,
        patient_id=f"P{number // 2:03d}",
        scanner=SCANNERS[number % 3],
        centre=CENTRES[number // 2 % 2],
        format="aperio",
        bounds_x=0,
        bounds_y=0,
        bounds_width=side,
        bounds_height=side,
        mpp=0.25,
        tissue_share=0.4,
        stored_bytes=tiles * 150_000,
        size_bytes=tiles * 100_000 + number,
        seconds=tiles / 10,
    )


def _table(record: SlideRecord, number: int, tiles: int, *, later: bool) -> pa.Table:
    random = np.random.default_rng([2026, number])
    across = int(np.ceil(np.sqrt(tiles)))
    tiling = Tiling(
        across=across, tiles=tiles, tile_px=TILE_PX, stride_px=STRIDE_PX, margin_px=STRIDE_PX
    )
    smooth = _hills(random, across)[tiling.places]
    sharp = np.exp(3 + 2 * (number % 3) + smooth + random.normal(0, 0.4, tiles))
    colours = {f"{name}_mean": 150 + 30 * smooth + random.normal(0, 9, tiles) for name in CHANNELS}
    values: dict[str, Any] = {
        "mpp": np.full(tiles, 0.25),
        "tissue": np.clip(0.9 + 0.5 * smooth + random.normal(0, 0.05, tiles), 0.25, 1),
        "crc32c": random.integers(0, 2**32, tiles),
        "laplacian_var": sharp,
        **colours,
    }
    if not later:
        return slide_table(record.slide_id, tiling, values)
    values |= _later(record, number, smooth, random)
    return slide_table(record.slide_id, tiling, values, columns=(*TILE_COLUMNS, *LATER))


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
