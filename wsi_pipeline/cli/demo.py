"""``wsi-pipeline demo``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.compute.cluster import Cluster
    from wsi_pipeline.stages.demo import DemoRow
    from wsi_pipeline.stages.demo_cohort import DemoCohort


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to put slides and run; made if missing.")
    ] = Path("demo"),
    only_draw: Annotated[
        bool, typer.Option("--only-draw", help="Draw slides, table and annotations; run nothing.")
    ] = False,
    workers: options.WORKERS = None,
    quiet: options.QUIET = False,
) -> None:
    """Draw small slides with known truth and run the whole chain on them, offline."""
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import RunConfig, make_config
    from wsi_pipeline.stages.demo_cohort import draw_cohort

    where = options.workers_of(make_config(RunConfig, options.given(workers=workers)))
    console.set_up_logging(quiet=True, verbose=False)
    cohort = draw_cohort(folder)
    if not quiet:
        console.say(f"drew {len(cohort.truths)} slides in {folder / 'slides'}")
    if only_draw:
        raise typer.Exit
    rows, wrong = _chain(cohort, folder / "RUN", where, quiet=quiet)
    if not quiet:
        _show(rows, folder)
    for text in wrong:
        console.complain(f"wrong: {text}")
    raise typer.Exit(1 if wrong else 0)


def _chain(
    cohort: "DemoCohort", path: Path, where: "Cluster", *, quiet: bool
) -> "tuple[Sequence[DemoRow], list[str]]":
    """Run every command on the cohort and return its rows and what does not agree with the truth."""
    from wsi_pipeline import dataset, run
    from wsi_pipeline.cli import console
    from wsi_pipeline.labels.quality_config import QcConfig
    from wsi_pipeline.stages import demo as results
    from wsi_pipeline.stages.report import report_run
    from wsi_pipeline.stages.split import split_run

    with console.progress(slides="slides", quiet=quiet) as observer:
        tiled = run.tile(
            [str(cohort.table)], path, results.TILE_CONFIG, cluster=where, observer=observer
        )
        checked = run.verify(path, cluster=where)
    labelled = dataset.label(path, results.label_config(cohort), cluster=where)
    dataset.qc(path, QcConfig(), cluster=where)
    divided = split_run(path, results.SPLIT_CONFIG)
    report_run(path)
    rows = results.compare_with_truth(cohort, tiled.run, tiled.records)
    wrong = [f"{record.slide_id}: {record.reason}" for record in tiled.with_status("failed")]
    wrong += [
        *checked.findings,
        *(f"{slide.slide_id}: {slide.reason}" for slide in labelled.failed),
    ]
    wrong += [finding.text for finding in divided.audit.leaks]
    wrong += [f"{row.truth.slide.slide_id}: {text}" for row in rows for text in row.wrong]
    return rows, wrong


def _show(rows: "Sequence[DemoRow]", folder: Path) -> None:
    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.demo import COLUMNS

    console.print_table(COLUMNS, [row.cells() for row in rows])
    console.say(
        f"{sum(row.tiles for row in rows)} tiles cut, read again, labelled, looked at and split. Look at:"
    )
    for path, what in (
        ("RUN/report.html", "all of it on one page: open it in a browser"),
        ("RUN/overlays/", "each slide with its tissue and its tiles"),
        ("RUN/qc/index.html", "tiles that look alike, in clusters"),
        ("RUN/manifest/", "one row per tile: pandas.read_parquet"),
        ("RUN/slides.parquet", "one row per slide"),
        ("RUN/tiles.zarr/", "the pixels: zarr.open"),
    ):
        console.say(f"  {folder / path}  {what}")
    console.say(
        "one slide was blurred and one written on, to be found; north and south are two centres"
    )
