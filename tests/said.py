"""Predictions that were never made by a network, for tests of what is counted from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from wsi_pipeline.evaluate.predictions import Predictions

TWO = ("benign", "cancer")
THREE = ("a", "b", "c")


def predictions_of(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    patients: Sequence[str],
    classes: tuple[str, ...] = TWO,
    **columns: NDArray[Any],
) -> Predictions:
    """Return predictions of these tiles; slides are patients unless given."""
    z, y = np.asarray(logits, np.float32), np.asarray(targets, np.int64)
    said: Any = pa.array(z) if z.ndim == 1 else pa.array(z.tolist(), pa.list_(pa.float32()))
    known: dict[str, Any] = {
        "slide_id": np.asarray(patients),
        "tile": np.arange(len(y), dtype=np.int32),
        "target": pa.array(y, mask=y < 0),
        "weight": np.ones(len(y), np.float32),
        "logit": said,
        "probability": said,
        "patient_id": np.asarray(patients),
    }
    known.update(columns)
    table = pa.table(known)
    return Predictions(table=table, classes=classes)


def drawn_predictions(
    seed: int,
    *,
    patients: int = 12,
    tiles: int = 240,
    classes: tuple[str, ...] = TWO,
    separation: float = 1.2,
    digits: int = 1,
) -> Predictions:
    """Return tiles of patients who are unlike each other, two slides each, with ties among the logits."""
    random = np.random.default_rng(seed)
    slide = np.concatenate([np.arange(2 * patients), random.integers(0, 2 * patients, tiles)])
    patient, count = slide // 2, len(classes)
    y = np.concatenate([np.arange(count), random.integers(0, count, len(slide) - count)])
    z = random.normal(0, 1, (len(y), count)) + separation * np.eye(count)[y]
    z = np.round(z + random.normal(0, 0.5, (patients, count))[patient], digits)
    return predictions_of(
        z[:, 1] - z[:, 0] if count == 2 else z,
        y,
        patients=[f"P{each:02d}" for each in patient],
        classes=classes,
        slide_id=np.array([f"S{each:03d}" for each in slide]),
        scanner=np.array(["A", "B"])[patient % 2],
        weight=random.integers(1, 4, len(y)).astype(np.float32),
    )
