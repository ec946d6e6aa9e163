"""Flags of ``wsi-pipeline evaluate`` for pictures of what a network says, and their work and output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsi_pipeline.evaluate.config import EvaluateConfig
    from wsi_pipeline.evaluate.maps.config import CamConfig
    from wsi_pipeline.evaluation import EvaluatedModels
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
    str | None,
    typer.Option(
        "--cam",
        metavar="gradcam|hirescam",
        help="Write where in each tile the class is seen.",
        show_default="none",
    ),
]
COLLAGE = Annotated[
    bool | None, typer.Option("--collage", help="Draw the surest hits and misses of each class.")
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

_NAMED = 5


def refuse_lost_slides(run: str, asked: "EvaluateConfig") -> None:
    """Refuse names of slides that the run has not, before any tile is asked for.

    Raises
    ------
    ConfigError
        There is one.
    """
    from wsi_pipeline.config import did_you_mean, first_of
    from wsi_pipeline.errors import ConfigError
    from wsi_pipeline.manifest import manifest_files

    on = asked.question.run(run)
    known = manifest_files(on) if asked.slides_named else {}
    if lost := [name for name in asked.slides_named if name not in known]:
        raise ConfigError(
            f"slides: {on} has no {', '.join(lost)}{did_you_mean(lost[0], known)}; there are "
            f"{first_of(known, _NAMED)}"
        )


def draw_maps(
    run: str, found: "EvaluatedModels", asked: "EvaluateConfig", *, work: "WorkConfig", quiet: bool
) -> dict[str, Any]:
    """Draw what was asked for of every network, and of several as one.

    Parameters
    ----------
    run
        Where the networks were trained.
    found
        What they have just been asked, or before.
    asked
        The same, and what is drawn of it.

    Returns
    -------
    dict
        By model what was written, for JSON and ``show_maps``; empty where nothing was asked for.
    """
    if not asked.draws:
        return {}
    done = {}
    for each in (*found.members, *([] if found.ensemble is None else [found.ensemble])):
        on = asked.question.run(run)
        made = done[each.model] = _painted(on, each.predictions, asked, quiet=quiet)
        if asked.cam is not None and each is not found.ensemble:
            made["cams"] = _explained(run, each.model, asked, asked.cam, work=work, quiet=quiet)
    return done


def show_maps(done: Mapping[str, Any], *, json: bool, quiet: bool) -> bool:
    """Print what was written; whether a slide was left out."""
    from wsi_pipeline.cli import console

    failed = False
    for made in done.values():
        for what, name in (("heat_maps", "heat maps"), ("cams", "activation maps")):
            failed |= _show_one(name, made.get(what), quiet=quiet or json)
        if "collage" in made and not (quiet or json):
            console.say(f"surest hits and misses: {made['collage']}")
    return failed


def _show_one(what: str, made: Mapping[str, Any] | None, *, quiet: bool) -> bool:
    """Print what was written of slides; whether any was left out."""
    from wsi_pipeline.cli import console

    if made is None:
        return False
    if not quiet:
        files = console.counted(sum(map(len, made["files"].values())), "file")
        slides = console.counted(len(made["files"]), "slide")
        console.say(f"{what}: {files} of {slides} in {made['folder']}")
        for text in made["notes"]:
            console.complain(f"note: {text}")
    for slide_id, why in made["left_out"].items():
        console.complain(f"{slide_id}: left out: {why}")
    return bool(made["left_out"])


def _painted(
    run: Path, predictions: Path, asked: "EvaluateConfig", *, quiet: bool
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if asked.heat_maps is not None:
        from wsi_pipeline.heat_maps import heat_maps

        with _progress("heat maps", quiet=quiet) as told:
            mapped = heat_maps(run, predictions, config=asked.heat_maps, told=told)
        made["heat_maps"] = _said(mapped.folder, mapped.files, mapped.left_out, mapped.notes)
    if asked.collage:
        from wsi_pipeline.collages import collage

        made["collage"] = str(collage(run, predictions))
    return made


def _explained(
    run: str,
    model: str,
    asked: "EvaluateConfig",
    how: "CamConfig",
    *,
    work: "WorkConfig",
    quiet: bool,
) -> dict[str, Any]:
    from wsi_pipeline.activation_maps import explain

    with _progress(how.method, quiet=quiet) as told:
        found = explain(run, model=model, question=asked.question, config=how, work=work, told=told)
    notes = (f"{model}: {how.method} at the layer {found.layer}", *found.notes)
    return _said(found.folder, found.files, {}, notes)


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
