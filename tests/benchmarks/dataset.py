"""``python -m tests.benchmarks dataset``: label, qc and split over a manifest of a million rows.

The run is made up, no pixel is stored: metrics are drawn, annotations are ellipses.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.benchmarks.measure import Plan, Result, Usage, judged, usage_of
from tests.benchmarks.peers import PLACE
from tests.written_runs import Tiling, slide_record, slide_table, write_slides
from wsi_pipeline.config import TileConfig
from wsi_pipeline.schema import CHANNELS, METRIC_COLUMNS
from wsi_pipeline.stages.run_directory import SlideRecord

ALL_BAR_S, MEMORY_BAR_MIB = 60.0, 4096.0
STRIDE_PX, SIDE_PX = 819, 1024
CONFIG = TileConfig(tissue="none", min_tissue=0.0, store="none")
_CORNERS = 120  # of an annotation, as a careful hand draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How large the run is."""

    slides: int = 128
    across: int = 98
    down: int = 80
    """Tiles of a slide along both sides: 7840, and 1 003 520 of 128."""
    polygons: int = 80
    """Annotations of a slide: 10 240 of 128."""


QUICK = Load(slides=8, across=20, down=20, polygons=10)


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per figure."""
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        found = results(Path(folder), QUICK if plan.quick else Load())
        yield from (result for result in found if plan.wants(result.name))


def results(folder: Path, load: Load) -> Iterator[Result]:
    """Yield a result per figure, measured below a folder."""
    made, annotations = make_run(folder, load)
    rows = f"{load.slides * load.across * load.down} rows of {load.slides} slides"
    usages: list[Usage] = []
    for step, flags in _steps(annotations).items():
        usage = usage_of([sys.executable, "-m", "wsi_pipeline", step, str(made), *flags, "--quiet"])
        usages.append(usage)
        command = f"wsi-pipeline {step} RUN"
        told = f"{rows}; {usage.cpu_s:.1f} CPU s, peak {usage.peak_bytes / 2**20:.0f} MiB"
        yield judged(
            f"dataset: {step}", [usage.wall_s], bar=None, unit="s", command=command, against=told
        )
    together = "wsi-pipeline label, qc, split"
    yield judged(
        "dataset: label, qc and split",
        [sum(usage.wall_s for usage in usages)],
        bar=ALL_BAR_S,
        unit="s",
        command=together,
        against=rows,
    )
    yield judged(
        "dataset: peak memory of label, qc and split",
        [max(usage.peak_bytes for usage in usages) / 2**20],
        bar=MEMORY_BAR_MIB,
        unit="MiB",
        command=together,
        against=rows,
    )


def _steps(annotations: Path) -> dict[str, list[str]]:
    return {
        "label": ["--annotations", str(annotations)],
        "qc": [],
        "split": ["--test", "0.2", "--validation", "0.2", "--seed", "1"],
    }


def make_run(folder: Path, load: Load) -> tuple[Path, Path]:
    """Make a run that stores no pixels, and annotations of it; return both folders."""
    annotations = folder / "annotations"
    annotations.mkdir(parents=True)
    tiles = load.across * load.down
    tiling = Tiling(across=load.across, tiles=tiles, tile_px=SIDE_PX, stride_px=STRIDE_PX)
    slides = ((_record(number, load), _table(number, tiling)) for number in range(load.slides))
    run = write_slides(folder / "RUN", slides, CONFIG)
    for number in range(load.slides):
        text = json.dumps(_annotations(number, load))
        (annotations / f"{_name(number)}.geojson").write_text(text, encoding="utf-8")
    return run.path, annotations


def _name(number: int) -> str:
    return f"slide_{number:04d}"


def _record(number: int, load: Load) -> SlideRecord:
    """Return a slide of two scanners and four centres; two slides are of one patient."""
    width, height = load.across * STRIDE_PX, load.down * STRIDE_PX
    return slide_record(
        _name(number),
        number,
        tiles=load.across * load.down,
        width=width,
        height=height,
        bounds_x=0,
        bounds_y=0,
        bounds_width=width,
        bounds_height=height,
        mpp_x=0.25,
        mpp_y=0.25,
        patient_id=f"P{number // 2}",
        scanner="AB"[number % 2],
        centre=f"C{number // 2 % 4}",
        config_digest=CONFIG.digest(),
        mpp_note="from the file",
    )


def _table(number: int, tiling: Tiling) -> pa.Table:
    rng = np.random.default_rng(number)
    tissue = rng.uniform(0.3, 1.0, tiling.tiles).astype(np.float32)
    fixed = {"mpp": np.full(tiling.tiles, 0.25, np.float32), "tissue": tissue}
    metrics = _metrics(rng, tiling.tiles, sharp=number % 2 == 0)
    return slide_table(_name(number), tiling, {**fixed, **metrics})


def _metrics(rng: np.random.Generator, tiles: int, *, sharp: bool) -> dict[str, NDArray[Any]]:
    """Return metrics as of H&E: their means spread a little, their quantiles in order."""
    found: dict[str, NDArray[Any]] = {
        "laplacian_var": rng.lognormal(6.0 if sharp else 5.0, 0.4, tiles),
        "background": rng.uniform(0, 0.6, tiles),
        "black_pixels": np.zeros(tiles),
        "white_pixels": rng.uniform(0, 0.01, tiles),
    }
    middle = dict(zip(CHANNELS, (170, 190, 140, 180, 150, 80, 195), strict=True))
    for name, mean in middle.items():
        means = rng.normal(mean, 8, tiles)
        found[f"{name}_mean"] = means
        found[f"{name}_std"] = rng.uniform(15, 40, tiles)
        for column in METRIC_COLUMNS:
            if column.name.startswith(f"{name}_q"):
                away = (int(column.name.rpartition("_q")[2]) - 50) * 0.6
                found[column.name] = np.clip(means + away, 0, 255).astype(np.uint8)
    return {
        name: values if values.dtype == np.uint8 else values.astype(np.float32)
        for name, values in found.items()
    }


def _annotations(number: int, load: Load) -> dict[str, Any]:
    """Return ellipses in a grid, as QuPath writes them."""
    rng = np.random.default_rng([number, 1])
    side = int(np.ceil(np.sqrt(load.polygons)))
    size_px = np.array([load.across, load.down]) * STRIDE_PX / side
    turns = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    circle = np.stack((np.cos(turns), np.sin(turns)), axis=-1)
    features = []
    for place in range(load.polygons):
        centre = (np.array([place % side, place // side]) + 0.5) * size_px
        ring = np.round(centre + circle * size_px * rng.uniform(0.2, 0.45, 2), 1).tolist()
        name = "cancer" if rng.random() < 0.5 else "benign"
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
        )
    return {"type": "FeatureCollection", "features": features}
