"""Lines stay inside their frame, whatever the numbers, and say what they are."""

import re
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.report.figures import HEIGHT, MOST_CURVES, WIDTH
from wsi_pipeline.report.lines import lines_svg
from wsi_pipeline.report.parts import Lines

numbers = st.floats(-1e6, 1e6) | st.just(float("nan"))
points = st.lists(st.tuples(numbers, numbers), max_size=12)


def drawn(
    *series: list[tuple[float, float]],
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    guide: Literal["diagonal", "zero"] | None = None,
) -> str:
    arrays = {f"line {place}": array(each) for place, each in enumerate(series)}
    return lines_svg(
        Lines(
            title="a <title>",
            x_label="x & more",
            y_label="y",
            series=arrays,
            x_range=x_range,
            y_range=y_range,
            guide=guide,
        )
    )


def array(each: list[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.array(each, dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def paths(svg: str) -> list[list[tuple[float, float]]]:
    """Return the points of each curve, in px."""
    found = re.findall(
        r'class="curve curve-\d"[^>]* d="M([^"]*)"', svg.split("<figcaption", maxsplit=1)[0]
    )
    pairs = [re.findall(r"(-?[\d.]+),(-?[\d.]+)", each) for each in found]
    return [[(float(x), float(y)) for x, y in each] for each in pairs]


@given(st.lists(points, min_size=1, max_size=4))
def test_every_point_that_is_a_number_is_drawn_inside_the_frame(
    series: list[list[tuple[float, float]]],
) -> None:
    svg = drawn(*series)
    assert "nan" not in svg.lower().replace("title", "")
    for given_points, in_px in zip(series, paths(svg), strict=True):
        known = [each for each in given_points if np.isfinite(each).all()]
        assert len(in_px) == max(1, len(known))
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in in_px)


def test_larger_values_are_further_right_and_up() -> None:
    ((first, second),) = paths(drawn([(1, 10), (2, 20)]))
    assert first[0] < second[0]
    assert first[1] > second[1]


def test_a_single_point_is_a_dot_and_no_point_is_nothing() -> None:
    assert "h0.1" in drawn([(1, 1)])
    assert drawn([])


def test_a_guide_is_where_both_axes_agree() -> None:
    svg = drawn([(0, 0), (1, 1)], x_range=(0, 1), y_range=(0, 1), guide="diagonal")
    (curve,) = paths(svg)
    found = re.search(r'class="axis" d="M([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', svg)
    assert found is not None
    ends = [float(each) for each in found.groups()]
    assert [tuple(ends[:2]), tuple(ends[2:])] == curve


def test_a_guide_at_zero_is_above_zero() -> None:
    svg = drawn([(-1, 0), (0, 1), (3, 0)], guide="zero")
    found = re.search(r'class="axis" d="M([\d.]+) ', svg)
    assert found is not None
    assert float(found.group(1)) == paths(svg)[0][1][0]


def test_words_are_text_and_the_picture_says_what_it_is() -> None:
    svg = drawn([(0, 0), (1, 1)])
    assert "<title>a &lt;title&gt;: y by x &amp; more for line 0</title>" in svg
    assert 'role="img"' in svg


def test_more_lines_than_can_be_told_apart_are_said_to_be_left_out() -> None:
    svg = drawn(*[[(0.0, 0.0), (1.0, float(each))] for each in range(MOST_CURVES + 3)])
    assert len(paths(svg)) == MOST_CURVES
    assert "and 3 more" in svg


def test_series_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="a: expected"):
        Lines(title="", x_label="", y_label="", series={"a": (np.zeros(2), np.zeros(3))})


def test_powers_of_ten_are_evenly_apart_on_a_logarithmic_axis_on_the_right() -> None:
    places = np.arange(4.0)
    lines = Lines(
        title="t",
        x_label="x",
        y_label="y",
        series={"a": (places, places)},
        right={"b": (places, 10.0**places)},
        right_label="r",
        right_log=True,
    )
    left, right = paths(lines_svg(lines))
    assert right == left
