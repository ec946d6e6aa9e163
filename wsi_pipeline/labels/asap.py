"""Shapes from ASAP's XML: annotations with corners, each part of a group.

ASAP draws a Spline as a smooth closed curve through its corners and does not document which. A closed
Catmull-Rom spline is taken here (Catmull and Rom 1974, uniform, tension 0.5).
"""

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.labels.annotations import (
    Annotation,
    UnfitShapeError,
    annotation_of,
    polygon_of,
)

_WITH_AREA = frozenset({"Polygon", "Rectangle", "Spline"})
_WITHOUT_AREA = frozenset({"Dot", "PointSet", "Measurement", "None"})
_NO_GROUP = frozenset({"", "None"})
_STEPS = 16  # chords between two corners: of a parabola's bulge they miss 1 in 16²
_DECLARES = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


def read_asap(data: bytes) -> Annotation:
    """Return the shapes of an ASAP XML text, named for their groups.

    Raises
    ------
    UnfitShapeError
        It is no such XML, or one of its shapes cannot be used; the message names it.
    """
    if _DECLARES.search(data):  # entities that grow without end; ASAP declares nothing
        raise UnfitShapeError("expected XML without DOCTYPE and ENTITY, got one")
    try:
        root = Xml.fromstring(data)  # noqa: S314  nothing is declared, so nothing can expand
    except (Xml.ParseError, ValueError, RecursionError) as error:
        raise UnfitShapeError(f"expected ASAP's XML, got {error}") from error
    if root.tag != "ASAP_Annotations":
        raise UnfitShapeError(f"expected ASAP's XML, got <{root.tag[:60]}>")
    drawn: list[tuple[str | None, Any]] = []
    without_area: Counter[str] = Counter()
    for number, element in enumerate(root.iter("Annotation"), start=1):
        kind = element.get("Type", "")
        called = f"annotation {number} ({element.get('Name') or 'no name'})"
        if kind not in _WITH_AREA | _WITHOUT_AREA:
            raise UnfitShapeError(
                f"{called}: expected a Polygon, Spline or Rectangle, got {kind!r}"
            )
        shape = _shape(element, kind, called) if kind in _WITH_AREA else None
        if shape is None:
            few = kind in _WITH_AREA
            without_area[f"{kind} of fewer than 3 corners" if few else kind] += 1
        else:
            drawn.append((_group(element), shape))
    return annotation_of("asap", drawn, without_area)


def _group(element: Xml.Element) -> str | None:
    name = element.get("PartOfGroup", "").strip()
    return None if name in _NO_GROUP else name


def _shape(element: Xml.Element, kind: str, called: str) -> Any:  # noqa: ANN401  shapely's
    """Return an annotation's polygon, or None where it has fewer than three corners."""
    try:
        placed = [
            (float(point.get("Order", place)), float(point.attrib["X"]), float(point.attrib["Y"]))
            for place, point in enumerate(element.iter("Coordinate"))
        ]
    except (KeyError, ValueError) as error:
        raise UnfitShapeError(f"{called}: expected X and Y of every corner, got {error}") from error
    corners = np.array([place[1:] for place in sorted(placed, key=lambda place: place[0])])
    if kind == "Spline" and len(corners) > 2:
        corners = spline(corners)
    try:
        return polygon_of([corners.tolist()])
    except UnfitShapeError as error:
        raise UnfitShapeError(f"{called}: {error}") from error


def spline(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points of the closed curve through corners, ``(corners * 16, 2)``.

    >>> spline(np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]]))[[0, 8, 16]]
    array([[ 0. ,  0. ],
           [ 2. , -0.5],
           [ 4. ,  0. ]])
    """
    before, after, second = (np.roll(corners, -shift, axis=0)[:, None] for shift in (-1, 1, 2))
    here = corners[:, None]
    at = np.linspace(0, 1, _STEPS, endpoint=False)[None, :, None]  # (1, steps, 1)
    curve = (
        2 * here
        + (after - before) * at
        + (2 * before - 5 * here + 4 * after - second) * at**2
        + (3 * here - before - 3 * after + second) * at**3
    ) / 2  # (corners, steps, 2)
    return np.asarray(curve.reshape(-1, 2), dtype=np.float64)
