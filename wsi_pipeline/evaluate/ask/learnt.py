"""What a network says of tiles that it was trained on, beside what it says of others. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.evaluate.score.asymmetry import LogitShift, shifts_from_learnt
from wsi_pipeline.files import exists
from wsi_pipeline.manifest import manifest_columns, read_manifest
from wsi_pipeline.tables import read_table


def learnt_tiles(
    model: Path, classes: tuple[str, ...], patients: Mapping[str, str]
) -> Predictions | None:
    """Return the logits that a training has kept of its probe, or None where it has kept none.

    Parameters
    ----------
    model
        The model's folder.
    classes
        In order of their number.
    patients
        Slide to patient, of the run that the network was trained on.

    Raises
    ------
    ConfigError
        The file is damaged.
    """
    path = model / "logits" / "train.parquet"
    if not exists(path):
        return None
    try:
        table = read_table(path)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"{path}: expected logits of training tiles, as train writes them ({error}); move the file away"
        ) from error
    if "probability" not in table.column_names:  # of a training by an earlier version
        table = table.append_column("probability", pa.nulls(table.num_rows, pa.float32()))
    if "patient_id" not in table.column_names:
        slides = table.column("slide_id").cast(pa.string()).to_pylist()
        known = pa.array([patients.get(str(each)) for each in slides], pa.string())
        table = table.append_column("patient_id", known)
    return Predictions(table=table, classes=classes)


def shift_rows(predictions: Path) -> list[dict[str, Any]]:
    """Return how far each class's logits lie from those of tiles that were learnt, for JSON.

    Parameters
    ----------
    predictions
        ``RUN/models/NAME/predictions/WHAT.parquet``. Without logits of the training, as of an ensemble, or
        without labels there are no rows.

    Raises
    ------
    ConfigError
        It is no table of predictions, or the logits of the training are damaged.
    PipelineError
        A logit is no finite number.
    ValueError
        The training had other classes.
    """
    model = predictions.parent.parent
    found = read_predictions(predictions)
    if not exists(model / "logits" / "train.parquet") or not found.weights.any():
        return []
    learnt = learnt_tiles(model, found.classes, _patients(model.parent.parent))
    return [] if learnt is None else [_row(each) for each in shifts_from_learnt(learnt, found)]


def _patients(run: Path) -> dict[str, str]:
    """Return the patient of each slide of a run that has one."""
    if "patient_id" not in manifest_columns(run):
        return {}
    pairs = read_manifest(run, columns=["slide_id", "patient_id"])
    words: list[Any] = [pairs.column(name).cast(pa.string()) for name in pairs.column_names]
    named = pa.table(dict(zip(pairs.column_names, words, strict=True)))
    known = named.filter(pc.is_valid(named.column("patient_id")))
    rows = known.group_by(["slide_id", "patient_id"]).aggregate([]).to_pylist()
    return {str(row["slide_id"]): str(row["patient_id"]) for row in rows}


def _row(shift: LogitShift) -> dict[str, Any]:
    return {
        "class": shift.name,
        "logit": shift.logit,
        "train": shift.learnt,
        "here": shift.other,
        "shift": shift.shift,
        "low": shift.interval.low,
        "high": shift.interval.high,
        "note": shift.interval.note,
    }
