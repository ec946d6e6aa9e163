"""What networks say of tiles, without networks: two classes, the second rare, patients that differ."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, softmax

from wsi_pipeline.evaluate.predictions import CLASSES, Predictions
from wsi_pipeline.evaluate.score.table import score_table
from wsi_pipeline.evaluate.sweep.columns import SWEEP_COLUMNS
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.tables import table_of_rows, write_table
from wsi_pipeline.train.metrics import evaluation

NAMES = ("benign", "cancer <b>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invented:
    """How tiles and logits are drawn."""

    tiles: int = 240
    patients: int = 12
    means: tuple[float, float] = (-3.0, 3.0)
    """Of the margin in each class."""
    logits: int = 1
    share: float = 0.25
    """Of the second class."""
    apart: float = 0.5
    """Standard deviation between patients."""
    seed: int = 0
    classes: tuple[str, str] = NAMES
    more: Mapping[str, Any] = field(default_factory=dict)
    """Columns in place of those that are drawn."""


def invented(about: Invented) -> Predictions:
    """Return predictions; slides are named after their patients, of two scanners."""
    random = np.random.default_rng([8, about.seed])
    number = np.arange(about.tiles)
    patient = number % about.patients
    own = random.normal(0, about.apart, about.patients)[patient]
    target = (random.random(about.tiles) < about.share).astype(np.int64)
    margin = random.normal(0, 1, about.tiles) + np.array(about.means)[target] + own
    columns = {
        "slide_id": [f"P{each:02d}_a" for each in patient],
        "tile": number.astype(np.int32),
        "target": target,
        "weight": np.ones(about.tiles, np.float32),
        **_said(margin.astype(np.float32), random, about.logits),
        "patient_id": [f"P{each:02d}" for each in patient],
        "scanner": np.array(["AT2", "S360"])[patient % 2].tolist(),
        **about.more,
    }
    metadata = {CLASSES: json.dumps(about.classes), "schema_version": SCHEMA_VERSION}
    table = pa.table(columns).replace_schema_metadata(metadata)
    return Predictions(table=table, classes=about.classes)


def _said(
    margin: NDArray[np.float32], random: np.random.Generator, logits: int
) -> "dict[str, pa.Array[Any] | NDArray[Any]]":
    if logits == 1:
        return {"logit": margin, "probability": expit(margin)}
    first = random.normal(0, 1, len(margin)).astype(np.float32)
    both = np.stack([first, first + margin], axis=1)
    return {"logit": pa.array(list(both)), "probability": pa.array(list(softmax(both, axis=1)))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of an invented network's answers is written, and where."""

    model: str = "net"
    what: str = "test"
    scored: bool = True
    """Whether there is a table of scores."""
    learnt: Invented | None = field(default_factory=lambda: Invented(seed=77))
    """Tiles that the network was trained on."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Of the JSON, in place of what is there."""


def write_evaluation(run: Path, tiles: Invented, asked: Asked) -> Path:
    """Write what ``evaluate`` leaves in a run, and return the predictions."""
    folder = run / "models" / asked.model
    path = folder / "predictions" / f"{asked.what}.parquet"
    found = invented(tiles)
    write_table(path, found.table)
    validation = invented(dataclasses.replace(tiles, seed=1000 + tiles.seed))
    if asked.scored:
        table = score_table(found, validation=validation, replicates=50)
        write_table(path.with_suffix(".scores.parquet"), table)
    scores = evaluation(found.logits, found.targets, found.weights, classes=found.classes)
    said: dict[str, Any] = {"run": str(run), "part": "test", "where": None, "epoch": 4, "notes": []}
    whole = {**said, "scores": scores, "classes": found.classes, **asked.about}
    path.with_suffix(".json").write_text(json.dumps(whole), encoding="utf-8")
    if asked.learnt is not None:
        write_table(folder / "logits" / "train.parquet", invented(asked.learnt).table)
    return path


def write_sweep(run: Path, model: str, *, what: str = "test-box_blur-source", lost: float) -> Path:
    """Write a sweep of blur whose scores fall by so much in all."""
    levels = np.arange(1.0, 9.0)
    fallen = lost * (levels - 1) / 7
    rows = [
        {
            "shift": "box_blur",
            "apply_at": "source",
            "level": level,
            "is_clean": level == 1,
            "tiles": 100,
            "laplacian_var_median": 400 / level**2,
            "balanced_accuracy": 0.9 - down,
            "auroc": 0.95 - down,
        }
        for level, down in zip(levels.tolist(), fallen.tolist(), strict=True)
    ]
    path = run / "models" / model / "sweeps" / f"{what}.parquet"
    write_table(path, table_of_rows(SWEEP_COLUMNS, rows))
    return path
