"""``wsi-pipeline study``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsi_pipeline.evaluate.study.config import StudyConfig
    from wsi_pipeline.study import PlannedUnit, StudyOutcome
    from wsi_pipeline.train.config import WorkConfig

FILE = Annotated[
    Path,
    typer.Argument(metavar="STUDY.yaml", help="Arms, experiments and repeats.", show_default=False),
]
RUN = Annotated[
    str,
    typer.Option("--run", metavar="RUN", help="Whose tiles are trained on.", show_default=False),
]
OUT = Annotated[
    str,
    typer.Option(
        "-o", "--out", metavar="OUT", help="Folder of tables, figures and page.", show_default=False
    ),
]
EXTERNAL = Annotated[
    list[str] | None,
    typer.Option(
        "--external",
        metavar="RUN2",
        help="Another run, such as another centre's; once for each.",
        show_default="none",
    ),
]
ONLY = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="NAME",
        help="An experiment of the file; once for each.",
        show_default="all of them",
    ),
]
REPEATS = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        metavar="N",
        min=1,
        help="Trainings of every arm.",
        show_default="the file's, or 5",
    ),
]
PART = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="This job's share of the networks, for job arrays.",
        show_default="1/1",
    ),
]


def study(
    file: FILE,
    run: RUN,
    out: OUT,
    external: EXTERNAL = None,
    only: ONLY = None,
    repeats: REPEATS = None,
    part: PART = None,
    device: options.DEVICE = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show networks, steps and what is done; write nothing."),
    ] = False,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Train every arm of a study with every seed, ask what its experiments ask, and show what happened.

    The same command goes on where one was cut off. Whoever finds every network done writes OUT/study.html,
    tables and figures. Exit code 130 after a signal: a checkpoint of the last step was written before.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import RunConfig, make_config, read_yaml
    from wsi_pipeline.evaluate.study.config import chosen, study_config, work_of

    options.needs_extra("train", "torch", "timm")
    flags = options.given(repeats=repeats)
    asked = chosen(study_config({**read_yaml(file), **flags}, file.parent), only or [])
    options.refuse_own_run(run, external or [], flag="external")
    work = work_of(asked, options.given(device=device))
    share = make_config(RunConfig, options.given(part=part)).part_of
    console.set_up_logging(quiet=quiet, verbose=verbose)
    if dry_run:
        from wsi_pipeline.study import planned

        units = planned(run, asked, out=out, externals=external or (), work=work)
        _show_plan(units, share, json=json, quiet=quiet)
        return
    _carry_out(run, asked, out, external or (), share, work, json=json, quiet=quiet)


def _carry_out(
    run: str,
    asked: "StudyConfig",
    out: str,
    externals: "Sequence[str]",
    share: tuple[int, int],
    work: "WorkConfig",
    *,
    json: bool,
    quiet: bool,
) -> None:
    """Train and ask, shown as it goes on; the first rank of several does the talking."""
    from wsi_pipeline.cli.ask_progress import ask_progress
    from wsi_pipeline.cli.train_table import train_progress
    from wsi_pipeline.loader.world import this_world
    from wsi_pipeline.study import study
    from wsi_pipeline.train.peers import PeerError

    is_first = this_world().rank == 0
    silent = quiet or json or not is_first
    try:
        with train_progress(quiet=silent) as observer, ask_progress(quiet=silent) as ask_observer:
            found = study(
                run,
                asked,
                out=out,
                externals=externals,
                work=work,
                part=share,
                observer=observer,
                ask_observer=ask_observer,
            )
    except PeerError as error:  # the rank that has ended says why
        raise typer.Exit(1) from error
    if is_first:
        _show(found, json=json, quiet=quiet)
    if found.stopped:
        raise typer.Exit(130)


def _show_plan(
    units: "Sequence[PlannedUnit]", share: tuple[int, int], *, json: bool, quiet: bool
) -> None:
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    part, parts = share
    own = {unit.model for unit in units[part - 1 :: parts]}
    if json:
        models = [{**asdict(unit), "own": unit.model in own} for unit in units]
        console.print_json({"models": models, "written": False})
    elif not quiet:
        names = ("model", "seed", "state", "questions", "tiles", "steps")
        rows = [[getattr(unit, name) for name in names] for unit in units if unit.model in own]
        console.print_table(names, rows)
        left = [unit for unit in units if unit.model in own and unit.state != "done"]
        steps = sum(unit.steps for unit in left if unit.state in ("to do", "begun"))
        mine = console.counted(len(own), "network")
        if parts > 1:
            mine = f"part {part} of {parts}: {len(own)} of {console.counted(len(units), 'network')}"
        console.say(
            f"{mine}, {len(left)} not done; at most {steps:,} steps of training; nothing was written "
            "(--dry-run)"
        )


def _show(found: "StudyOutcome", *, json: bool, quiet: bool) -> None:
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    if json:
        console.print_json(
            {
                "out": str(found.out),
                "done": found.done,
                "missing": found.missing,
                "answers": [asdict(each) for each in found.answers],
            }
        )
    elif not quiet:
        for each in found.answers:
            console.say(f"{each.experiment}: {each.text}")
        if found.missing:
            console.say(
                f"{console.counted(len(found.done), 'network')} done, {len(found.missing)} not, such as "
                f"{found.missing[0]}; whoever finds all of them done writes tables, figures and page"
            )
        else:
            console.say(f"every score with its mean and spread: {found.out / 'table2.csv'}")
            console.say(f"all of it on one page, for a browser: {found.out / 'study.html'}")
