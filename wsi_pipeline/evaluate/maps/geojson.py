"""Tiles with their probabilities as objects of QuPath's, coloured on the same scale as every map."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wsi_pipeline.evaluate.maps.heat import SlideHeat, colours
from wsi_pipeline.files import published
from wsi_pipeline.labels.colours import ColourClass
from wsi_pipeline.labels.qupath import Shown, feature, feature_collection, rectangle

GZ_ABOVE_TILES = 50_000
"""A file of more tiles, about 15 MB, is compressed, and its name ends in ``.gz``."""

_BINS = 10


def write_heat_geojson(folder: Path, name: str, heat: SlideHeat, corner0: tuple[int, int]) -> Path:
    """Write a slide's tiles whole or not at all, and return the file.

    Parameters
    ----------
    folder, name
        Of the file, whose ending depends on how many tiles there are.
    heat
        Tiles of the slide.
    corner0
        What places count from, level-0 pixels of the canvas.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    is_large = len(heat.tiles) > GZ_ABOVE_TILES
    path = folder / f"{name}{'.geojson.gz' if is_large else '.geojson'}"
    lines = feature_collection(_features(heat, corner0))
    with published(path) as temporary, temporary.open("wb") as handle:
        if is_large:  # without a name and a time, so the same tiles give the same bytes
            with gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0) as packed:
                packed.writelines(lines)
        else:
            handle.writelines(lines)
    return path


def _features(heat: SlideHeat, corner0: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """Yield a tile with its probability each; its class is the tenth of the scale in which that lies."""
    classes = _classes(heat.class_name)
    values = np.round(heat.values.astype(np.float64), 6).tolist()
    labels = zip(heat.labelled.tolist(), heat.is_class.tolist(), strict=True)
    rows = zip(heat.tiles.tolist(), heat.boxes0.tolist(), values, labels, strict=True)
    for tile, (x, y, width, height), value, (is_known, is_class) in rows:
        measured = {f"probability of {heat.class_name}": value}
        if is_known:
            measured[f"labelled {heat.class_name}"] = float(is_class)
        shown = Shown(
            name=f"tile {tile}",
            kind="tile",
            classified=classes[min(_BINS - 1, int(value * _BINS))],
            measurements=measured,
        )
        box = rectangle(x - corner0[0], y - corner0[1], width=width, height=height)
        yield feature(box, shown)


def _classes(name: str) -> list[ColourClass]:
    """Return ten classes of QuPath's from 0 to 1, the same ones on every slide."""
    table = colours()[0]
    found = []
    for place in range(_BINS):
        low, high = place / _BINS, (place + 1) / _BINS
        red, green, blue = table[int(np.rint(255 * (low + high) / 2))].tolist()
        found.append(ColourClass(name=f"{name} {low:.1f} to {high:.1f}", colour=(red, green, blue)))
    return found
