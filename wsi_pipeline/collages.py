"""Joins predictions, runs and pictures: the tiles that a network is surest of, rightly and wrongly.

>>> from wsi_pipeline.collages import collage
>>> path = collage("RUN", "RUN/models/net/predictions/test.parquet")  # doctest: +SKIP
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asked_tiles import inputs_of
from wsi_pipeline.evaluate.maps.by_slide import odds_of, probabilities_of
from wsi_pipeline.evaluate.maps.collage import Surest, surest_tiles
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.files import publish_bytes, read_bytes
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.pixels import png_bytes, resized_by_area
from wsi_pipeline.remote import absolute
from wsi_pipeline.report.tile_sheet import SHEET_SIDE_PX, SheetRow, SheetTile, draw_tile_sheet
from wsi_pipeline.train.config import TrainConfig, train_configs
from wsi_pipeline.train.model_directory import ModelDirectory, read_train_json
from wsi_pipeline.train.prediction_table import SHORTCUT
from wsi_pipeline.train.shortcuts import shortcut_again

TileName: TypeAlias = tuple[str, int]
"""slide_id and number of a tile."""

COUNT = 12
"""Tiles of each kind."""

_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A shortcut that tiles carried when a network was asked for them."""

    config: TrainConfig = field(repr=False)
    """Of the network: how images are made, and what is put into them."""
    tiles: Collection[TileName] = field(repr=False)
    """Those that carried it."""


def collage(run: str | Path, predictions: str | Path, *, count: int = COUNT) -> Path:
    """Draw the surest hits and misses of each class, in ``RUN/models/NAME/collages/WHAT.png``.

    ``WHAT`` is the name of the predictions' file. Each tile has its slide, number, probability and label
    below it. A tile that cannot be read is gray. Tiles are shown as they are stored, but for those that were
    asked with a shortcut: they are made as the network was given them, those that carried it with it.

    Parameters
    ----------
    run
        The run that the tiles are of: where the model was trained, or another one.
    predictions
        As ``evaluate`` writes them.
    count
        Most tiles of each kind.

    Raises
    ------
    ConfigError
        There are no such predictions, or none of a tile with a label; or a shortcut was put in, and the
        settings of the model are gone.
    OutputError
        The picture cannot be written.
    """
    path = absolute(predictions)
    found = read_predictions(path).labelled()
    if not len(found):
        raise ConfigError(f"{path}: no tile has a label, so none is a hit or a miss")
    kinds = surest_tiles(odds_of(found), found.targets, found.groups("slide_id").codes, count=count)
    names = _names(found)
    carried = _carried(path.parent.parent, found, names)
    wanted = {names[row] for kind in kinds for row in kind.rows.tolist()}
    pictures = tile_images(run, wanted, carried=carried)
    shares = probabilities_of(found)
    marked = frozenset() if carried is None else carried.tiles
    rows = [_row(kind, found, names, shares, pictures, marked) for kind in kinds]
    model = path.parent.parent.name
    sheet = draw_tile_sheet(f"{model} on {path.stem}: the tiles that it is surest of", rows)
    target = path.parent.parent / "collages" / f"{path.stem}.png"
    publish_bytes(target, png_bytes(sheet))
    return target


def _carried(model: Path, found: Predictions, names: list[TileName]) -> Carried | None:
    """Return which tiles were asked with a shortcut, and whose; None where none could carry one.

    Of an ensemble it is the first member's, whose column the table has.

    Raises
    ------
    ConfigError
        There are no settings of the model.
    """
    if SHORTCUT not in found.table.column_names:
        return None
    directory = ModelDirectory(path=_member(model))
    content = read_train_json(directory)
    if content is None:
        raise ConfigError(
            f"{directory.train_json}: expected the settings by which tiles carry a shortcut, there is no "
            "such file; put it back, or draw predictions that were made without --shortcut"
        )
    carries = found.table.column(SHORTCUT).to_pylist()
    tiles = frozenset(name for name, each in zip(names, carries, strict=True) if each)
    return Carried(config=train_configs(content["settings"])[0], tiles=tiles)


def _member(model: Path) -> Path:
    """Return the folder of a model, of an ensemble that of its first member."""
    try:
        members = json.loads(read_bytes(model / "ensemble.json"))["members"]
    except FileNotFoundError:
        return model
    return model.parent / str(members[0])


def tile_images(
    run: str | Path,
    wanted: Iterable[TileName],
    *,
    side_px: int = SHEET_SIDE_PX,
    carried: Carried | None = None,
) -> Mapping[TileName, Rgb]:
    """Return the pixels of some tiles at a size for showing; a tile that cannot be read is left out.

    Parameters
    ----------
    run
        The run that they are of.
    wanted
        Which, at least one.
    side_px
        Of the pictures.
    carried
        The tiles are made as this network was given them, its shortcut in those that carried it; as they are
        stored if not given.

    Raises
    ------
    ConfigError
        The run has none of them.
    """
    by_slide: dict[str, list[int]] = {}
    for slide_id, tile in sorted(wanted):
        by_slide.setdefault(slide_id, []).append(tile)
    asked = (
        (pc.field("slide_id") == slide_id) & pc.field("tile").isin(tiles)
        for slide_id, tiles in by_slide.items()
    )
    inputs = {} if carried is None else inputs_of(carried.config)
    loader = TileLoader(
        run,
        where=reduce(or_, asked),
        shuffle=False,
        on_error="skip",
        most_skipped=1.0,
        **{**inputs, "batch_size": _BATCH, "decoder": "cpu"},
    )
    return dict(_pictures(loader, side_px, carried))


def _pictures(
    loader: TileLoader, side_px: int, carried: Carried | None
) -> Iterator[tuple[TileName, Rgb]]:
    put = None
    if carried is not None:
        put = shortcut_again(loader.rows, carried.config.shortcut, carried.tiles)
    for batch in loader:
        images = batch.images
        if put is not None:
            images = put(torch.from_numpy(images), torch.from_numpy(batch.rows)).numpy()
        for slide_id, tile, image in zip(
            batch.slide_ids, batch.tiles.tolist(), images, strict=True
        ):
            if tile >= 0:
                rgb = np.ascontiguousarray(image.transpose(1, 2, 0))
                yield (slide_id, tile), resized_by_area(rgb, width=side_px, height=side_px)


def _names(found: Predictions) -> list[TileName]:
    slides = found.groups("slide_id")
    numbers = np.asarray(found.table.column("tile").to_numpy(), np.int64)
    return [
        (slides.names[code], tile)
        for code, tile in zip(slides.codes.tolist(), numbers.tolist(), strict=True)
    ]


def _row(
    kind: Surest,
    found: Predictions,
    names: list[TileName],
    shares: NDArray[np.float64],
    pictures: Mapping[TileName, Rgb],
    marked: Collection[TileName],
) -> SheetRow:
    """Return the tiles of one kind with what is known of them."""
    said = found.classes[kind.number]
    gray = np.full((SHEET_SIDE_PX, SHEET_SIDE_PX, 3), 128, np.uint8)
    targets = found.targets
    tiles = tuple(
        SheetTile(
            rgb=pictures.get(names[row], gray),
            lines=(
                names[row][0],
                f"tile {names[row][1]}",
                f"{said} {shares[row, kind.number]:.4f}",
                f"label {found.classes[int(targets[row])]}"
                + (", with shortcut" if names[row] in marked else ""),
            ),
        )
        for row in kind.rows.tolist()
    )
    heading = f"said {said}, {'rightly' if kind.is_right else 'wrongly'}"
    return SheetRow(heading=heading, tiles=tiles)
