"""What ``evaluate`` shows of scores: a table for one network, means and spreads for several; JSON of all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from wsi_pipeline.evaluation import Evaluated, EvaluatedModels

_BY_GROUP = ("balanced_accuracy", "auroc", "ece")
"""Shown of every scanner and centre; all others are in the table."""

_REMARKED = (*_BY_GROUP, "temperature")
"""Whose notes are shown: those of the others are the same."""


def show(
    found: "EvaluatedModels",
    drawn: Mapping[str, Any],
    swept: Mapping[str, Any],
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Print scores and where the predictions are; notes on standard error in any case.

    ``drawn`` is what ``draw_maps`` says and ``swept`` what ``evaluate_sweep`` says, for JSON.
    """
    from wsi_pipeline.cli import console

    if json:
        more = {"maps": drawn, "sweeps": swept}
        console.print_json({**_whole(found), **{name: each for name, each in more.items() if each}})
    elif not quiet:
        _say(found)
    every = [*found.members, *([] if found.ensemble is None else [found.ensemble])]
    for text in dict.fromkeys(note for each in every for note in each.notes):
        console.complain(f"note: {text}")


def _say(found: "EvaluatedModels") -> None:
    from wsi_pipeline.cli import console

    if len(found.members) == 1:
        _say_one(found.members[0])
        return
    rows = [
        (each.score, f"{each.mean:.4f}", _cell(each.std), each.repeats, _nested(found, each.score))
        for each in found.spreads
    ]
    heads = ("score", "mean", "standard deviation", "models", "95 % interval, seeds and patients")
    width = len(heads) if found.nested else len(heads) - 1
    console.print_table(heads[:width], [row[:width] for row in rows])
    for text in dict.fromkeys(each.note for each in found.nested.values() if each.note):
        console.say(f"intervals: {text}")
    for each in found.members:
        console.say(_place(each))
    if found.ensemble is not None:
        console.say(f"{found.ensemble.model}: the mean of their probabilities")
        _say_one(found.ensemble)


def _nested(found: "EvaluatedModels", score: str) -> str:
    interval = found.nested.get(score)
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _say_one(found: "Evaluated") -> None:
    from wsi_pipeline.cli import console
    from wsi_pipeline.evaluate.score.table import headline

    if found.table is not None:
        console.say(f"{found.model}: {_counts(found.table)}")
        shown = headline(found.table)
        console.print_table(("score", "cut-off", "value", "95 % interval over patients"), shown)
        for by in ("scanner", "centre"):
            if rows := _by_group(found.table, by):
                console.print_table((by, "tiles", "patients", *_BY_GROUP), rows)
        for text in _remarks(found.table):
            console.say(f"scores: {text}")
    console.say(_place(found))


def _rows(table: "pa.Table", **wanted: str) -> list[dict[str, Any]]:
    """Return rows of scores whose columns hold these words."""
    return [
        row for row in table.to_pylist() if all(row[name] == word for name, word in wanted.items())
    ]


def _counts(table: "pa.Table") -> str:
    from wsi_pipeline.cli import console

    row = next(row for row in _rows(table, unit="tile", by="all") if row["tiles"] is not None)
    tiles, slides, patients = (
        console.counted(row[f"{each}s"], each) for each in ("tile", "slide", "patient")
    )
    return f"{tiles} with a label, of {slides} and {patients}"


def _remarks(table: "pa.Table") -> list[str]:
    """Return what is said of the scores of all tiles, each once."""
    rows = [row for row in _rows(table, unit="tile", by="all") if row["score"] in _REMARKED]
    return list(dict.fromkeys(row["note"] for row in rows if row["note"]))


def _by_group(table: "pa.Table", by: str) -> list[tuple[object, ...]]:
    """Return a row of scores for each group; none where there is a single one."""
    groups: dict[str, dict[str, Any]] = {}
    for row in _rows(table, unit="tile", by=by):
        if row["cutoff"] in ("0.5", "none"):
            groups.setdefault(row["group"], {})[row["score"]] = row
    if len(groups) < 2:
        return []
    return [
        (
            group,
            first["tiles"],
            first["patients"],
            *(_with_interval(found, name) for name in _BY_GROUP),
        )
        for group, found in groups.items()
        if (first := next(iter(found.values())))
    ]


def _with_interval(found: Mapping[str, Any], name: str) -> str:
    row = found.get(name)
    if row is None or row["value"] is None:
        return ""
    interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{interval}"


def _place(found: "Evaluated") -> str:
    from wsi_pipeline.cli import console

    epoch = "" if found.epoch is None else f", weights of epoch {found.epoch + 1} counted from 1"
    there = ", there already (--overwrite asks again)" if found.was_there else ""
    tiles = console.counted(found.tiles, "tile")
    scores = f"; every score in {found.predictions.stem}.scores.parquet" if found.table else ""
    return f"{found.model}{epoch}: {tiles} in {found.predictions}{there}{scores}"


def _cell(value: object) -> str:
    if value is None:
        return "cannot be said"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _whole(found: "EvaluatedModels") -> Mapping[str, Any]:
    """Return everything; of one network at the top, of several by model."""
    if len(found.members) == 1:
        return _of(found.members[0])
    from dataclasses import asdict

    return {
        "models": [_of(each) for each in found.members],
        "spreads": [asdict(each) for each in found.spreads],
        "nested": {score: asdict(each) for score, each in found.nested.items()},
        "ensemble": None if found.ensemble is None else _of(found.ensemble),
    }


def _of(found: "Evaluated") -> dict[str, Any]:
    from wsi_pipeline.evaluate.ask.learnt import shift_rows

    return {
        "model": found.model,
        "predictions": str(found.predictions),
        "tiles": found.tiles,
        "epoch": found.epoch,
        "epochs_count_from": 0,
        "was_there": found.was_there,
        "scores": found.scores,
        "table": [] if found.table is None else found.table.to_pylist(),
        "logit_shifts": shift_rows(found.predictions),
        "notes": found.notes,
    }
