"""The command ``wsi-pipeline``: commands, and what each kind of error becomes."""

import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from wsi_pipeline import __version__
from wsi_pipeline.cli import (
    compare,
    compare_backends,
    demo,
    doctor,
    evaluate,
    export,
    import_tiles,
    info,
    label,
    qc,
    report,
    split,
    status,
    study,
    tile,
    train,
    tune,
    verify,
)
from wsi_pipeline.errors import ConfigError, PipelineError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="wsi-pipeline",
    help="Whole-slide images in; transferable, externally tested tile networks out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(info.info)
app.command()(tile.tile)
app.command("import")(import_tiles.import_tiles)
app.command()(status.status)
app.command()(status.missing)
app.command()(verify.verify)
app.command()(label.label)
app.command()(qc.qc)
app.command("compare")(compare.compare_groups)
app.command()(split.split)
app.command()(train.train)
app.command()(tune.tune)
app.command()(evaluate.evaluate)
app.command()(study.study)
app.command()(report.report)
app.command()(export.export)
app.command("compare-backends")(compare_backends.compare_backends)
app.command()(demo.demo)
app.command()(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"wsi-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Whole-slide images in; transferable, externally tested tile networks out.

    Exit codes: 0 all done, 1 some slides failed, 2 wrong usage or configuration, 130 interrupted.
    """


class _Interrupted(BaseException):
    """Ctrl-C, or the end of a job's time; not KeyboardInterrupt, which Typer keeps to itself."""


def main() -> None:
    """Run the command and leave with its exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name="wsi-pipeline")
    except ConfigError as error:
        _leave(f"error: {error}", EXIT_USAGE)
    except PipelineError as error:
        _leave(f"error: {error}", EXIT_FAILED)
    except (_Interrupted, KeyboardInterrupt):
        _leave("interrupted: what is finished is kept; the same command goes on", EXIT_INTERRUPTED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"stopping ...\n")  # a print from a handler may meet another one half done
    raise _Interrupted


def _leave(text: str, code: int) -> None:
    typer.echo(text, err=True)
    sys.exit(code)
