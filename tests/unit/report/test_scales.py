"""Columns become few colours: in order, within the scale, and nothing where there is no value."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.report.scales import (
    MOST_WORDS,
    NULL,
    STEPS,
    NumberScale,
    WordScale,
    scale_of,
)

floats = st.floats(-1e6, 1e6) | st.none() | st.just(math.nan)


def chunked(values: list[float | None]) -> "pa.ChunkedArray[pa.DoubleScalar]":
    return pa.chunked_array([pa.array(values, type=pa.float64())])


@given(values=st.lists(floats, min_size=1), log=st.booleans())
def test_a_larger_value_never_has_a_lower_colour(values: list[float | None], *, log: bool) -> None:
    scale = NumberScale(name="a", low=0.5, high=1000.0, log=log)
    codes = scale.codes(chunked(values))
    known = [
        (value, int(code))
        for value, code in zip(values, codes, strict=True)
        if value is not None and not math.isnan(value)
    ]
    assert all(0 <= code < STEPS for _, code in known)
    ordered = [code for _, code in sorted(known)]
    assert ordered == sorted(ordered)
    assert np.count_nonzero(codes == NULL) == len(values) - len(known)


@given(place=st.integers(0, STEPS - 1), log=st.booleans())
def test_steps_are_equal_or_of_equal_ratio(place: int, *, log: bool) -> None:
    scale = NumberScale(name="a", low=1.0, high=256.0, log=log)
    share = (place + 0.5) / STEPS
    value = 256.0**share if log else 1 + 255 * share
    assert scale.codes(chunked([value])).tolist() == [place]


@given(words=st.lists(st.text(max_size=3) | st.none(), min_size=1))
def test_every_tile_keeps_its_word(words: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(words, type=pa.string())])
    scale = scale_of("label", column)
    if scale is None:
        assert set(words) == {None}
        return
    assert isinstance(scale, WordScale)
    codes = scale.codes(column)
    for word, code in zip(words, codes.tolist(), strict=True):
        assert (code == NULL) if word is None else (scale.words[code] == word)


def test_a_column_in_several_pieces_has_one_scale() -> None:
    kind = pa.dictionary(pa.int32(), pa.string())
    pieces = [pa.array(words).cast(kind) for words in (["b", "a"], ["a", "c"])]
    scale = scale_of("label", pa.chunked_array(pieces))
    assert isinstance(scale, WordScale)
    assert scale.words == ("a", "b", "c")
    assert scale.codes(pa.chunked_array(pieces)).tolist() == [1, 0, 0, 2]


def test_rare_words_beyond_those_that_can_be_told_apart_are_one() -> None:
    words = [f"w{number}" for number in range(40) for _ in range(40 - number)]
    column = pa.chunked_array([pa.array(words)])
    scale = scale_of("label", column)
    assert isinstance(scale, WordScale)
    assert len(scale.words) == MOST_WORDS - 1
    assert scale.others == 40 - len(scale.words)
    assert scale.described()["words"][-1] == "17 others"
    assert scale.codes(column)[-1] == len(scale.words)


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("outlier", pa.array([True, False, None]), ("no", "yes")),
        ("cluster", pa.array([10, 2, 2], pa.int16()), ("2", "10")),
        ("split", pa.array(["validation", "test", "train"]), ("train", "validation", "test")),
        ("label", pa.array(["b", "a"]), ("a", "b")),
    ],
)
def test_words_stand_in_the_order_that_a_reader_expects(
    name: str, column: "pa.Array[pa.Scalar[pa.DataType]]", words: tuple[str, ...]
) -> None:
    scale = scale_of(name, pa.chunked_array([column]))
    assert isinstance(scale, WordScale)
    assert scale.words == words


def test_shares_go_from_0_to_1_and_wide_ranges_are_logarithmic() -> None:
    share = scale_of("tissue", chunked([0.2, 0.9]))
    assert share == NumberScale(name="tissue", low=0.0, high=1.0, log=False)
    wide = scale_of("laplacian_var", chunked([float(10**power) for power in range(5)]))
    assert isinstance(wide, NumberScale)
    assert wide.log
    narrow = scale_of("gray_mean", chunked([100.0, 150.0, 200.0]))
    assert isinstance(narrow, NumberScale)
    assert not narrow.log


def test_a_column_of_one_value_still_has_a_scale() -> None:
    scale = scale_of("gray_mean", chunked([42.0, 42.0]))
    assert scale == NumberScale(name="gray_mean", low=41.5, high=42.5, log=False)


def test_a_column_without_values_has_none() -> None:
    assert scale_of("label", pa.chunked_array([pa.nulls(3, pa.string())])) is None
    assert scale_of("tissue", chunked([math.nan, None])) is None


def test_a_scale_without_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a: expected a range, got 1\.0 to 1\.0"):
        NumberScale(name="a", low=1.0, high=1.0, log=False)
    with pytest.raises(ValueError, match="expected a range"):
        NumberScale(name="a", low=0.0, high=1.0, log=True)
