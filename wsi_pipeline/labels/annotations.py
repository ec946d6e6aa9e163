"""Shapes that a person has drawn on a slide, read from the files of drawing programs.

GeoJSON is read here, as QuPath writes it: a FeatureCollection, a bare array of Features, or one Feature,
plain, gzipped or zipped. ASAP's XML is read by ``labels.asap``.
"""

import gzip
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_pipeline.errors import SlideError

Program: TypeAlias = Literal["geojson", "asap"]

MOST_BYTES = 1 << 31
"""Of an annotation after unpacking; 20 million corners of shapes are about one GiB."""

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_WITHOUT_AREA = frozenset({"Point", "MultiPoint", "LineString", "MultiLineString"})
_CORNERS = 3  # of a polygon at least
_SPACE = 32  # below it are control characters, which no column's name may hold
_FARTHEST_PX = 1e9  # no slide is so large; squares of it are still exact enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """The shapes of one file, in its own pixels."""

    program: Program
    names: tuple[str | None, ...]
    """What each shape is called; None where it was given no class."""
    shapes: NDArray[np.object_]
    """Polygons and multipolygons as drawn, ``(shapes,)``; they may cross themselves."""
    without_area: Mapping[str, int]
    """Points, lines and the like, by kind: no share follows from them."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise ValueError(
                f"names: expected one per shape, got {len(self.names)} for {len(self.shapes)}"
            )


class UnfitShapeError(ValueError):
    """A shape is not what its kind promises; the message says how."""


def annotation_of(
    program: Program, drawn: Sequence[tuple[str | None, Any]], without_area: Mapping[str, int]
) -> Annotation:
    """Return an annotation of names and shapes."""
    shapes = np.empty(len(drawn), dtype=np.object_)
    shapes[:] = [shape for _, shape in drawn]
    return Annotation(
        program=program,
        names=tuple(name for name, _ in drawn),
        shapes=shapes,
        without_area=dict(sorted(without_area.items())),
    )


def unpacked(path: Path) -> bytes:
    """Return a file's bytes, unpacked where they are gzipped or a zip archive of one file.

    Raises
    ------
    SlideError
        It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as handle:
            begins = handle.read(len(_ZIP))
            handle.seek(0)
            data = _unpacked(handle, begins)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise SlideError(f"annotation {path.name}: cannot be read ({error})") from error
    if len(data) > MOST_BYTES:
        raise SlideError(
            f"annotation {path.name}: expected at most {MOST_BYTES >> 30} GiB of text, got more; "
            "leave out detections, or simplify outlines"
        )
    return data


def _unpacked(handle: BinaryIO, begins: bytes) -> bytes:
    """Return at most one byte more than is taken, whatever an archive says of its size."""
    if begins.startswith(_GZIP):
        with gzip.open(handle) as packed:
            return packed.read(MOST_BYTES + 1)
    if begins != _ZIP:
        return handle.read(MOST_BYTES + 1)
    with zipfile.ZipFile(handle) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise ValueError(f"expected an archive of one file, got {len(names)}")
        with archive.open(names[0]) as inside:
            return inside.read(MOST_BYTES + 1)


def read_geojson(data: bytes) -> Annotation:
    """Return the shapes of a GeoJSON text.

    Raises
    ------
    UnfitShapeError
        It is no GeoJSON, or one of its shapes cannot be used; the message names it by its number.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnfitShapeError(f"expected GeoJSON, got {error or 'something too deep'}") from error
    drawn: list[tuple[str | None, Any]] = []
    without_area: Counter[str] = Counter()
    for number, feature in enumerate(_features(content), start=1):
        try:
            name = _class_name(feature)
            shapes = _shapes_of(feature.get("geometry"), without_area)
            drawn += [(name, shape) for shape in shapes]
        except UnfitShapeError as error:
            raise UnfitShapeError(f"feature {number}: {error}") from error
    return annotation_of("geojson", drawn, without_area)


def polygon_of(rings: Any) -> Any:  # noqa: ANN401  foreign data in, shapely's untyped object out
    """Return a polygon of an outer ring and holes, or None where it has fewer than three corners.

    Raises
    ------
    UnfitShapeError
        A corner is no pair of numbers.
    """
    if not isinstance(rings, list) or not rings:
        raise UnfitShapeError("expected the rings of a polygon, got none")
    corners = [_corners(ring) for ring in rings]
    if len(corners[0]) < _CORNERS:
        return None
    outer, *holes = [ring for ring in corners if len(ring) >= _CORNERS]
    return shapely.Polygon(outer, holes)


def _corners(ring: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Return a ring as ``(corners, 2)``: x, y; one that says no more than its beginning has one less."""
    try:
        corners = np.asarray(ring, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnfitShapeError("expected corners [x, y] of numbers, got something else") from error
    if not corners.size:
        return corners.reshape(0, 2)
    if corners.ndim != 2 or corners.shape[1] < 2:
        raise UnfitShapeError("expected corners [x, y], got other brackets")
    corners = corners[:, :2]
    if not np.abs(corners).max() <= _FARTHEST_PX:  # nor is NaN
        raise UnfitShapeError(
            f"expected corners up to {_FARTHEST_PX:.0e} px, got {np.abs(corners).max()}"
        )
    is_closed = len(corners) > 1 and bool((corners[0] == corners[-1]).all())
    return corners[:-1] if is_closed else corners


def _features(content: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401
    """Yield the Features of a text, whatever they are wrapped in."""
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    elif isinstance(content, dict) and "coordinates" in content:
        content = [{"type": "Feature", "geometry": content}]
    if not isinstance(content, list):
        raise UnfitShapeError(
            "expected a FeatureCollection, an array of Features or a Feature, got "
            f"{content.get('type') if isinstance(content, dict) else type(content).__name__!r}"
        )
    for number, feature in enumerate(content, start=1):
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise UnfitShapeError(
                f"feature {number}: expected a Feature, got {str(feature)[:60]!r}"
            )
        yield feature


def _class_name(feature: Mapping[str, Any]) -> str | None:
    """Return the name of a Feature's class; of a derived class its names with ``: `` between them."""
    properties = feature.get("properties")
    told = properties.get("classification") if isinstance(properties, dict) else None
    if told is None:
        told = feature.get("classification")
    if isinstance(told, dict):
        names = told.get("names")
        told = ": ".join(map(str, names)) if isinstance(names, list) else told.get("name")
    if told is not None and not isinstance(told, str):
        raise UnfitShapeError(f"expected the name of a class, got {str(told)[:60]!r}")
    if told is not None and any(ord(letter) < _SPACE for letter in told):
        raise UnfitShapeError(f"expected the name of a class in one line, got {told[:60]!r}")
    return told.strip() or None if told is not None else None


def _shapes_of(geometry: Any, without_area: Counter[str]) -> Iterator[Any]:  # noqa: ANN401
    """Yield the polygons of a geometry; count what has no area."""
    if geometry is None:
        without_area["no geometry"] += 1
        return
    if not isinstance(geometry, dict):
        raise UnfitShapeError(f"expected a geometry, got {str(geometry)[:60]!r}")
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        for each in geometry["geometries"]:
            yield from _shapes_of(each, without_area)
    elif kind in {"Polygon", "MultiPolygon"} and isinstance(coordinates, list):
        parts = [coordinates] if kind == "Polygon" else coordinates
        polygons = [polygon for part in parts if (polygon := polygon_of(part)) is not None]
        if polygons:
            yield polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
        else:
            without_area[f"{kind} of fewer than {_CORNERS} corners"] += 1
    elif kind in _WITHOUT_AREA:
        without_area[str(kind)] += 1
    else:
        raise UnfitShapeError(f"expected a Polygon or MultiPolygon, got {str(kind)[:60]!r}")
