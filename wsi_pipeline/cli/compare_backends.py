"""``wsi-pipeline compare-backends``."""

from pathlib import Path
from typing import Annotated

import typer

from wsi_pipeline.cli import options


def compare_backends(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="One slide file.")],
    tiles: Annotated[int, typer.Option(metavar="N", min=1, help="Windows to read.")] = 24,
    tile_size: Annotated[int, typer.Option(metavar="PX", min=1, help="Their side.")] = 512,
    overlap: Annotated[float, typer.Option(metavar="SHARE", min=0, max=0.99)] = 0.2,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Chooses the places.")] = 0,
    json: options.JSON = False,
) -> None:
    """Read the same level-0 windows through every backend that opens a slide; print differences and speed."""
    from dataclasses import asdict

    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.compare_backends import compare_backends as compare

    results = compare(slide, tiles=tiles, tile_size=tile_size, overlap=overlap, seed=seed)
    if json:
        console.print_json([asdict(result) for result in results])
        return
    rows = [
        (
            result.backend,
            f"{result.cpu_ms:.2f}",
            f"{result.same}/{result.tiles}",
            None if result.differing is None else f"{result.differing:.2%}",
            result.largest,
            result.failed,
        )
        for result in results
        if result.cpu_ms is not None
    ]
    columns = ("backend", "CPU ms/tile", "same tiles", "values off", "by up to", "unreadable")
    console.print_table(columns, rows)
    for result in results:
        told = "" if result.cpu_ms is not None else "not compared: "
        console.say(f"{result.backend}: {told}{result.note}")
        if result.failure is not None:
            console.say(f"  cannot read {result.failed} of {result.tiles}: {result.failure}")
