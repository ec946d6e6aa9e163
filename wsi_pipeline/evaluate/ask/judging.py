"""Predictions judged and written down: scores beside the tables, of one network or of several as one."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.ensembles import mean_predictions
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.evaluate.question import PredictionFiles, Question, key_of, prediction_files
from wsi_pipeline.evaluate.score.bootstrap import REPLICATES
from wsi_pipeline.evaluate.score.table import score_table
from wsi_pipeline.files import exists, publish_bytes, remove_file
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.tables import read_table, table_metadata, write_table
from wsi_pipeline.train.metrics import evaluation
from wsi_pipeline.train.prediction_table import EPOCH

SCORES_VERSION = 3
"""Counted up whenever the same predictions would be scored otherwise: older scores are then made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What a network is worth on some tiles."""

    model: str
    predictions: Path
    """One row per tile, as ``schema.PREDICTION_COLUMNS`` and the manifest have it."""
    scores: Mapping[str, Any]
    """As in metrics.parquet; None where a score cannot be said."""
    notes: tuple[str, ...]
    """What a reader of the scores has to know."""
    epoch: int | None
    """From 0: the one whose weights were asked; None of an ensemble."""
    tiles: int
    """Asked for; ``scores["tiles"]`` are those with a label."""
    was_there: bool
    """Whether an earlier command had asked all of them."""
    table: pa.Table | None = field(repr=False)
    """Every score with its interval, as ``schema.SCORE_COLUMNS``; None where no tile has a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is written down of predictions, but for their scores."""

    model: str
    files: PredictionFiles
    about: Mapping[str, Any] = field(repr=False)
    """What was asked, for the reader."""
    key: str
    """Digest of everything that the predictions depend on."""
    notes: tuple[str, ...] = ()
    was_there: bool = False


def judge(said: Said, *, validation: Predictions | None, replicates: int = REPLICATES) -> Evaluated:
    """Score stored predictions, and write what was asked and what came of it beside them.

    Parameters
    ----------
    validation
        The same network's of validation tiles, for cut-offs and temperature.
    replicates
        Draws of patients of each interval.

    Raises
    ------
    PipelineError
        A logit is no finite number.
    OutputError
        It cannot be written.
    """
    found = read_predictions(said.files.table)
    said = replace(said, notes=(*said.notes, *_without_tiles(found)))
    scored = key_of(said.key, _digest(validation), SCORES_VERSION, said.notes, replicates)
    before = said.files.read_about() or {}
    if before.get("scored") == scored and exists(said.files.scores):
        return _evaluated(said, before["scores"], read_table(said.files.scores), tiles=len(found))
    scores = _scores(found)
    table = None
    if scores["tiles"] == 0:
        remove_file(said.files.scores)
    else:
        table = score_table(found, validation=validation, replicates=replicates)
        write_table(said.files.scores, table, metadata={"schema_version": SCHEMA_VERSION})
    content = {
        "model": said.model,
        **said.about,
        "epochs_count_from": 0,
        "key": said.key,
        "scored": scored,
        "replicates": replicates,
        "tiles": len(found),
        "classes": list(found.classes),
        "notes": list(said.notes),
        "scores": scores,
        "versions": library_versions(),
    }
    publish_bytes(said.files.about, _json(content))
    return _evaluated(said, scores, table, tiles=len(found))


def _scores(found: Predictions) -> dict[str, Any]:
    """Return the scores of tiles; balanced accuracy only where two classes have tiles, as in the table."""
    scores = evaluation(found.logits, found.targets, found.weights, classes=found.classes)
    known = [name for name in found.classes if scores[f"recall_{name}"] is not None]
    return scores if len(known) > 1 else {**scores, "balanced_accuracy": None}


def _without_tiles(found: Predictions) -> tuple[str, ...]:
    """Return what is to be said of classes without tiles, where any tile has a label."""
    there = set(found.judged().targets.tolist()) if found.weights.any() else set()
    absent = [name for number, name in enumerate(found.classes) if there and number not in there]
    if not absent:
        return ()
    return (f"no tile of {' or '.join(absent)}: scores that need one cannot be said",)


def _evaluated(
    said: Said, scores: Mapping[str, Any], table: pa.Table | None, *, tiles: int
) -> Evaluated:
    return Evaluated(
        model=said.model,
        predictions=said.files.table,
        scores=scores,
        notes=said.notes,
        epoch=said.about.get("epoch"),
        tiles=tiles,
        was_there=said.was_there,
        table=table,
    )


def _digest(validation: Predictions | None) -> str | None:
    if validation is None:
        return None
    hashed = hashlib.sha256()
    for each in (validation.logits, validation.targets, validation.weights):
        hashed.update(np.ascontiguousarray(each).tobytes())
    for by in ("slide_id", "patient_id"):  # scores of slides and patients go by these
        groups = validation.groups(by)
        hashed.update(repr((by, groups.names)).encode())
        hashed.update(np.ascontiguousarray(groups.codes).tobytes())
    return hashed.hexdigest()[:16]


def judge_ensemble(
    folder: Path,
    question: Question,
    members: Sequence[Said],
    *,
    validations: Sequence[Predictions | None],
    replicates: int = REPLICATES,
) -> Evaluated:
    """Write and score what several networks say as one, and in ``ensemble.json`` who they are.

    Parameters
    ----------
    folder
        Of the ensemble, like a model's.
    members
        Whose predictions are stored.
    validations
        Their predictions of validation tiles. Where these are not the same tiles, as of folds, there is no
        cut-off and no temperature: what one member was chosen by, another has learnt.
    replicates
        Draws of patients of each interval.

    Raises
    ------
    ConfigError
        They are of other classes or were asked for other tiles.
    OutputError
        It cannot be written.
    """
    names = [each.model for each in members]
    validation, notes = _validation_of_all(validations)
    shared = {name: members[0].about[name] for name in ("run", "part", "where", "tta", "shortcut")}
    said = Said(
        model=folder.name,
        files=prediction_files(folder, question),
        about={**shared, "members": names},
        key=key_of({each.model: each.key for each in members}),
        notes=notes,
    )
    is_there = said.files.hold(said.key)
    if not is_there:
        found = mean_predictions([read_predictions(each.files.table) for each in members])
        metadata = table_metadata(found.table)
        metadata.pop(EPOCH, None)
        said.files.forget()
        write_table(said.files.table, found.table, metadata=metadata)
    publish_bytes(folder / "ensemble.json", _json({"members": names}))
    said = replace(said, was_there=is_there)
    return judge(said, validation=validation, replicates=replicates)


def _validation_of_all(
    validations: Sequence[Predictions | None],
) -> tuple[Predictions | None, tuple[str, ...]]:
    """Return what members say of validation tiles as one, or what is to be said where they cannot."""
    known = [each for each in validations if each is not None]
    if len(known) < len(validations):
        return None, ()
    try:
        return mean_predictions(known), ()
    except ConfigError:
        note = (
            "no cut-off by validation tiles and no temperature: members have other validation tiles"
        )
        return None, (note,)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
