"""Flags of ``wsi-pipeline evaluate`` for pictures of what a network says, and their work and output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from wsi_pipeline.evaluate.heat_config import CamConfig, HeatConfig
    from wsi_pipeline.evaluation import EvaluatedModels, Question
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

    @property
    def any(self) -> bool:
        """Whether there is something to draw."""
        return self.heat_maps is not None or self.cam is not None or self.collage

    def heat_config(self) -> "HeatConfig":
        """Return which maps are drawn."""
        from wsi_pipeline.config import make_config
        from wsi_pipeline.evaluate.heat_config import HeatConfig

        return make_config(HeatConfig, {"kinds": self.heat_maps, "slides": self.slides})

    def cam_config(self) -> "CamConfig":
        """Return which activation maps are made."""
        from wsi_pipeline.config import make_config
        from wsi_pipeline.evaluate.heat_config import CamConfig

        return make_config(CamConfig, {"method": self.cam, "slides": self.slides})

    def check(self) -> None:
        """Refuse what cannot be drawn, before any tile is asked for.

        Raises
        ------
        ConfigError
            A word is unknown, or slides are named and nothing is drawn of them.
        """
        from wsi_pipeline.errors import ConfigError

        try:
            if self.heat_maps is not None:
                self.heat_config()
            if self.cam is not None:
                self.cam_config()
        except ConfigError as error:
            raise ConfigError(f"heat-maps: {error}") from error
        if self.slides is not None and self.heat_maps is None and self.cam is None:
            raise ConfigError(
                "slides: expected together with --heat-maps or --cam, got it alone; leave it out, or choose "
                "the tiles that are asked for with --where"
            )


def draw_maps(
    run: str,
    found: "EvaluatedModels",
    flags: MapFlags,
    *,
    question: "Question",
    work: "WorkConfig",
    quiet: bool,
) -> dict[str, Any]:
    """Draw what was asked for of every network, and of several as one.

    Parameters
    ----------
    run
        Where the networks were trained.
    found
        What they have just been asked, or before.
    question
        The same.

    Returns
    -------
    dict
        By model what was written, for JSON and ``show_maps``; empty where nothing was asked for.
    """
    if not flags.any:
        return {}
    done = {}
    for each in (*found.members, *([] if found.ensemble is None else [found.ensemble])):
        on = question.run(run)
        made = done[each.model] = _painted(on, each.predictions, flags, quiet=quiet)
        if flags.cam is not None and each is not found.ensemble:
            made["cams"] = _explained(run, each.model, flags, question, work=work, quiet=quiet)
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


def _painted(run: Path, predictions: Path, flags: MapFlags, *, quiet: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if flags.heat_maps is not None:
        from wsi_pipeline.heat_maps import heat_maps

        config = flags.heat_config()
        with _progress("heat maps", quiet=quiet) as told:
            mapped = heat_maps(run, predictions, config=config, told=told)
        made["heat_maps"] = _said(mapped.folder, mapped.files, mapped.left_out, mapped.notes)
    if flags.collage:
        from wsi_pipeline.collages import collage

        made["collage"] = str(collage(run, predictions))
    return made


def _explained(
    run: str,
    model: str,
    flags: MapFlags,
    question: "Question",
    *,
    work: "WorkConfig",
    quiet: bool,
) -> dict[str, Any]:
    from wsi_pipeline.activation_maps import explain

    config = flags.cam_config()
    with _progress(f"{flags.cam}", quiet=quiet) as told:
        found = explain(run, model=model, question=question, config=config, work=work, told=told)
    notes = (f"{model}: {flags.cam} at the layer {found.layer}", *found.notes)
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
