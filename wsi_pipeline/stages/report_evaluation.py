"""One network on some tiles, on the page: scores with intervals, calibration, logits, confusion."""

from collections.abc import Iterator, Mapping, Sequence
from math import log

import numpy as np

from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.asymmetry import LogitShift, shifts_from_learnt
from wsi_pipeline.evaluate.score.calibration_band import calibration_band
from wsi_pipeline.evaluate.score.confusion import Confusion, confusions
from wsi_pipeline.evaluate.score.logit_density import clouds
from wsi_pipeline.report.parts import Field, Heading, Lines, Notice, Part, Plane, Planes, Table
from wsi_pipeline.stages.evaluated import Evaluation, Row
from wsi_pipeline.stages.logit_figure import logit_lines
from wsi_pipeline.train.score_words import word_of

SHOWN = (
    *("balanced_accuracy", "accuracy", "recall", "specificity", "precision", "f1", "f1_macro"),
    *("auroc", "auroc_macro", "auprc", "auprc_macro", "log_loss", "brier", "ece"),
    *("brier_after_temperature", "ece_after_temperature"),
)
_OF_GROUPS = ("balanced_accuracy", "recall", "specificity", "auroc", "auroc_macro", "ece")
_LEAST_IN_BIN = 10
_MOST_GROUPS, _MOST_CLASSES, _MOST_PATIENTS = 20, 6, 400
_REPLICATES = 1000  # for curves and shifts; those of scores are in their table


def with_interval(row: Row | None) -> str | None:
    """Return a score with its interval, None where there is no score."""
    if row is None or row["value"] is None:
        return None
    return value_text(row["value"], row["low"], row["high"])


def value_text(value: float, low: float | None, high: float | None, *, digits: int = 3) -> str:
    """Return a number with the interval around it.

    >>> value_text(0.75, 0.5, 0.875)
    '0.750 (0.500 to 0.875)'
    """
    around = "" if low is None or high is None else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{around}"


def evaluation_parts(
    found: Evaluation, predictions: Predictions, learnt: Predictions | None, *, number: int
) -> Iterator[Part]:
    """Yield all that is shown of one evaluation.

    Parameters
    ----------
    predictions
        A row for every tile.
    learnt
        What the same network says of tiles that it was trained on, where that is known.
    number
        Of the evaluation on the page.

    Raises
    ------
    PipelineError
        A logit is no finite number.
    ValueError
        The training had other classes or logits.
    """
    yield Heading(title=found.title)
    for text in _notes(found):
        yield Notice(text=text, kind="warning")
    yield _score_table(found)
    for by in ("scanner", "centre"):
        yield from _by_group(found, by)
    yield from _by_patient(found, number)
    if not predictions.weights.any():
        yield Notice(text=f"{found.title}: no tile has a label, so there is nothing to compare.")
        return
    parts = (
        {found.what: predictions} if learnt is None else {"train": learnt, found.what: predictions}
    )
    yield from _calibration(found, parts)
    said = {part: each.judged() for part, each in parts.items()}
    yield logit_lines(f"{found.title}: logits", said)
    if learnt is not None:
        yield _shift_table(found, shifts_from_learnt(learnt, predictions, replicates=_REPLICATES))
    if predictions.logits.shape[1:] == (2,):
        yield _planes(found, parts)
    yield from _confusion(found, predictions)


def _score_table(found: Evaluation) -> Table:
    """Return a row for each score: of tiles at both cut-offs, then of slides and patients at 0.5."""
    rows = []
    for score in SHOWN:
        at = [
            found.row(score),
            found.row(score, cutoff="validation"),
            *(_of_several(found, score, unit) for unit in ("slide", "patient")),
        ]
        cells = [with_interval(row) for row in at]
        if any(cell is not None for cell in cells):
            rows.append((word_of(score), *cells))
    probability = validation_cutoff(found)
    chosen = "validation" if probability is None else f"{probability:.3f} (validation)"
    labels = ("score", "tiles", f"tiles at {chosen}", "slides", "patients")
    kept = [at for at in range(len(labels)) if any(row[at] is not None for row in rows)]
    return Table(
        caption=f"{_extent(found)}. At 0.5 where nothing else is said; a slide is the mean of its tiles",
        fields=tuple(Field(label=labels[at]) for at in kept),
        rows=[tuple(row[at] for at in kept) for row in rows],
    )


def _of_several(found: Evaluation, score: str, unit: str) -> Row | None:
    """Return the row of slides or patients; None of a single one, which says nothing."""
    row = found.row(score, unit=unit, aggregate="mean")
    return row if row is not None and (row[f"{unit}s"] or 0) > 1 else None


def _extent(found: Evaluation) -> str:
    row = next((row for row in found.scores if row["by"] == "all" and row["tiles"]), None)
    if row is None:
        return "Scores"
    if row["patients"] is None:
        return f"Scores of {row['tiles']} tiles"
    level = f", {100 * row['level']:.0f} % intervals in brackets" if row["level"] else ""
    patients = f"{row['patients']} patient{'' if row['patients'] == 1 else 's'}"
    return f"Scores of {row['tiles']} tiles of {patients}{level}"


def validation_cutoff(found: Evaluation) -> float | None:
    """Return the probability that was chosen on validation tiles."""
    row = found.row("cutoff", cutoff="validation")
    return None if row is None else row["value"]


def _notes(found: Evaluation) -> list[str]:
    """Return what a reader has to know: of the evaluation, then of the scores of all tiles."""
    whole = [
        row
        for row in found.scores
        if (row["unit"], row["by"]) == ("tile", "all") and row["score"] in SHOWN
    ]
    scores = list(dict.fromkeys(word_of(row["score"]) for row in whole))
    noted: dict[str, list[str]] = {}
    for row in whole:
        if row["note"]:
            noted.setdefault(row["note"], []).append(word_of(row["score"]))
    said = [str(text) for text in found.about.get("notes") or ()]
    for text, of in noted.items():
        named = list(dict.fromkeys(of))
        said.append(text if len(named) == len(scores) else f"{', '.join(named)}: {text}")
    return list(dict.fromkeys(said))


def _by_group(found: Evaluation, by: str) -> Iterator[Part]:
    """Yield a table with a row for each scanner or centre, where there are several."""
    rows = [row for row in found.scores if (row["unit"], row["by"]) == ("tile", by)]
    groups = {row["group"]: row for row in rows}
    if len(groups) < 2:
        return
    cells = {
        (row["group"], row["score"]): with_interval(row)
        for row in rows
        if row["cutoff"] in ("0.5", "none")
    }
    scores = [name for name in _OF_GROUPS if any(key[1] == name for key in cells)]
    shown = sorted(groups, key=lambda group: -groups[group]["tiles"])[:_MOST_GROUPS]
    fields = (
        Field(label=by),
        Field(label="tiles", kind="number"),
        Field(label="patients", kind="number"),
        *(Field(label=word_of(name)) for name in scores),
    )
    yield Table(
        caption=f"{found.title}: by {by}, at 0.5",
        fields=fields,
        rows=[
            (
                group,
                groups[group]["tiles"],
                groups[group]["patients"],
                *(cells.get((group, name)) for name in scores),
            )
            for group in sorted(shown)
        ],
    )
    if len(shown) < len(groups):
        yield Notice(text=f"{len(shown)} of {len(groups)} shown: those with most tiles.")


def _by_patient(found: Evaluation, number: int) -> Iterator[Part]:
    rows = [row for row in found.of_patients() if row["cutoff"] in ("0.5", "none")]
    counts = {row["group"]: row["tiles"] for row in rows}
    if not counts:
        return
    cells = {(row["group"], row["score"]): row["value"] for row in rows}
    names = ("accuracy", "recall", "specificity", "auroc", "auroc_macro", "brier", "ece")
    scores = [name for name in names if any(key[1] == name for key in cells)]
    shown = sorted(counts, key=lambda group: (-counts[group], group))[:_MOST_PATIENTS]
    fields = (
        Field(label="patient"),
        Field(label="tiles", kind="number"),
        *(Field(label=word_of(name), kind="number", digits=3) for name in scores),
    )
    yield Table(
        name=f"patients-{number}",
        caption=f"{found.title}: by patient, at 0.5",
        fields=fields,
        rows=[
            (group, counts[group], *(cells.get((group, name)) for name in scores))
            for group in sorted(shown)
        ],
    )
    if len(shown) < len(counts):
        yield Notice(text=f"{len(shown)} of {len(counts)} patients: those with most tiles.")


def _calibration(found: Evaluation, parts: Mapping[str, Predictions]) -> Iterator[Part]:
    """Yield how often what is said comes true, of the bins with enough tiles to say it."""
    bands = {part: calibration_band(each, replicates=_REPLICATES) for part, each in parts.items()}
    kept = {part: band.bins.weight >= _LEAST_IN_BIN for part, band in bands.items()}
    if not any(each.any() for each in kept.values()):
        return
    classes = parts[found.what].classes
    what = classes[1] if len(classes) == 2 else "the likeliest class"
    yield Lines(
        title=f"{found.title}: calibration",
        x_label=f"probability of {what}, bins of {_LEAST_IN_BIN} tiles or more",
        y_label="share that came true",
        series={
            part: (band.bins.forecast[kept[part]], band.bins.share[kept[part]])
            for part, band in bands.items()
        },
        bands={part: (band.low[kept[part]], band.high[kept[part]]) for part, band in bands.items()},
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        guide="diagonal",
    )


def _shift_table(found: Evaluation, moved: Sequence[LogitShift]) -> Table:
    """Return mean logits of each class and how far they have moved; of each logit where there are several."""
    several = any(each.logit is not None for each in moved)
    fields = (
        Field(label="class"),
        *((Field(label="logit"),) if several else ()),
        Field(label="mean, train", kind="number", digits=2),
        Field(label=f"mean, {found.what}", kind="number", digits=2),
        Field(label="shift"),
    )
    rows = [
        (each.name, *((_logit(each),) if several else ()), each.learnt, each.other, _moved(each))
        for each in moved
    ]
    notes = list(dict.fromkeys(each.interval.note for each in moved if each.interval.note))
    why = f" ({'; '.join(notes)})" if notes else ""
    caption = f"{found.title}: shift of the logits from tiles that were learnt{why}"
    return Table(caption=caption, fields=fields, rows=rows)


def _logit(shift: LogitShift) -> str:
    return "distance to the boundary" if shift.logit is None else f"of {shift.logit}"


def _moved(shift: LogitShift) -> str | None:
    if shift.shift is None:
        return None
    return value_text(shift.shift, shift.interval.low, shift.interval.high, digits=2)


def _planes(found: Evaluation, parts: Mapping[str, Predictions]) -> Planes:
    edges, held = clouds(parts)
    first, second = parts[found.what].classes
    planes = tuple(
        Plane(name=f"{each.name}, {each.part}", share=each.share, mean=each.mean) for each in held
    )
    return Planes(
        title=f"{found.title}: both logits",
        x_label=f"logit of {first}",
        y_label=f"logit of {second}",
        edges=edges,
        planes=planes,
    )


def _confusion(found: Evaluation, predictions: Predictions) -> Iterator[Part]:
    """Yield what was said of the tiles of each class, of all tiles and by scanner and centre."""
    if len(predictions.classes) > _MOST_CLASSES:
        return
    at: dict[str, float | None] = {"0.5" if len(predictions.classes) == 2 else "": None}
    probability = validation_cutoff(found)
    if probability is not None and 0 < probability < 1:
        at[f"{probability:.3f}"] = log(probability / (1 - probability))
    for by in (None, "scanner", "centre"):
        if by is not None and not _has_groups(predictions, by):
            continue
        counted = {name: confusions(predictions, by=by, cutoff=each) for name, each in at.items()}
        yield _confusion_table(found, predictions.classes, counted, by=by)


def _has_groups(predictions: Predictions, by: str) -> bool:
    known = predictions.table.column_names
    return by in known and 1 < len(predictions.labelled().groups(by).names) <= _MOST_GROUPS


def _confusion_table(
    found: Evaluation,
    classes: Sequence[str],
    counted: Mapping[str, Sequence[Confusion]],
    *,
    by: str | None,
) -> Table:
    columns = [
        Field(label=f"called {name}{f' at {at}' if at else ''}")
        for at in counted
        for name in classes
    ]
    rows = [
        (
            *(() if by is None else (alike[0].group,)),
            name,
            round(float(alike[0].counts[place].sum())),
            *(_share_text(each, place, said) for each in alike for said in range(len(classes))),
        )
        for alike in zip(*counted.values(), strict=True)
        for place, name in enumerate(classes)
        if alike[0].counts[place].any()
    ]
    lead = () if by is None else (Field(label=by),)
    fields = (*lead, Field(label="class"), Field(label="tiles", kind="number"), *columns)
    of = "confusion" if by is None else f"confusion by {by}"
    return Table(caption=f"{found.title}: {of}", fields=fields, rows=rows)


def _share_text(each: Confusion, own: int, said: int) -> str:
    weight = float(each.counts[own, said])
    count = f"{weight:.0f}" if weight == round(weight) else f"{weight:.1f}"
    return f"{count} ({100 * np.nan_to_num(each.shares[own, said]):.1f} %)"
