"""Flags of ``wsi-pipeline evaluate`` for pictures of what a network says, and their work and output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from wsi_pipeline.train.config import WorkConfig

HEAT_MAPS = Annotated[
    str | None,
    typer.Option(
        "--heat-maps",
        metavar="png,ome-tiff,geojson",
        help="Paint probabilities on the slides: a picture, a map for viewers, tiles for QuPath.",
        show_default="none",
    ),
]
CAM = Annotated[
    Literal["gradcam", "hirescam"] | None,
    typer.Option("--cam", help="Write where in each tile the class is seen.", show_default="none"),
]
COLLAGE = Annotated[
    bool, typer.Option("--collage", help="Draw the surest hits and misses of each class.")
]
SLIDES = Annotated[
    str | None,
    typer.Option(
        "--slides",
        metavar="ID,...",
        help="slide_ids for --heat-maps and --cam.",
        show_default="all that have predictions",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFlags:
    """What of this was asked for."""

    heat_maps: str | None
    cam: str | None
    collage: bool
    slides: str | None


def draw_maps(
    run: str, predictions: Path, flags: MapFlags, *, work: "WorkConfig", quiet: bool
) -> dict[str, Any]:
    """Draw what was asked for and return what was written, for JSON and ``show_maps``.

    Parameters
    ----------
    run
        The run that the tiles are of.
    predictions
        As ``evaluate`` has just written or found them.
    """
    from wsi_pipeline.config import make_config
    from wsi_pipeline.evaluate.heat_config import CamConfig, HeatConfig

    done: dict[str, Any] = {}
    if flags.heat_maps is not None:
        from wsi_pipeline.mapping import heat_maps

        config = make_config(HeatConfig, {"kinds": flags.heat_maps, "slides": flags.slides})
        with _progress("heat maps", quiet=quiet) as told:
            mapped = heat_maps(run, predictions, config=config, told=told)
        done["heat_maps"] = _said(mapped.folder, mapped.files, mapped.left_out, mapped.notes)
    if flags.cam is not None:
        from wsi_pipeline.explaining import explain

        asked = make_config(CamConfig, {"method": flags.cam, "slides": flags.slides})
        with _progress(flags.cam, quiet=quiet) as told:
            found = explain(run, predictions, config=asked, work=work, told=told)
        notes = (f"{flags.cam} at the layer {found.layer}",)
        done["cams"] = _said(found.folder, found.files, found.left_out, notes)
    if flags.collage:
        from wsi_pipeline.showing import collage

        done["collage"] = str(collage(run, predictions))
    return done


def show_maps(done: Mapping[str, Any], *, quiet: bool) -> None:
    """Print what was written, and leave with 1 where a slide was left out.

    Raises
    ------
    typer.Exit
        A slide was left out.
    """
    from wsi_pipeline.cli import console

    failed = 0
    for what in ("heat_maps", "cams"):
        if (made := done.get(what)) is None:
            continue
        if not quiet:
            count = sum(map(len, made["files"].values()))
            console.say(f"{count} files of {len(made['files'])} slides: {made['folder']}")
            for text in made["notes"]:
                console.complain(f"note: {text}")
        for slide_id, why in made["left_out"].items():
            console.complain(f"{slide_id}: left out: {why}")
            failed += 1
    if "collage" in done and not quiet:
        console.say(f"surest hits and misses: {done['collage']}")
    if failed:
        raise typer.Exit(1)


def _said(
    folder: Path,
    files: Mapping[str, tuple[str, ...]],
    left_out: Mapping[str, str],
    notes: tuple[str, ...],
) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "files": {slide_id: list(names) for slide_id, names in files.items()},
        "left_out": dict(left_out),
        "notes": list(notes),
    }


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give what draws a bar of slides on a terminal and is silent elsewhere."""
    from rich.progress import Progress

    from wsi_pipeline.cli import console

    if quiet or not console.STDERR.is_terminal:
        yield lambda _done, _of: None
        return
    with Progress(console=console.STDERR, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)
