"""``wsi-pipeline export``."""

from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsi_pipeline.stages.export import Exported


def export(
    run: options.RUN,
    geojson: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="A GeoJSON file per slide, for QuPath.", show_default=False
        ),
    ] = None,
    webdataset: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Tar files of JPEG and JSON.", show_default=False),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="JPEG files in a folder per label, else per slide, and metadata.parquet.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Which tiles, as pandas' query: 'tissue > 0.5 and label == \"tumour\"'.",
            show_default='status == "ok"',
        ),
    ] = None,
    colour_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="What colours GeoJSON: words or numbers.", show_default=False
        ),
    ] = None,
    slides: Annotated[
        bool | None,
        typer.Option("--slides", help="GeoJSON of slides in place of tiles.", show_default=False),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(
            metavar="tile|annotation", help="What QuPath takes tiles for.", show_default="tile"
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="bounds|canvas",
            help="Corner that GeoJSON counts from; QuPath's is that of the bounds.",
            show_default="bounds",
        ),
    ] = None,
    gz: Annotated[
        bool | None, typer.Option("--gz", help="Compress GeoJSON.", show_default=False)
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(metavar="N", help="Tiles a tar file.", show_default="1000")
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(metavar="Q", help="Of tiles that are not stored as JPEG.", show_default="90"),
    ] = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Write tiles for other programs: QuPath, WebDataset, or plain JPEG files.

    JPEG tiles leave the store byte for byte. A folder appears whole or not at all.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import make_config, read_yaml
    from wsi_pipeline.stages.export import ExportConfig, Kind, export_run

    flags = options.given(
        where=where,
        colour_by=colour_by,
        slides=slides,
        objects=objects,
        origin=origin,
        gz=gz,
        shard_size=shard_size,
        quality=quality,
    )
    what = make_config(ExportConfig, {**(read_yaml(config) if config else {}), **flags})
    console.set_up_logging(quiet=quiet, verbose=verbose)
    asked: dict[Kind, str | None] = {
        "geojson": geojson,
        "webdataset": webdataset,
        "folder": folder,
    }
    done = export_run(run, what, {kind: name for kind, name in asked.items() if name is not None})
    raise typer.Exit(_show(done, json=json, quiet=quiet))


def _show(done: "Sequence[Exported]", *, json: bool, quiet: bool) -> int:
    """Print what was written, problems last, and return the exit code."""
    from dataclasses import asdict

    from wsi_pipeline.cli import console

    code = 1 if any(each.problems for each in done) else 0
    if json:
        console.print_json({"exports": [asdict(each) for each in done], "exit_code": code})
    for each in done:
        if not json and not quiet:
            console.say(f"{each.kind}: {each.tiles} tiles in {each.files} files of {each.folder}")
        for note in each.notes:
            console.complain(f"note: {each.kind}: {note}")
        for problem in each.problems:
            console.complain(f"left out: {problem}")
    return code
