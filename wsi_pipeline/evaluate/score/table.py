"""Every score of predictions as a tidy table: of tiles, slides and patients, by scanner, centre and so on.

Intervals are those of patients drawn again (docs/concepts/statistics.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.aggregate import Units
from wsi_pipeline.evaluate.score.bootstrap import LEVEL, REPLICATES, Key, interval_of, replicated
from wsi_pipeline.evaluate.score.holders import holders, holders_of
from wsi_pipeline.evaluate.score.measures import (
    AFTER,
    VALIDATION,
    Measure,
    measures_of,
    statistic_of,
    values_of,
)
from wsi_pipeline.schema import SCORE_COLUMNS
from wsi_pipeline.tables import table_of_rows
from wsi_pipeline.train.metrics import Floats, Ints, Judged

WITH_INTERVAL = ("scanner", "centre")
WITHOUT_INTERVAL = ("patient_id", "slide_id")
"""Groups of one patient each: nobody can be drawn; their tiles alone are scored."""

_LACKING = "cannot be said: there is nothing of the kind to count"
_HEADLINE = (
    "accuracy",
    "balanced_accuracy",
    "recall",
    "specificity",
    "precision",
    "f1",
    "auroc",
    "auprc",
    "brier",
    "log_loss",
    "ece",
    "ece_after_temperature",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made."""

    replicates: int = REPLICATES
    seed: int = 0
    level: float = LEVEL


def score_table(
    predictions: Predictions,
    *,
    validation: Predictions | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> pa.Table:
    """Return every score with its interval, a row each; columns are ``SCORE_COLUMNS``.

    Parameters
    ----------
    predictions
        Of the tiles that are judged; those without a label are left out.
    validation
        Of the same network on tiles that it was chosen by: the cut-off ``validation`` and the temperature
        come from these. Without them there are only scores at 0.5, and before temperature.
    replicates
        How often patients are drawn; 0: no intervals.
    seed
        Of the draws.
    level
        Of the intervals.
    """
    resampling = Resampling(replicates=replicates, seed=seed, level=level)
    labelled = predictions.labelled()
    tiles = units_of(labelled)
    reference = None if validation is None else units_of(validation.labelled())
    rows: list[dict[str, Any]] = []
    for measure in measures_of(predictions.classes, reference):
        rows += _settled(measure)
        rows += _measured(tiles, measure, resampling, by="all", group="all")
        for by in WITH_INTERVAL:
            for group, part in _parts(labelled, tiles, by):
                rows += _measured(part, measure, resampling, by=by, group=group)
        if measure.unit == "tile":
            for by in WITHOUT_INTERVAL:
                rows += _each(labelled, tiles, measure, by=by)
    return table_of_rows(SCORE_COLUMNS, rows)


def units_of(predictions: Predictions) -> Units:
    """Return labelled tiles with their slides and patients."""
    return Units(
        judged=predictions.judged(),
        slides=predictions.groups("slide_id").codes,
        patients=predictions.groups("patient_id").codes,
    )


def _parts(predictions: Predictions, tiles: Units, by: str) -> Iterator[tuple[str, Units]]:
    """Yield the tiles of each group of a column; none where nothing is known of it."""
    table = predictions.table
    if by not in table.column_names or table.column(by).null_count == len(table):
        return
    groups = predictions.groups(by)
    for number, name in enumerate(groups.names):
        yield name, tiles.only(np.flatnonzero(groups.codes == number))


def _settled(measure: Measure) -> Iterator[dict[str, Any]]:
    """Yield what validation tiles have settled: cut-offs as probabilities, and the temperature."""
    names = {"unit": measure.unit, "aggregate": measure.aggregate or "none"}
    whole = {**names, "by": "all", "group": "all"}
    if (cutoff := measure.cutoffs.get(VALIDATION)) is not None:
        value = float(np.exp(-np.logaddexp(0.0, -cutoff)))
        note = "the cut-off itself, the best balanced accuracy on validation tiles"
        yield {**whole, "cutoff": VALIDATION, "score": "cutoff", "value": value, "note": note}
    if (found := measure.temperature) is not None:
        note = (
            "the temperature is at its bound: validation tiles do not settle it"
            if found.at_bound
            else ""
        )
        yield {
            **whole,
            "cutoff": "none",
            "score": "temperature",
            "value": found.value,
            "note": note,
        }


def _measured(
    tiles: Units, measure: Measure, resampling: Resampling, *, by: str, group: str
) -> Iterator[dict[str, Any]]:
    """Yield the scores of some tiles, with intervals."""
    units = measure.of(tiles)
    one_group = np.zeros(len(units.slides), np.int64)
    values = values_of(units, measure, one_group, groups=1)
    counts, held = _counts(tiles, measure, units), holders(units)
    drawn = _drawn(units, measure, resampling, patients=len(held))
    for (score, cutoff), value in values.items():
        row = {
            **_names(measure, by=by, group=group),
            **counts,
            "cutoff": cutoff,
            "score": score,
            "value": _known(value[0]),
            "level": resampling.level,
        }
        notes = [row["note"]]
        if np.isnan(value[0]):
            notes.append(_lacking(units.judged, measure.unit, one_group, 1)[0])
        elif resampling.replicates:
            draws = drawn.get((score, cutoff), np.zeros(0))
            of = holders_of(held, score, tiles.judged.classes)
            interval = interval_of(draws, len(held), effective=of.effective, level=resampling.level)
            row |= {"low": interval.low, "high": interval.high}
            notes += [interval.note, of.note if len(held) > 1 else ""]
        yield {**row, "note": "; ".join(note for note in notes if note)}


def _drawn(
    units: Units, measure: Measure, resampling: Resampling, *, patients: int
) -> Mapping[Key, Floats]:
    if patients < 2 or not resampling.replicates:
        return {}
    statistic, _ = statistic_of(units, measure, draws=resampling.replicates)
    found = replicated(
        statistic, patients=patients, replicates=resampling.replicates, seed=resampling.seed
    )
    return found.values


def _names(measure: Measure, *, by: str, group: str) -> dict[str, Any]:
    return {
        "unit": measure.unit,
        "aggregate": measure.aggregate or "none",
        "by": by,
        "group": group,
    }


def _counts(tiles: Units, measure: Measure, units: Units) -> dict[str, Any]:
    note = (
        f"{units.left_out} {measure.unit}s of several classes are left out"
        if units.left_out
        else ""
    )
    return {
        "tiles": len(tiles.slides),
        "slides": len(np.unique(tiles.slides)),
        "patients": len(np.unique(tiles.patients)),
        "note": note,
    }


def _each(
    predictions: Predictions, tiles: Units, measure: Measure, *, by: str
) -> Iterator[dict[str, Any]]:
    """Yield the scores of the tiles of every patient or slide."""
    groups = predictions.groups(by)
    count = len(groups.names)
    held = {
        "tiles": np.bincount(groups.codes, minlength=count),
        "slides": _distinct(tiles.slides, groups.codes, count),
        "patients": _distinct(tiles.patients, groups.codes, count),
    }
    lacking = _lacking(tiles.judged, measure.unit, groups.codes, count)
    for (score, cutoff), values in values_of(tiles, measure, groups.codes, groups=count).items():
        for number, name in enumerate(groups.names):
            counts = {word: int(numbers[number]) for word, numbers in held.items()}
            value = _known(values[number])
            yield {
                **_names(measure, by=by, group=name),
                **counts,
                "cutoff": cutoff,
                "score": score,
                "value": value,
                "note": lacking[number] if value is None else "",
            }


def _lacking(judged: Judged, unit: str, codes: Ints, count: int) -> list[str]:
    """Return why a score of each group cannot be said: by what class is not there, if one is not."""
    held = np.zeros((count, len(judged.classes)), np.bool_)
    held[codes, judged.targets] = True
    return [
        f"cannot be said: no {unit} of {' or '.join(absent)}"
        if (absent := _absent(row, judged))
        else _LACKING
        for row in held
    ]


def _absent(held: NDArray[np.bool_], judged: Judged) -> list[str]:
    return [name for name, there in zip(judged.classes, held, strict=True) if not there]


def _distinct(values: Ints, codes: Ints, count: int) -> Ints:
    """Return how many values each group has; a pair is one number, for numbers sort faster than rows."""
    most = int(values.max(initial=0)) + 1
    return np.bincount(np.unique(codes * most + values) // most, minlength=count)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def headline(table: pa.Table) -> list[tuple[str, str, str, str]]:
    """Return what is shown first: score, cut-off, value and interval of all tiles, in words."""
    names = (*_HEADLINE, "auroc_macro", "auprc_macro", "f1_macro", f"brier{AFTER}")
    return [
        (row["score"], row["cutoff"], f"{row['value']:.4f}", _interval(row))
        for row in table.select([each.name for each in SCORE_COLUMNS]).to_pylist()
        if (row["unit"], row["by"]) == ("tile", "all")
        and row["score"] in names
        and row["value"] is not None
    ]


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
