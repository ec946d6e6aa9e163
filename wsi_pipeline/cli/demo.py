"""``wsi-pipeline demo``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.demo import DemoRow
    from wsi_pipeline.stages.tile import TileOutcome
    from wsi_pipeline.stages.verify import VerifyOutcome


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to put slides and run; made if missing.")
    ] = Path("demo"),
    workers: options.WORKERS = None,
    quiet: options.QUIET = False,
) -> None:
    """Draw small slides with known truth and run the whole chain on them, offline."""
    from wsi_pipeline import run
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import RunConfig, make_config
    from wsi_pipeline.stages.demo import DEMO_CONFIG, compare_with_truth, draw_cohort

    where = options.workers_of(make_config(RunConfig, options.given(workers=workers)))
    console.set_up_logging(quiet=True, verbose=False)
    cohort = draw_cohort(folder)
    if not quiet:
        console.say(f"drew {len(cohort.slides)} slides in {folder / 'slides'}")
    with console.progress(slides="slides", quiet=quiet) as observer:
        outcome = run.tile(
            [str(cohort.table)], folder / "RUN", DEMO_CONFIG, cluster=where, observer=observer
        )
        checked = run.verify(folder / "RUN", cluster=where)
    rows = compare_with_truth(cohort, outcome)
    if not quiet:
        _show(rows, outcome, checked, folder)
    right = (
        all(row.right for row in rows)
        and not checked.findings
        and not outcome.with_status("failed")
    )
    raise typer.Exit(0 if right else 1)


def _show(
    rows: "Sequence[DemoRow]", outcome: "TileOutcome", checked: "VerifyOutcome", folder: Path
) -> None:
    from wsi_pipeline.cli import console

    console.print_table(
        ("slide", "scanner", "tiles", "tissue found", "tissue drawn", "median sharpness"),
        [row.cells() for row in rows],
    )
    console.say(
        f"{outcome.tiles} tiles cut, {checked.tiles} read again and compared: "
        f"{len(checked.findings)} findings. Look at:"
    )
    for path, what in (
        ("RUN/overlays/", "each slide with its tissue and its tiles"),
        ("RUN/slides.parquet", "one row per slide"),
        ("RUN/manifest/", "one row per tile: pandas.read_parquet"),
        ("RUN/tiles.zarr/", "the pixels: zarr.open"),
    ):
        console.say(f"  {folder / path}  {what}")
    console.say("dark_1 is fluorescence: nuclei shine, and the stroma between them is not found")
