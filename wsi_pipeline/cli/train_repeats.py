"""``wsi-pipeline train --repeats``: one training with several seeds."""

from typing import TYPE_CHECKING

import typer

ENDS = {"done": "trained", "already": "was trained before", "stopped": "stopped"}
"""What became of a training, in words."""

if TYPE_CHECKING:
    from wsi_pipeline.train.config import TrainConfig, WorkConfig
    from wsi_pipeline.tuning import RepeatsOutcome


def train_repeats(  # one parameter a flag of train
    run: str,
    learnt: "TrainConfig",
    work: "WorkConfig",
    *,
    repeats: int,
    name: str,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Train all of them and show how far they are apart."""
    from wsi_pipeline.cli.train_table import train_progress
    from wsi_pipeline.loader.world import this_world
    from wsi_pipeline.train.peers import PeerError
    from wsi_pipeline.tuning import repeat

    is_first = this_world().rank == 0
    try:
        with train_progress(quiet=quiet or not is_first) as observer:
            outcome = repeat(
                run,
                learnt,
                count=repeats,
                name=name,
                work=work,
                overwrite=overwrite,
                observer=observer,
            )
    except PeerError as error:  # the rank that has ended says why
        raise typer.Exit(1) from error
    if is_first:
        _show(outcome, run, name, json=json, quiet=quiet)
    if outcome.outcomes[-1].ended == "stopped":
        raise typer.Exit(130)


def _show(outcome: "RepeatsOutcome", run: str, name: str, *, json: bool, quiet: bool) -> None:
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    if json:
        models = [
            {
                "model": str(each.directory.path),
                "ended": each.ended,
                "best_epoch": each.best_epoch,
                "best_loss": each.best_loss,
            }
            for each in outcome.outcomes
        ]
        console.print_json({"models": models, "scores": [asdict(each) for each in outcome.spreads]})
    elif not quiet:
        rows = [
            (
                each.score,
                f"{each.mean:.4f}",
                "" if each.std is None else f"{each.std:.4f}",
                each.repeats,
            )
            for each in outcome.spreads
        ]
        console.print_table(("validation", "mean", "standard deviation", "repeats"), rows)
        for words, names in _by_end(outcome).items():
            console.say(
                f"{words}: {', '.join(names)} in {outcome.outcomes[0].directory.path.parent}"
            )
        console.say(what_next(run, name, stopped=outcome.outcomes[-1].ended == "stopped"))


def _by_end(outcome: "RepeatsOutcome") -> dict[str, list[str]]:
    """Return the names of models by what became of them."""
    found: dict[str, list[str]] = {}
    for each in outcome.outcomes:
        found.setdefault(ENDS[each.ended], []).append(each.directory.path.name)
    return found


def what_next(run: str, name: str, *, stopped: bool) -> str:
    """Return what is to be done after a training, in a line."""
    if stopped:
        return "next: the same command goes on"
    return f"next: wsi-pipeline evaluate {run} --model {name}"
