"""Columns as classes with colours: the same value has the same colour on every slide."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.labels.colours import colour_scale

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32) | st.none(), min_size=1, max_size=50)
TEXTS = st.lists(st.sampled_from(["tumour", "stroma", "fat", None]), min_size=1, max_size=30)


@given(values=NUMBERS)
def test_every_number_is_in_the_bin_that_its_name_gives(values: list[float | None]) -> None:
    array = pa.array(values, type=pa.float32())
    scale = colour_scale("laplacian_var", array)
    for value, found in zip(array.to_pylist(), scale.of(array), strict=True):
        assert (found is None) == (value is None)
        if found is not None and value is not None:
            place = scale.classes.index(found)
            assert scale.edges[place] <= value <= scale.edges[place + 1]


@given(values=NUMBERS)
def test_larger_numbers_are_in_later_bins(values: list[float | None]) -> None:
    known = np.sort(np.array([value for value in values if value is not None], dtype=np.float64))
    scale = colour_scale("x", pa.array(known))
    places = [scale.classes.index(each) for each in scale.of(pa.array(known)) if each is not None]
    assert places == sorted(places)


@given(values=TEXTS)
def test_a_part_of_the_tiles_has_the_colours_of_the_whole(values: list[str | None]) -> None:
    array = pa.array(values, type=pa.string())
    scale = colour_scale("label", array)
    whole = scale.of(array)
    assert [scale.of(array.slice(row, 1))[0] for row in range(len(array))] == whole
    assert [None if each is None else each.name for each in whole] == values


def test_twenty_words_have_twenty_colours() -> None:
    words = pa.array([f"class {number:02d}" for number in range(20)])
    colours = {each.colour for each in colour_scale("label", words).classes}
    assert len(colours) == 20


def test_bins_hold_about_as_many_tiles_each() -> None:
    values = pa.array(np.random.default_rng(3).lognormal(size=5000).astype(np.float32))
    scale = colour_scale("laplacian_var", values)
    places = [scale.classes.index(each) for each in scale.of(values) if each is not None]
    assert np.bincount(places).tolist() == [500] * 10


def test_true_and_false_say_of_what() -> None:
    scale = colour_scale("qc_blur", pa.array([True, False, None]))
    assert [each.name for each in scale.classes] == ["qc_blur: false", "qc_blur: true"]


def test_a_column_without_a_value_has_no_class() -> None:
    nothing = pa.array([None, None], type=pa.float32())
    assert colour_scale("mpp", nothing).of(nothing) == [None, None]
