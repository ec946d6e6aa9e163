"""Tiles and slides as GeoJSON that QuPath opens: rectangles and outlines in level-0 pixels.

QuPath's dialect of GeoJSON: ``properties.objectType`` is tile or annotation, ``classification`` has a name
and a colour, ``measurements`` are numbers by name (https://qupath.readthedocs.io, "Exporting annotations").
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping

from wsi_pipeline.labels.colours import ColourClass

ObjectType: TypeAlias = Literal["tile", "annotation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What QuPath shows of one object beside its outline."""

    name: str
    kind: ObjectType
    classified: ColourClass | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)


def rectangle(x: int, y: int, *, width: int, height: int) -> dict[str, Any]:
    """Return a box as a closed ring of level-0 pixels, counter-clockwise as GeoJSON asks (y grows down).

    >>> rectangle(0, 5, width=10, height=20)["coordinates"]
    [[[0, 5], [10, 5], [10, 25], [0, 25], [0, 5]]]
    """
    right, bottom = x + width, y + height
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def outline(boxes: NDArray[np.int64]) -> dict[str, Any]:
    """Return what boxes ``(n, 4)`` of x, y, width, height cover together, in level-0 pixels."""
    x, y, width, height = boxes.T
    covered = shapely.union_all(shapely.box(x, y, x + width, y + height))
    geometry: dict[str, Any] = mapping(covered)
    return geometry


def feature(geometry: Mapping[str, Any], shown: Shown) -> dict[str, Any]:
    """Return one object of QuPath's."""
    properties: dict[str, Any] = {"objectType": shown.kind, "name": shown.name}
    if shown.classified is not None:
        properties["classification"] = {
            "name": shown.classified.name,
            "color": list(shown.classified.colour),
        }
    if shown.measurements:
        properties["measurements"] = dict(shown.measurements)
    return {"type": "Feature", "geometry": dict(geometry), "properties": properties}


def feature_collection(features: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the lines of a GeoJSON file, an object a line."""
    yield b'{"type": "FeatureCollection", "features": ['
    between = b"\n"
    for each in features:
        yield between + json.dumps(each, ensure_ascii=False, allow_nan=False).encode()
        between = b",\n"
    yield b"\n]}\n"
