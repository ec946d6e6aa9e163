"""Joins a trained network, its predictions and tiles: where in each tile it sees a class.

>>> from wsi_pipeline.activation_maps import explain
>>> maps = explain("RUN", model="net")  # doctest: +SKIP
"""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.observer import SlidesTold
from wsi_pipeline.evaluate.maps.by_slide import (
    class_numbers,
    class_stems,
    of_rows,
    probabilities_of,
    rows_of_slides,
)
from wsi_pipeline.evaluate.maps.cam import Method, cam_colours, class_activation, feature_layer
from wsi_pipeline.evaluate.maps.config import CamConfig
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.evaluate.question import Question
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.pixels import png_bytes, resized_by_area
from wsi_pipeline.questions import Member, Plan
from wsi_pipeline.report.heat_picture import laid_over
from wsi_pipeline.report.tile_sheet import SHEET_SIDE_PX, SheetRow, SheetTile, draw_tile_sheet
from wsi_pipeline.slides.names import safe_names
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.looking import batches_on
from wsi_pipeline.train.peers import device_of
from wsi_pipeline.training import Trained

SHOWN = 12
"""Tiles of each slide's picture: those that are likeliest of the class."""

_OPACITY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What was written."""

    folder: Path
    layer: str
    """Whose features were explained."""
    files: Mapping[str, tuple[str, ...]]
    """Names of the files of each slide."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """What all slides have in common."""

    member: Member
    device: torch.device
    found: Predictions
    numbers: Sequence[int]
    method: Method
    layer: str
    folder: Path


@dataclass(slots=True, kw_only=True)
class _Seen:
    """Maps of a slide's tiles, as they come."""

    tiles: list[NDArray[np.int32]] = field(default_factory=list)
    maps: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    logits: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    pictures: dict[int, Rgb] = field(default_factory=dict)
    """Tiles that are to be shown, by number."""


def explain(
    run: str | Path,
    *,
    model: str,
    question: Question | None = None,
    config: CamConfig | None = None,
    work: WorkConfig | None = None,
    told: SlidesTold = lambda _done, _of: None,
) -> Explained:
    """Write class activation maps of the tiles that a network was asked for, a file per slide.

    ``RUN/models/NAME/cams/WHAT/SLIDE-METHOD.npz`` holds ``tile``, ``cam`` ``(tiles, h, w)`` float32 as it is
    given, signed, and ``logit``; ``SLIDE-METHOD.png`` shows the likeliest tiles, all on the scale from 0 to
    the largest value of the slide's tiles. Of several classes the name of each is added. ``WHAT`` is the name
    of the predictions, which have to be there.

    Parameters
    ----------
    run
        Where the model was trained.
    model
        Its name; an ensemble is explained by its members.
    question
        As ``evaluate`` was asked; a shortcut is put into the tiles again, but only one view is explained.
    config
        Which maps.
    work
        How it is carried out.
    told
        Is told of every slide.

    Raises
    ------
    ConfigError
        There is no such model, slide, class or layer, the network is not convolutional, or the question was
        not asked before.
    OutputError
        A file cannot be written.
    TileError
        A tile cannot be decoded.
    """
    work, config, question = work or WorkConfig(), config or CamConfig(), question or Question()
    member = Plan(run, device_of(work.device)).member(model, question)
    if not member.is_there:
        raise ConfigError(
            f"{member.table}: expected its predictions; run wsi-pipeline evaluate first"
        )
    found = read_predictions(member.table)
    rows = rows_of_slides(found, config.slides)
    tiles = _tiles(member, None if config.slides is None else list(rows), work)
    asking = _asking(member, found, tiles, config, device_of(work.device))
    names = safe_names(found.groups("slide_id").names)
    files: dict[str, tuple[str, ...]] = {}
    for slide_id, seen in _by_slide(asking, tiles, rows, work):
        told(len(files), len(rows))
        files[slide_id] = tuple(_write(asking, seen, slide_id, names[slide_id]))
    told(len(rows), len(rows))
    notes = [] if question.tta == "none" else ["maps are of tiles as they are, not of their views"]
    return Explained(folder=asking.folder, layer=asking.layer, files=files, notes=tuple(notes))


def _asking(
    member: Member,
    found: Predictions,
    tiles: TileLoader,
    config: CamConfig,
    device: torch.device,
) -> _Asking:
    member.trained.network.to(device)
    return _Asking(
        member=member,
        device=device,
        found=found,
        numbers=class_numbers(found, config.classes),
        method=config.method,
        layer=config.layer or _layer(member.trained, tiles, device),
        folder=member.table.parent.parent / "cams" / member.table.stem,
    )


def _tiles(member: Member, slides: Sequence[str] | None, work: WorkConfig) -> TileLoader:
    """Return the tiles of a question in order; of some slides, unless rows are numbered for a shortcut."""
    if slides is not None and member.shortcut is None:
        condition = f"({member.condition}) and slide_id in {list(slides)!r}"
        return replace(member, condition=condition).loader(work)
    return member.loader(work)


def _layer(trained: Trained, tiles: TileLoader, device: torch.device) -> str:
    """Return the layer that is explained, by an empty image as large as the tiles."""
    side_px = tiles.image_px
    empty = torch.zeros((1, 3, side_px, side_px), dtype=torch.uint8, device=device)
    return feature_layer(trained.network, empty)


def _by_slide(
    asking: _Asking, tiles: TileLoader, rows: Mapping[str, NDArray[np.int64]], work: WorkConfig
) -> Iterator[tuple[str, _Seen]]:
    """Yield each slide with the maps of its tiles that have predictions; one slide is in memory at a time."""
    shown = {name: _likeliest(asking, own) for name, own in rows.items()}
    for slide_id, parts in groupby(_parts(asking, tiles, rows, work), key=lambda part: part[0]):
        seen = _Seen()
        for _, images, numbers in parts:
            _ask(asking, seen, images, numbers, shown[slide_id])
        yield slide_id, seen


def _parts(
    asking: _Asking, tiles: TileLoader, slides: Collection[str], work: WorkConfig
) -> Iterator[tuple[str, torch.Tensor, NDArray[np.int32]]]:
    """Yield images of one slide's tiles, as many as a batch has of it, with their numbers."""
    batches = batches_on(asking.device, tiles, work, shortcut=asking.member.shortcut)
    for batch in batches:
        images = batch.to(asking.device).images
        numbers = batch.tiles.cpu().numpy()
        names = np.array(batch.slide_ids)
        for slide_id in dict.fromkeys(batch.slide_ids):
            if slide_id in slides:  # empty words fill a batch up
                own = np.flatnonzero(names == slide_id)
                yield slide_id, images[torch.from_numpy(own).to(images.device)], numbers[own]


def _ask(
    asking: _Asking,
    seen: _Seen,
    images: torch.Tensor,
    numbers: NDArray[np.int32],
    shown: set[int],
) -> None:
    """Add the maps of some tiles of a slide, and pictures of those that are shown."""
    seen.tiles.append(numbers)
    for number in asking.numbers:
        maps, logits = class_activation(
            asking.member.trained.network,
            images,
            layer=asking.layer,
            number=number,
            method=asking.method,
        )
        seen.maps.setdefault(number, []).append(maps.cpu().numpy())
        seen.logits.setdefault(number, []).append(logits.cpu().numpy())
    for place, tile in enumerate(numbers.tolist()):
        if tile in shown:
            rgb = np.ascontiguousarray(images[place].permute(1, 2, 0).cpu().numpy())
            size_px = {"width": SHEET_SIDE_PX, "height": SHEET_SIDE_PX}
            seen.pictures[tile] = resized_by_area(rgb, **size_px)


def _likeliest(asking: _Asking, rows: NDArray[np.int64]) -> set[int]:
    """Return the numbers of the tiles that pictures show, of every class."""
    own = of_rows(asking.found, rows)
    numbers = np.asarray(own.table.column("tile").to_numpy(), np.int64)
    shares = probabilities_of(own)
    return {
        int(tile)
        for number in asking.numbers
        for tile in numbers[np.argsort(-shares[:, number], kind="stable")[:SHOWN]]
    }


def _write(asking: _Asking, seen: _Seen, slide_id: str, name: str) -> Iterator[str]:
    """Write the files of a slide and yield their names."""
    classes = asking.member.trained.classes
    tiles = np.concatenate(seen.tiles)
    stems = class_stems(f"{name}-{asking.method}", classes, asking.numbers)
    for number, stem in stems.items():
        maps = np.concatenate(seen.maps[number])
        logits = np.concatenate(seen.logits[number])
        about = {"class": classes[number], "method": asking.method, "layer": asking.layer}
        data = _npz({"tile": tiles, "cam": maps, "logit": logits, **about})
        publish_bytes(asking.folder / f"{stem}.npz", data)
        title = f"{slide_id}: {asking.method} of {classes[number]} at {asking.layer}"
        sheet = _sheet(title, tiles, maps, logits, seen.pictures)
        publish_bytes(asking.folder / f"{stem}.png", png_bytes(sheet))
        yield from (f"{stem}.npz", f"{stem}.png")


def _npz(arrays: Mapping[str, Any]) -> bytes:
    target = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(each) for name, each in arrays.items()}
    np.savez_compressed(target, **plain)
    return target.getvalue()


def _sheet(
    title: str,
    tiles: NDArray[np.int32],
    maps: NDArray[np.float32],
    logits: NDArray[np.float32],
    pictures: Mapping[int, Rgb],
) -> Rgb:
    """Return the likeliest tiles, each beside its map, on one scale for the slide."""
    largest = max(float(maps.max()), 0.0)
    order = [place for place in np.argsort(-logits, kind="stable") if int(tiles[place]) in pictures]
    shown = tuple(
        SheetTile(
            rgb=_beside(pictures[int(tiles[place])], maps[place] / (largest or 1.0)),
            lines=(
                f"tile {tiles[place]}: logit {logits[place]:.3g}, map {maps[place].min():.3g} to "
                f"{maps[place].max():.3g}, sum {maps[place].sum():.3g}",
            ),
        )
        for place in order[:SHOWN]
    )
    heading = (
        f"dark: 0 and less; light: {largest:.3g}, the largest of the slide's {len(tiles)} tiles"
    )
    return draw_tile_sheet(title, [SheetRow(heading=heading, tiles=shown)])


def _beside(rgb: Rgb, share: NDArray[np.float32]) -> Rgb:
    """Return a tile, and the tile under its map without what is below 0."""
    size_px = (SHEET_SIDE_PX, SHEET_SIDE_PX)
    smooth = cv2.resize(np.maximum(share, 0), size_px, interpolation=cv2.INTER_LINEAR)
    over = laid_over(rgb, np.asarray(smooth, np.float32), cam_colours(), _OPACITY)
    return np.hstack([rgb, over])
