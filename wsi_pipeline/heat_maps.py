"""Joins predictions, runs and slides: what a network says of tiles, painted where they lie.

>>> from wsi_pipeline.heat_maps import heat_maps
>>> drawn = heat_maps("RUN", "RUN/models/net/predictions/test.parquet")  # doctest: +SKIP
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError, SlideError
from wsi_pipeline.evaluate.ask.observer import SlidesTold
from wsi_pipeline.evaluate.maps.by_slide import (
    class_numbers,
    class_stems,
    of_rows,
    probabilities_of,
    rows_of_slides,
)
from wsi_pipeline.evaluate.maps.config import HeatConfig
from wsi_pipeline.evaluate.maps.geojson import write_heat_geojson
from wsi_pipeline.evaluate.maps.heat import MapFrame, SlideHeat, colours, map_frames, paint
from wsi_pipeline.evaluate.maps.tiff import write_heat_tiff
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.geometry import Boxes
from wsi_pipeline.manifest import read_manifest
from wsi_pipeline.pixels import png_bytes
from wsi_pipeline.remote import absolute
from wsi_pipeline.report.heat_picture import HeatPicture, draw_heat_picture
from wsi_pipeline.slides.names import safe_names
from wsi_pipeline.stages.slide_picture import Ground, SlidePlace, ground_of, place_of

FOOTPRINT = ("x", "y", "width", "height")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What was drawn."""

    folder: Path
    files: Mapping[str, tuple[str, ...]]
    """Names of the files of each slide."""
    left_out: Mapping[str, str]
    """Slides of which nothing was drawn, and why."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """What all slides have in common."""

    run: Path
    folder: Path
    says: str
    """Model and tiles, for captions."""
    config: HeatConfig
    notes: list[str] = field(default_factory=list)


def heat_maps(
    run: str | Path,
    predictions: str | Path,
    *,
    config: HeatConfig | None = None,
    told: SlidesTold = lambda _done, _of: None,
) -> Mapped:
    """Draw maps of the slides of stored predictions, in ``RUN/models/NAME/heatmaps/WHAT/SLIDE.*``.

    ``WHAT`` is the name of the predictions' file. A slide that cannot be drawn costs that slide alone.

    Parameters
    ----------
    run
        The run that the tiles are of: where the model was trained, or another one.
    predictions
        As ``evaluate`` writes them.
    config
        What is drawn.
    told
        Is told of every slide.

    Raises
    ------
    ConfigError
        There are no such predictions, slides or classes.
    OutputError
        The folder cannot be written.
    """
    config = config or HeatConfig()
    path = absolute(predictions)
    found = read_predictions(path)
    folder = path.parent.parent / "heatmaps" / path.stem
    says = f"{path.parent.parent.name} on {path.stem}"
    drawing = _Drawing(run=absolute(run), folder=folder, says=says, config=config)
    slides = rows_of_slides(found, config.slides)
    chosen = class_numbers(found, config.classes)
    names = safe_names(found.groups("slide_id").names)
    files: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    for done, (slide_id, rows) in enumerate(slides.items()):
        told(done, len(slides))
        own = of_rows(found, rows)
        try:
            files[slide_id] = tuple(_draw(drawing, slide_id, own, chosen, names[slide_id]))
        except (SlideError, ConfigError) as error:
            left_out[slide_id] = str(error)
    told(len(slides), len(slides))
    mapped = Mapped(folder=folder, files=files, left_out=left_out, notes=tuple(drawing.notes))
    _write_about(mapped, found, config, path)
    return mapped


def _draw(
    drawing: _Drawing, slide_id: str, own: Predictions, chosen: Sequence[int], name: str
) -> Iterator[str]:
    """Write a slide's files and yield their names.

    Raises
    ------
    SlideError
        Nobody said where its tiles lie.
    """
    tiles = np.asarray(own.table.column("tile").to_numpy(), np.int32)
    boxes0 = _boxes0(drawing.run, slide_id, own, tiles)
    if len(boxes0) > 1 and not boxes0[:, :2].any():
        raise SlideError("all tiles lie at 0, 0: where they were cut is not known")
    place = place_of(drawing.run, slide_id, boxes0)
    ground = None
    if "png" in drawing.config.kinds:
        ground = ground_of(drawing.run, place, side_px=drawing.config.side_px)
        drawing.notes.extend([] if ground.note is None else [f"{slide_id}: {ground.note}"])
    shares = probabilities_of(own)
    for number, stem in class_stems(name, own.classes, chosen).items():
        heat = SlideHeat(
            slide_id=slide_id,
            class_name=own.classes[number],
            tiles=tiles,
            boxes0=boxes0,
            values=shares[:, number].astype(np.float32),
            labelled=own.targets >= 0,
            is_class=own.targets == number,
        )
        yield from _files(drawing, heat, place, ground, stem)


def _boxes0(run: Path, slide_id: str, own: Predictions, tiles: NDArray[np.int32]) -> Boxes:
    """Return tiles in level-0 pixels, from the predictions or else from the manifest.

    Raises
    ------
    ConfigError
        The run has no such slide, or no such tile of it.
    """
    table = own.table
    if not {*FOOTPRINT} <= {*table.column_names}:
        known = read_manifest(run, columns=["tile", *FOOTPRINT], slide_ids=[slide_id])
        numbers = np.asarray(known.column("tile").to_numpy(), np.int64)
        order = np.argsort(numbers)
        at = np.minimum(np.searchsorted(numbers[order], tiles), len(order) - 1)
        if lost := sorted({*tiles.tolist()} - {*numbers.tolist()}):
            raise ConfigError(f"{run} has no tile {lost[0]} of {slide_id} any more; evaluate again")
        table = known.take(order[at])
    columns = [table.column(name).to_numpy() for name in FOOTPRINT]
    boxes0: Boxes = np.stack(columns, axis=1).astype(np.int32)
    return boxes0


def _files(
    drawing: _Drawing, heat: SlideHeat, place: SlidePlace, ground: Ground | None, stem: str
) -> Iterator[str]:
    config, folder = drawing.config, drawing.folder
    extent0 = place.bounds0 if config.origin == "bounds" else place.canvas0
    if ground is not None:
        publish_bytes(folder / f"{stem}.png", _picture(drawing, heat, place, ground))
        yield f"{stem}.png"
    if "ome-tiff" in config.kinds:
        frames = map_frames(extent0, heat.boxes0)
        write_heat_tiff(folder / f"{stem}.ome.tiff", heat, frames, mpp=place.mpp)
        yield f"{stem}.ome.tiff"
        if place.mpp is None:
            drawing.notes.append(
                f"{heat.slide_id}: µm/px is not known, so viewers cannot place its map by themselves"
            )
    if "geojson" in config.kinds:
        yield write_heat_geojson(folder, stem, heat, (extent0.x, extent0.y)).name


def _picture(drawing: _Drawing, heat: SlideHeat, place: SlidePlace, ground: Ground) -> bytes:
    """Return the PNG of a slide."""
    values = paint(heat.boxes0, heat.values, ground.frame)
    truth, truth_says = _truth(heat, ground.frame)
    um_per_px = None if place.mpp is None else place.mpp[0] * ground.frame.pitch_x
    picture = HeatPicture(
        rgb=ground.rgb,
        values=values,
        truth=truth,
        scale_says=f"probability of {heat.class_name}; no colour: no tile lies there",
        truth_says=truth_says,
        caption=f"{heat.slide_id} · {drawing.says}: {len(heat.tiles)} tiles, mean {heat.values.mean():.3f}",
        um_per_px=um_per_px,
    )
    drawn = draw_heat_picture(picture, colours=colours(), opacity=drawing.config.opacity)
    return png_bytes(drawn)


def _truth(heat: SlideHeat, frame: MapFrame) -> tuple[NDArray[np.bool_] | None, str]:
    """Return where tiles have the label, if only some of the slide's have it, and what is known of labels."""
    known = int(heat.labelled.sum())
    if not known:
        return None, "no tile of the slide has a label"
    count = int(heat.is_class.sum())
    says = f"labelled {heat.class_name}: {count} of {known} tiles"
    if count in {0, known}:
        return None, says
    share = paint(heat.boxes0[heat.labelled], heat.is_class[heat.labelled], frame)
    return np.nan_to_num(share) >= 0.5, f"outlined: {says}"


def _write_about(mapped: Mapped, found: Predictions, config: HeatConfig, path: Path) -> None:
    """Write beside the maps what they show."""
    about: dict[str, Any] = {
        "predictions": path.name,
        "classes": list(found.classes),
        "scale": [0, 1],
        "settings": config.model_dump(mode="json"),
        "slides": {name: list(files) for name, files in mapped.files.items()},
        "left_out": dict(mapped.left_out),
        "notes": list(mapped.notes),
    }
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    publish_bytes(mapped.folder / "maps.json", text.encode())
