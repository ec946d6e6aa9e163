"""What ``evaluate`` shows of scores: a table for one network, means and spreads for several; JSON of all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_pipeline.evaluation import Evaluated, EvaluatedModels

_SHOWN = ("tiles", "balanced_accuracy", "accuracy", "auroc", "log_loss", "brier", "ece")


def show(found: "EvaluatedModels", *, json: bool, quiet: bool) -> None:
    """Print scores and where the predictions are; notes on standard error in any case."""
    from wsi_pipeline.cli import console

    if json:
        console.print_json(_whole(found))
    elif not quiet:
        _say(found)
    notes = dict.fromkeys(note for each in found.members for note in each.notes)
    for text in notes:
        console.complain(f"note: {text}")


def _say(found: "EvaluatedModels") -> None:
    from wsi_pipeline.cli import console

    if len(found.members) == 1:
        _say_one(found.members[0])
        return
    rows = [
        (each.score, f"{each.mean:.4f}", _cell(each.std), each.repeats) for each in found.spreads
    ]
    console.print_table(("score", "mean", "standard deviation", "models"), rows)
    for each in found.members:
        console.say(_place(each))
    if found.ensemble is not None:
        console.say(f"{found.ensemble.model}, the mean of their probabilities:")
        _say_one(found.ensemble)


def _say_one(found: "Evaluated") -> None:
    from wsi_pipeline.cli import console

    named = [name for name in found.scores if name in _SHOWN or name.startswith("recall_")]
    console.print_table(("score", "value"), [(name, _cell(found.scores[name])) for name in named])
    console.say(_place(found))


def _place(found: "Evaluated") -> str:
    epoch = "" if found.epoch is None else f", weights of epoch {found.epoch + 1} counted from 1"
    there = ", there already (--overwrite asks again)" if found.was_there else ""
    return f"{found.model}{epoch}: {found.tiles} tiles in {found.predictions}{there}"


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
        "ensemble": None if found.ensemble is None else _of(found.ensemble),
    }


def _of(found: "Evaluated") -> dict[str, Any]:
    return {
        "model": found.model,
        "predictions": str(found.predictions),
        "tiles": found.tiles,
        "epoch": found.epoch,
        "epochs_count_from": 0,
        "was_there": found.was_there,
        "scores": found.scores,
        "notes": found.notes,
    }
