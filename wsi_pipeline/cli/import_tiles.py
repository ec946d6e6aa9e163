"""``wsi-pipeline import``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.import_tiles import ImportOutcome, ImportPlan

_NAMED = 5


def import_tiles(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder that HistoPrep has written, a folder of images, a CSV or Parquet table with a "
            "column 'path', or a Parquet file with a column of encoded images.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="RUN", help="Run directory.", show_default=False),
    ],
    tile_size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Side of a tile.", show_default="that of the images"),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="jpeg[:Q]|webp[:Q]|zstd|jpegxl",
            help="How tiles are kept; with jpeg, JPEG files byte for byte.",
            show_default="jpeg:90",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="µm per pixel of the images.", show_default="unknown"),
    ] = None,
    folders: Annotated[
        str | None,
        typer.Option(
            metavar="none|NAME[/NAME]",
            help="What the folders of a source are, as split/label.",
            show_default="label",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN",
            help="A column of the source under another name, as label=tumor; may be repeated.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            metavar="GREY", help="Grey level between tissue and background.", show_default="220"
        ),
    ] = None,
    keep_metrics: Annotated[
        bool | None,
        typer.Option(
            "--keep-metrics", help="Take the metrics of the source's table.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Redo arrays that are done.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print arrays and images; write nothing.")
    ] = False,
    workers: options.WORKERS = None,
    cluster: options.CLUSTER = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Make a run of tiles that exist already; the bytes of JPEG files are kept as they are.

    Many small images share an array: one per slide where slides are named, else one per 65 536 images.
    """
    from wsi_pipeline.config import RunConfig, make_config, read_yaml, split_values
    from wsi_pipeline.tiles.import_config import ImportConfig, parse_columns

    flags = options.given(
        tile_size=tile_size,
        codec=codec,
        mpp=mpp,
        folders=folders,
        columns=parse_columns(column) if column else None,
        threshold=threshold,
        keep_metrics=keep_metrics,
        workers=workers,
        cluster=cluster,
    )
    values = {**(read_yaml(config) if config else {}), **flags}
    what, how = split_values(values, ImportConfig, RunConfig)
    settings = make_config(ImportConfig, what)
    where = options.workers_of(make_config(RunConfig, how))
    from wsi_pipeline import dataset
    from wsi_pipeline.cli import console

    if dry_run:
        from wsi_pipeline.stages.import_tiles import plan_import

        _show_plan(plan_import(source, settings), json=json)
        return
    console.set_up_logging(quiet=quiet, verbose=verbose)
    with console.progress(slides="arrays", quiet=quiet) as observer:
        outcome = dataset.import_tiles(
            source, output, settings, overwrite=overwrite, cluster=where, observer=observer
        )
    raise typer.Exit(_show_outcome(outcome, json=json, quiet=quiet))


def _show_plan(plan: "ImportPlan", *, json: bool) -> None:
    from wsi_pipeline.cli import console

    images = len(plan.catalog.images)
    arrays = [{"slide_id": array.slide_id, "tiles": len(array.rows)} for array in plan.arrays]
    if json:
        values = {"kind": plan.catalog.kind, "tile_size": plan.config.tile_size, "tiles": images}
        console.print_json({**values, "arrays": arrays})
        return
    console.print_table(("array", "tiles"), [tuple(array.values()) for array in arrays])
    size = plan.config.tile_size
    console.say(
        f"would import {images} images of {size} x {size} px from a {plan.catalog.kind} into "
        f"{len(arrays)} arrays; nothing was written"
    )


def _show_outcome(outcome: "ImportOutcome", *, json: bool, quiet: bool) -> int:
    """Print what an import came to, failures last, and return the exit code."""
    from wsi_pipeline.cli import console

    failed, done = outcome.tiling.with_status("failed"), outcome.tiling.with_status("done")
    code = 1 if failed else 0
    if json:
        console.print_json({**_outcome_values(outcome), "exit_code": code})
    elif not quiet:
        console.say(_said(outcome))
        if again := outcome.plan.catalog.measured_again:
            names = ", ".join(again[:_NAMED]) + (", …" if len(again) > _NAMED else "")
            console.say(f"{len(again)} columns made anew, not taken from the source: {names}")
    for record in (*done, *failed):
        if record.reason:
            word = "note" if record.status == "done" else "failed"
            console.complain(f"{word}: {record.slide_id}: {record.reason}")
    return code


def _said(outcome: "ImportOutcome") -> str:
    """Return what was imported now, apart from what was there before."""
    done, new = outcome.tiling.with_status("done"), outcome.new
    there = f"{outcome.tiling.tiles} tiles in {len(done)} arrays of {outcome.tiling.run.path}"
    if done and not new:
        return f"nothing new: {there} were imported before"
    of_them = f", {len(new)} of them new" if len(new) < len(done) else ""
    return (
        f"{there}{of_them}: {outcome.count_new('tiles_kept')} JPEG files kept byte for byte, "
        f"{outcome.count_new('tiles_encoded')} images encoded as {outcome.plan.config.codec}, "
        f"{outcome.count_new('tiles_unreadable')} unreadable"
    )


def _outcome_values(outcome: "ImportOutcome") -> dict[str, Any]:
    names = ("tiles_kept", "tiles_encoded", "tiles_unreadable")
    return {
        "run": str(outcome.tiling.run.path),
        "kind": outcome.plan.catalog.kind,
        "tiles": outcome.tiling.tiles,
        "tiles_new": outcome.count_new("tiles"),
        **{name: outcome.count(name) for name in names},
        "columns_made_anew": list(outcome.plan.catalog.measured_again),
        "arrays": [
            {
                "slide_id": record.slide_id,
                "status": record.status,
                "reason": record.reason,
                "tiles": record.tiles,
            }
            for record in outcome.tiling.records
        ],
    }
