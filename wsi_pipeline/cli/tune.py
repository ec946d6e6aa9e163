"""``wsi-pipeline tune``."""

from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.train.tune import TuneOutcome
    from wsi_pipeline.train.tune_config import TuneConfig

STUDY = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="RUN/tunings/NAME is its folder, RUN/models/NAME-0000 its first."
    ),
]
SAMPLER = Annotated[
    str | None,
    typer.Option(
        metavar="grid|tpe|gp|random", help="How settings are chosen.", show_default="grid"
    ),
]
TRIALS = Annotated[
    int | None,
    typer.Option(metavar="N", help="Trainings of all processes.", show_default="the grid, or 30"),
]
SCORE = Annotated[
    str | None,
    typer.Option(
        metavar="balanced_accuracy|auroc|log_loss|loss|brier|ece",
        help="Of the validation part; the test part cannot be named.",
        show_default="balanced_accuracy",
    ),
]


def tune(
    run: options.RUN,
    study: STUDY = "tune",
    sampler: SAMPLER = None,
    trials: TRIALS = None,
    score: SCORE = None,
    device: options.DEVICE = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be searched; nothing is written.")
    ] = False,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Search for settings of train on the validation part: the study's grid of λ, or any paths of the file.

    The same command goes on where one was cut off, and works beside others on the same study, on any node
    that shares the run's folder. RUN/tunings/NAME/best.yaml is for train --config.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import make_config, read_yaml
    from wsi_pipeline.train.tune_config import TuneConfig

    options.needs_extra("train", "torch", "timm", "optuna")
    flags = options.given(sampler=sampler, trials=trials, score=score)
    search = make_config(TuneConfig, {**(read_yaml(config) if config else {}), **flags})
    console.set_up_logging(quiet=quiet, verbose=verbose)
    if dry_run:
        _show_plan(search, json=json, quiet=quiet)
        return
    from wsi_pipeline import tuning
    from wsi_pipeline.cli.train_table import train_progress

    work = tuning.work_of(search, options.given(device=device))
    with train_progress(quiet=quiet or json) as observer:
        outcome = tuning.tune(run, search, study=study, work=work, observer=observer)
    _show(outcome, search, json=json, quiet=quiet)


def _show_plan(search: "TuneConfig", *, json: bool, quiet: bool) -> None:
    from wsi_pipeline.cli import console

    if json:
        console.print_json(
            {"space": search.space, "trials": search.trials_in_all, "written": False}
        )
    elif not quiet:
        rows = [
            (each.path, each.kind, ", ".join(map(str, each.choices or (each.low, each.high))))
            for each in search.dimensions
        ]
        console.print_table(("setting", "how", "values"), rows)
        console.say(
            f"{search.trials_in_all} trials by {search.sampler}, {search.score} of validation decides; "
            "nothing was written (--dry-run)"
        )


def _show(outcome: "TuneOutcome", search: "TuneConfig", *, json: bool, quiet: bool) -> None:
    from wsi_pipeline.cli import console

    counts = {state: outcome.count(state) for state in ("complete", "pruned", "fail", "running")}
    if json:
        about = {"study": str(outcome.folder), **counts, "trials": outcome.trials}
        console.print_json({**about, "best": outcome.best, "rows": list(outcome.rows)})
    elif not quiet:
        names = ("trial", "state", search.score, "epochs", *search.space)
        console.print_table(names, [[row[name] for name in names] for row in outcome.rows])
        console.say(
            f"{outcome.folder}: {counts['complete']} of {outcome.trials} trials complete, {counts['pruned']} "
            f"ended early, {counts['fail']} failed, {counts['running']} worked on by others"
        )
        if outcome.best is not None:
            console.say(f"best: {outcome.folder / 'best.yaml'}")
    for row in outcome.rows:
        if row["state"] == "fail":
            console.complain(f"trial {row['trial']} failed: {row['reason']}")
