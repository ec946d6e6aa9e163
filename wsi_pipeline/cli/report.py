"""``wsi-pipeline report``."""

from typing import Annotated

import typer

from wsi_pipeline.cli import options


def report(
    run: options.RUN,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAME,...",
            help="Columns of the manifest by which tiles on slides can be coloured.",
            show_default="those that are looked at most",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="NAME,...",
            help="Columns whose groups are compared in sharpness and colour.",
            show_default="scanner,centre",
        ),
    ] = None,
    max_mb: Annotated[
        float | None,
        typer.Option("--max-mb", metavar="MB", help="Largest page.", show_default="20"),
    ] = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Write RUN/report.html: one page with everything about a run, to be opened from the disk.

    It shows what there is, and names the command for what there is not yet.
    """
    from dataclasses import asdict

    from wsi_pipeline.cli import console
    from wsi_pipeline.config import make_config, read_yaml
    from wsi_pipeline.report.settings import ReportConfig
    from wsi_pipeline.stages.report import report_run

    flags = options.given(columns=_names(columns), groups=_names(by), max_mb=max_mb)
    how = make_config(ReportConfig, {**(read_yaml(config) if config else {}), **flags})
    console.set_up_logging(quiet=quiet, verbose=verbose)
    outcome = report_run(run, how)
    if json:
        console.print_json({**asdict(outcome), "path": str(outcome.path)})
    elif not quiet:
        size = console.megabytes(outcome.size_bytes)
        console.say(f"{outcome.path}: {outcome.slides} slides, {outcome.tiles} tiles, {size}")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
