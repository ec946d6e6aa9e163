"""GeoJSON as QuPath reads it: valid rings, whole files, outlines that cover their tiles."""

import json
from typing import Any

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape

from wsi_pipeline.labels.colours import ColourClass
from wsi_pipeline.labels.qupath import Shown, feature, feature_collection, outline, rectangle

PLACES = st.integers(-1000, 100_000)
SIDES = st.integers(1, 5000)
BOXES = st.lists(st.tuples(PLACES, PLACES, SIDES, SIDES), min_size=1, max_size=12)


@given(x=PLACES, y=PLACES, width=SIDES, height=SIDES)
def test_a_rectangle_is_its_box(x: int, y: int, width: int, height: int) -> None:
    drawn: Any = shape(rectangle(x, y, width=width, height=height))
    assert drawn.is_valid
    assert drawn.bounds == (x, y, x + width, y + height)
    assert drawn.area == width * height
    assert drawn.exterior.is_ccw


@given(boxes=BOXES)
def test_an_outline_covers_its_boxes_and_nothing_else(
    boxes: list[tuple[int, int, int, int]],
) -> None:
    drawn = shape(outline(np.array(boxes)))
    each = [shapely.box(x, y, x + width, y + height) for x, y, width, height in boxes]
    assert drawn.symmetric_difference(shapely.union_all(each)).area == 0


@given(texts=st.lists(st.text(max_size=9), max_size=5))
def test_a_file_holds_every_object_whatever_it_is_called(texts: list[str]) -> None:
    place = rectangle(0, 0, width=1, height=1)
    shown = [
        Shown(name=text, kind="tile", classified=ColourClass(name=text, colour=(1, 2, 3)))
        for text in texts
    ]
    text = b"".join(feature_collection(feature(place, each) for each in shown))
    names = [each["properties"]["classification"]["name"] for each in json.loads(text)["features"]]
    assert names == texts
