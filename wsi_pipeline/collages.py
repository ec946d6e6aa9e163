"""Joins predictions, runs and pictures: the tiles that a network is surest of, rightly and wrongly.

>>> from wsi_pipeline.collages import collage
>>> path = collage("RUN", "RUN/models/net/predictions/test.parquet")  # doctest: +SKIP
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.by_slide import odds_of, probabilities_of
from wsi_pipeline.evaluate.collage import Surest, surest_tiles
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.pixels import png_bytes, resized_by_area
from wsi_pipeline.remote import absolute
from wsi_pipeline.report.tile_sheet import SHEET_SIDE_PX, SheetRow, SheetTile, draw_tile_sheet
from wsi_pipeline.train.prediction_table import SHORTCUT

TileName: TypeAlias = tuple[str, int]
"""slide_id and number of a tile."""

COUNT = 12
"""Tiles of each kind."""

_BATCH = 16


def collage(run: str | Path, predictions: str | Path, *, count: int = COUNT) -> Path:
    """Draw the surest hits and misses of each class, in ``RUN/models/NAME/collages/WHAT.png``.

    ``WHAT`` is the name of the predictions' file. Each tile has its slide, number, probability and label
    below it. A tile that cannot be read is gray. Of one that was asked with a shortcut the
    stored picture is shown, and below it that it was.

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
        There are no such predictions, or none of a tile with a label.
    OutputError
        The picture cannot be written.
    """
    path = absolute(predictions)
    found = read_predictions(path).labelled()
    if not len(found):
        raise ConfigError(f"{path}: no tile has a label, so none is a hit or a miss")
    kinds = surest_tiles(odds_of(found), found.targets, found.groups("slide_id").codes, count=count)
    names = _names(found)
    pictures = tile_images(run, {names[row] for kind in kinds for row in kind.rows.tolist()})
    shares = probabilities_of(found)
    rows = [_row(kind, found, names, shares, pictures) for kind in kinds]
    model = path.parent.parent.name
    sheet = draw_tile_sheet(f"{model} on {path.stem}: the tiles that it is surest of", rows)
    target = path.parent.parent / "collages" / f"{path.stem}.png"
    publish_bytes(target, png_bytes(sheet))
    return target


def tile_images(
    run: str | Path, wanted: Iterable[TileName], *, side_px: int = SHEET_SIDE_PX
) -> Mapping[TileName, Rgb]:
    """Return the pixels of some tiles, shrunk; a tile that cannot be read is left out.

    Parameters
    ----------
    run
        The run that they are of.
    wanted
        Which, at least one.
    side_px
        Of the pictures.

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
    loader = TileLoader(
        run,
        where=reduce(or_, asked),
        batch_size=_BATCH,
        shuffle=False,
        on_error="skip",
        most_skipped=1.0,
    )
    return dict(_pictures(loader, side_px))


def _pictures(loader: TileLoader, side_px: int) -> Iterator[tuple[TileName, Rgb]]:
    for batch in loader:
        named = zip(batch.slide_ids, batch.tiles.tolist(), batch.images, strict=True)
        for slide_id, tile, image in named:
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


def _marked(found: Predictions) -> list[str]:
    """Return what is said of tiles that were asked with a shortcut: pictures are of the stored ones."""
    if SHORTCUT not in found.table.column_names:
        return [""] * len(found)
    carried = found.table.column(SHORTCUT).to_pylist()
    return [", asked with shortcut" if each else "" for each in carried]


def _row(
    kind: Surest,
    found: Predictions,
    names: list[TileName],
    shares: NDArray[np.float64],
    pictures: Mapping[TileName, Rgb],
) -> SheetRow:
    """Return the tiles of one kind with what is known of them."""
    said = found.classes[kind.number]
    gray = np.full((SHEET_SIDE_PX, SHEET_SIDE_PX, 3), 128, np.uint8)
    targets, marked = found.targets, _marked(found)
    tiles = tuple(
        SheetTile(
            rgb=pictures.get(names[row], gray),
            lines=(
                names[row][0],
                f"tile {names[row][1]}",
                f"{said} {shares[row, kind.number]:.4f}",
                f"label {found.classes[int(targets[row])]}{marked[row]}",
            ),
        )
        for row in kind.rows.tolist()
    )
    heading = f"said {said}, {'rightly' if kind.is_right else 'wrongly'}"
    return SheetRow(heading=heading, tiles=tiles)
