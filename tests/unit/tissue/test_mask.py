from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import boxes, seeds, speckled
from wsi_pipeline.geometry import Box
from wsi_pipeline.tissue.mask import TissueMask

sides = st.integers(1, 25)
shrinks = st.integers(1, 8)
corners = st.integers(-30, 30)
fractions = st.floats(0.3, 9.0)
places = st.floats(-30, 30)


@given(seeds, sides, sides, shrinks, boxes(corner=30, side=30))
def test_coverage_of_whole_mask_pixels_is_their_count(
    seed: int, height: int, width: int, shrink: int, box_px: Box
) -> None:
    mask = a_mask(speckled(seed, height=height, width=width), downsample=shrink)
    box0 = np.array([[box_px.x, box_px.y, box_px.width, box_px.height]], np.int32) * shrink
    canvas = np.zeros((100, 100), np.bool_)  # the mask's first pixel is at (30, 30)
    canvas[30 : 30 + height, 30 : 30 + width] = mask.tissue
    rows, columns = slice(30 + box_px.y, 30 + box_px.y_end), slice(30 + box_px.x, 30 + box_px.x_end)
    expected = canvas[rows, columns].sum() / (box_px.width * box_px.height)
    assert mask.coverage(box0).tolist() == [pytest.approx(expected, abs=1e-6)]


@given(seeds, sides, sides, shrinks, st.tuples(corners, corners), boxes(corner=60, side=90))
def test_coverage_of_parts_of_mask_pixels_is_the_area_drawn_at_level_0(
    seed: int, height: int, width: int, shrink: int, corner0: tuple[int, int], box0: Box
) -> None:
    tissue = speckled(seed, height=height, width=width)
    mask = a_mask(tissue, downsample=shrink, x0=corner0[0], y0=corner0[1])
    drawn0 = np.kron(tissue, np.ones((shrink, shrink), np.bool_))
    whole0 = Box(x=corner0[0], y=corner0[1], width=drawn0.shape[1], height=drawn0.shape[0])
    part0 = whole0.intersection(box0)
    inside = 0
    if part0 is not None:
        rows = slice(part0.y - whole0.y, part0.y_end - whole0.y)
        inside = drawn0[rows, part0.x - whole0.x : part0.x_end - whole0.x].sum()
    found = mask.coverage(np.array([[box0.x, box0.y, box0.width, box0.height]], np.int32))
    assert found.tolist() == [pytest.approx(inside / (box0.width * box0.height), abs=1e-6)]


@given(seeds, sides, sides, fractions, fractions, places, places, boxes(corner=60, side=90))
def test_coverage_is_exact_for_any_resolution_and_place(  # noqa: PLR0913
    seed: int,
    height: int,
    width: int,
    downsample_x: float,
    downsample_y: float,
    x0: float,
    y0: float,
    box0: Box,
) -> None:
    mask = TissueMask(
        tissue=speckled(seed, height=height, width=width),
        x0=x0,
        y0=y0,
        downsample_x=downsample_x,
        downsample_y=downsample_y,
    )
    found = mask.coverage(np.array([[box0.x, box0.y, box0.width, box0.height]], np.int32))
    rows0 = shared(y0, downsample_y, height, box0.y, box0.y_end)
    columns0 = shared(x0, downsample_x, width, box0.x, box0.x_end)
    expected = rows0 @ mask.tissue @ columns0 / (box0.width * box0.height)
    assert found.tolist() == [pytest.approx(expected, abs=1e-5)]


@given(seeds, boxes(corner=90, side=90))
def test_coverage_is_a_share_and_that_of_the_inverse_fills_the_rest_of_the_mask(
    seed: int, box0: Box
) -> None:
    tissue = speckled(seed, height=20, width=15)
    boxes0 = np.array([[box0.x, box0.y, box0.width, box0.height]], np.int32)
    share = a_mask(tissue, downsample=3).coverage(boxes0)[0]
    rest = a_mask(~tissue, downsample=3).coverage(boxes0)[0]
    whole = a_mask(np.ones_like(tissue), downsample=3).coverage(boxes0)[0]
    assert 0 <= share <= 1
    assert share + rest == pytest.approx(whole, abs=1e-6)


@given(boxes(corner=500, side=90))
def test_what_lies_outside_the_mask_is_no_tissue(box0: Box) -> None:
    mask0 = Box(x=0, y=0, width=40, height=40)
    mask = a_mask(np.ones((10, 10), np.bool_), downsample=4)
    inside = mask0.intersection(box0)
    expected = inside.width * inside.height / (box0.width * box0.height) if inside else 0.0
    found = mask.coverage(np.array([[box0.x, box0.y, box0.width, box0.height]], np.int32))
    assert found.tolist() == [pytest.approx(expected, abs=1e-6)]


def test_many_boxes_are_answered_in_order_and_none_with_nothing() -> None:
    mask = a_mask(np.array([[True, False]]), downsample=8)
    assert mask.coverage(
        np.array([[8, 0, 8, 8], [0, 0, 8, 8], [4, 0, 8, 8]], np.int32)
    ).tolist() == [
        0.0,
        1.0,
        0.5,
    ]
    assert mask.coverage(np.empty((0, 4), np.int32)).shape == (0,)


def test_a_large_mask_is_counted_exactly() -> None:
    mask = a_mask(np.ones((4096, 4096), np.bool_), downsample=1)
    boxes0 = np.array([[0, 0, 4096, 4096], [4095, 4095, 1, 1]], np.int32)
    assert mask.coverage(boxes0).tolist() == [1.0, 1.0]
    assert mask.share() == 1.0


def test_masks_of_other_shapes_types_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 axes of bool"):
        a_mask(np.zeros((2, 2), np.uint8), downsample=1)
    with pytest.raises(ValueError, match="expected 2 axes of bool"):
        a_mask(np.zeros((2, 2, 1), np.bool_), downsample=1)
    with pytest.raises(ValueError, match="expected above 0, got 0"):
        a_mask(np.zeros((2, 2), np.bool_), downsample=0)


def shared(
    origin0: float, downsample: float, count: int, begin0: int, end0: int
) -> NDArray[np.float64]:
    """Return how much of every mask pixel lies between two places on one axis."""
    edges0 = origin0 + np.arange(count + 1) * downsample
    overlap0 = np.minimum(edges0[1:], end0) - np.maximum(edges0[:-1], begin0)
    inside0: NDArray[np.float64] = np.maximum(overlap0, 0.0)
    return inside0


def a_mask(tissue: NDArray[Any], *, downsample: float, x0: float = 0, y0: float = 0) -> TissueMask:
    """Return a mask, also of what is none."""
    return TissueMask(tissue=tissue, x0=x0, y0=y0, downsample_x=downsample, downsample_y=downsample)
