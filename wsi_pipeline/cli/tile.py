"""``wsi-pipeline tile``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.estimate import SlideEstimate
    from wsi_pipeline.stages.tile import TileOutcome


def tile(
    slides: options.SLIDES,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="RUN",
            help="Run directory, or its s3:// URL.",
            show_default=False,
        ),
    ],
    tile_size: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of a tile.", show_default="1024")
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Shared with the neighbour.", show_default="0.2"),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Exact µm per stored pixel.", show_default="as scanned"),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pyramid level to read as it is.", show_default="0"),
    ] = None,
    min_tissue: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Least tissue in a tile.", show_default="0.25"),
    ] = None,
    edge: Annotated[
        str | None,
        typer.Option(
            metavar="pad|drop|shift", help="Tiles reaching past the slide.", show_default="pad"
        ),
    ] = None,
    tissue: Annotated[
        str | None,
        typer.Option(
            metavar="otsu|hsv|histoprep|none|DIR",
            help="How tissue is found, or a folder of masks named by slide_id.",
            show_default="otsu",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="jpeg[:Q]|webp[:Q]|zstd|jpegxl",
            help="How tiles are kept.",
            show_default="jpeg:90",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="zarr|none", help="none: coordinates and metrics only.", show_default="zarr"
        ),
    ] = None,
    slide_mpp: Annotated[
        float | None,
        typer.Option(
            metavar="UM", help="µm per level-0 pixel of slides that do not say.", show_default=False
        ),
    ] = None,
    allow_upsample: Annotated[
        bool | None,
        typer.Option(
            "--allow-upsample", help="Let --mpp be finer than the scan.", show_default=False
        ),
    ] = None,
    whole_image: Annotated[
        bool | None,
        typer.Option(
            "--whole-image", help="One tile of each slide: all of it.", show_default=False
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="This job's share of the slides, for job arrays.",
            show_default="1/1",
        ),
    ] = None,
    on_error: Annotated[
        str | None,
        typer.Option(
            metavar="continue|stop", help="After a slide has failed.", show_default="continue"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Redo slides that are done.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print tiles, bytes and time; write nothing.")
    ] = False,
    workers: options.WORKERS = None,
    cluster: options.CLUSTER = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Cut slides into tiles: find tissue, read, measure, encode, store.

    Slides that are done are skipped when the command is given again.
    """
    from wsi_pipeline.config import read_yaml, tile_configs

    flags = options.given(
        tile_size=tile_size,
        overlap=overlap,
        mpp=mpp,
        level=level,
        min_tissue=min_tissue,
        edge=edge,
        tissue=tissue,
        codec=codec,
        store=store,
        slide_mpp=slide_mpp,
        allow_upsample=allow_upsample,
        whole_image=whole_image,
        part=part,
        on_error=on_error,
        workers=workers,
        cluster=cluster,
    )
    what, how = tile_configs(read_yaml(config) if config else {}, flags)
    where = options.workers_of(how)
    from wsi_pipeline import run
    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.tile import TileOptions

    part_number, parts = how.part_of
    carried_out = TileOptions(
        part=part_number,
        parts=parts,
        overwrite=overwrite,
        stop_on_error=how.on_error == "stop",
    )
    console.set_up_logging(quiet=quiet, verbose=verbose)
    if dry_run:
        found = run.estimate(slides, output, what, options=carried_out, cluster=where)
        _show_estimate(found, json=json, workers=where.workers)
        raise typer.Exit(1 if any(each.failed for each in found) else 0)
    with console.progress(slides="slides", quiet=quiet) as observer:
        outcome = run.tile(
            slides, output, what, options=carried_out, cluster=where, observer=observer
        )
    raise typer.Exit(_show_outcome(outcome, json=json, quiet=quiet))


def _show_outcome(outcome: "TileOutcome", *, json: bool, quiet: bool) -> int:
    """Print what a run came to, failures last, and return the exit code."""
    from wsi_pipeline.cli import console

    failed, done = outcome.with_status("failed"), outcome.with_status("done")
    code = 1 if failed else 0
    if json:
        console.print_json({**_outcome_values(outcome), "exit_code": code})
    elif not quiet:
        before = f" ({len(outcome.already_done)} before)" if outcome.already_done else ""
        skipped = (
            f", {len(outcome.with_status('skipped'))} skipped"
            if outcome.with_status("skipped")
            else ""
        )
        console.say(
            f"{len(done)} slides done{before}{skipped}, {len(failed)} failed; "
            f"{outcome.tiles} tiles in {outcome.run.path}"
        )
        if done:
            console.say("look at overlays/, query manifest/ and slides.parquet with pandas")
    for record in done:
        if record.reason:
            console.complain(f"note: {record.slide_id}: {record.reason}")
    for record in failed:
        console.complain(f"failed: {record.slide_id} ({record.path}): {record.reason}")
    return code


def _outcome_values(outcome: "TileOutcome") -> dict[str, Any]:
    return {
        "run": str(outcome.run.path),
        "tiles": outcome.tiles,
        "done": len(outcome.with_status("done")),
        "failed": len(outcome.with_status("failed")),
        "skipped": len(outcome.with_status("skipped")),
        "already_done": sorted(outcome.already_done),
        "slides": [
            {
                "slide_id": record.slide_id,
                "path": record.path,
                "status": record.status,
                "reason": record.reason,
                "tiles": record.tiles,
            }
            for record in outcome.records
        ],
    }


def _show_estimate(found: "Sequence[SlideEstimate]", *, json: bool, workers: int) -> None:
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    tiles = sum(each.tiles for each in found)
    stored_bytes = sum(each.stored_bytes for each in found)
    seconds = sum(each.seconds for each in found) / workers
    if json:
        total = {"tiles": tiles, "stored_bytes": stored_bytes, "seconds": seconds}
        console.print_json({**total, "slides": [asdict(each) for each in found]})
        return
    rows = [
        (
            each.slide_id,
            each.tiles,
            console.megabytes(each.stored_bytes),
            f"{each.seconds:.1f}",
            each.reason,
        )
        for each in found
    ]
    console.print_table(("slide", "tiles", "size", "core s", "note"), rows)
    console.say(
        f"would cut {tiles} tiles of {sum(each.tiles > 0 for each in found)} slides, "
        f"{console.megabytes(stored_bytes)}, in about "
        f"{console.duration(seconds)} with {workers} workers; nothing was written"
    )
