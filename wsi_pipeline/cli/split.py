"""``wsi-pipeline split``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.labels.leakage import Audit
    from wsi_pipeline.labels.part_counts import PartCount
    from wsi_pipeline.labels.split_config import SplitConfig
    from wsi_pipeline.stages.split import SplitOutcome

_MOST_LINES = 20  # of a kind of finding; --json gives all

TARGET = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run directory, or its URL; with --check also a CSV or Parquet table made elsewhere.",
        show_default=False,
    ),
]
CHECK = Annotated[
    bool,
    typer.Option("--check", help="Change nothing: look for leakage, exit 1 where there is any."),
]
GROUP = Annotated[
    str | None,
    typer.Option(
        metavar="patient|slide|centre", help="What is never divided.", show_default="patient"
    ),
]
TEST = Annotated[
    str | None,
    typer.Option(metavar="5|0.2", help="Groups in test, or their share.", show_default="0.2"),
]
VALIDATION = Annotated[
    str | None,
    typer.Option(metavar="4|0.1", help="Groups in validation, or their share.", show_default="0.1"),
]
FOLDS = Annotated[
    int | None,
    typer.Option(metavar="K", help="Folds of what is not in test.", show_default="none"),
]
REPEATS = Annotated[
    int | None, typer.Option(metavar="R", help="Independent draws.", show_default="1")
]
HOLD_OUT = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Such groups are the test part: scanner=B.",
        show_default="none",
    ),
]
STRATIFY = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS", help="What every part gets its share of.", show_default="label,scanner"
    ),
]
FROM = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FILE.csv",
        help="A list with split and patient_id or slide_id (the key from_file).",
        show_default="none",
    ),
]
SEED = Annotated[int | None, typer.Option(metavar="N", help="Draws others.", show_default="0")]
OVERWRITE = Annotated[
    bool, typer.Option("--overwrite", help="Forget the earlier split and draw all again.")
]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Show the split and write nothing.")]


def split(
    run: TARGET,
    check: CHECK = False,
    test: TEST = None,
    validation: VALIDATION = None,
    folds: FOLDS = None,
    repeats: REPEATS = None,
    group: GROUP = None,
    stratify: STRATIFY = None,
    hold_out: HOLD_OUT = None,
    from_file: FROM = None,
    seed: SEED = None,
    overwrite: OVERWRITE = False,
    dry_run: DRY_RUN = False,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Divide patients into train, validation and test; refuse leakage.

    Groups that have a part keep it when slides are added. --check audits any table of tiles or slides.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.split import split_run
    from wsi_pipeline.stages.split_audit import audit_split

    flags = options.given(
        test=test,
        validation=validation,
        folds=folds,
        repeats=repeats,
        group=group,
        stratify=stratify,
        from_file=from_file,
        seed=seed,
        hold_out=hold_out or None,
    )
    console.set_up_logging(quiet=quiet, verbose=verbose)
    if check:
        _refuse_flags(flags, overwrite=overwrite, dry_run=dry_run, config=config)
        _leave_with(audit_split(run), json=json, quiet=quiet)
    settings = _settings(config, flags)
    outcome = split_run(run, settings, overwrite=overwrite, dry_run=dry_run)
    _show(outcome, json=json, quiet=quiet, written=not dry_run)


def _settings(config: Path | None, flags: dict[str, object]) -> "SplitConfig":
    from wsi_pipeline.config import make_config, read_yaml
    from wsi_pipeline.labels.split_config import SplitConfig

    return make_config(SplitConfig, {**(read_yaml(config) if config else {}), **flags})


def _refuse_flags(
    flags: dict[str, object], *, overwrite: bool, dry_run: bool, config: Path | None
) -> None:
    from wsi_pipeline.errors import ConfigError

    others = [f"--{name.replace('_', '-')}" for name in flags]
    others += [
        name
        for name, given in (
            ("--overwrite", overwrite),
            ("--dry-run", dry_run),
            ("--config", config is not None),
        )
        if given
    ]
    if others:
        raise ConfigError(
            f"--check and {', '.join(others)}: a check divides nothing; leave one out"
        )


def _leave_with(audit: "Audit", *, json: bool, quiet: bool) -> None:
    """Show an audit and leave: exit 1 where something leaks."""
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    if json:
        console.print_json({**asdict(audit), "leaks": len(audit.leaks)})
    elif not quiet:
        console.say(
            f"checked {', '.join(audit.checked)}: {len(audit.leaks)} leaks, {len(audit.reports)} to look at"
        )
        for text in audit.unchecked:
            console.say(f"not checked: {text}")
    _complain_of(audit)
    raise typer.Exit(1 if audit.leaks else 0)


def _complain_of(audit: "Audit") -> None:
    from collections import Counter

    from wsi_pipeline.cli import console

    told: Counter[str] = Counter()
    for finding in (*audit.leaks, *audit.reports):
        told[finding.kind] += 1
        if told[finding.kind] <= _MOST_LINES:
            console.complain(f"{'leak' if finding.is_leak else 'look at'}: {finding.text}")
    for kind, count in told.items():
        if count > _MOST_LINES:
            console.complain(f"and {count - _MOST_LINES} more of {kind}; --json lists all")


def _show(outcome: "SplitOutcome", *, json: bool, quiet: bool, written: bool) -> None:
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    plan = outcome.plan
    if json:
        console.print_json(
            {
                "parts": [asdict(count) for count in outcome.counts],
                "groups_kept": plan.kept,
                "groups_drawn": plan.drawn,
                "problems": outcome.problems,
                "audit": asdict(outcome.audit),
                "written": written,
            }
        )
    elif not quiet:
        names = ("repeat", "part", "groups", "patients", "slides", "tiles", "scanners", "labels")
        console.print_table(names, [_cells(count) for count in outcome.counts])
        done = "" if written else "; nothing was written (--dry-run)"
        console.say(f"{plan.kept} groups kept their part, {plan.drawn} are new{done}")
    for text in outcome.problems:
        console.complain(f"note: {text}")
    _complain_of(outcome.audit)


def _cells(count: "PartCount") -> tuple[object, ...]:
    words = [
        ", ".join(f"{name} {number}" for name, number in held.items())
        for held in (count.scanners, count.labels)
    ]
    counted = (count.groups, count.patients, count.slides, count.tiles)
    return (count.repeat, count.part, *counted, *words)
