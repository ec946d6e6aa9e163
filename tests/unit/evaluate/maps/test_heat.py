"""Tiles painted on a map: the mean by area, nothing where no tile lies, the same at every level."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.evaluate.maps.heat import (
    MOST_PX,
    TILE_PX,
    MapFrame,
    as_bytes,
    colours,
    from_bytes,
    map_frames,
    paint,
    painted_rows,
)
from wsi_pipeline.geometry import Box, Boxes, Size

seeds = st.integers(0, 2**32 - 1)


def some_tiles(seed: int, *, most: int = 12) -> tuple[Boxes, NDArray[np.float32]]:
    """Return tiles that overlap anyhow and may lie past the frame, and their values."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, most + 1))
    corners = random.integers(-10, 50, (count, 2))
    sides = random.integers(1, 30, (count, 2))
    return np.hstack([corners, sides]).astype(np.int32), random.random(count, np.float32)


def frame_of(pitch: float, *, width: int, height: int, x0: float = 0, y0: float = 0) -> MapFrame:
    size_px = Size(width=width, height=height)
    return MapFrame(x0=x0, y0=y0, pitch_x=pitch, pitch_y=pitch, size_px=size_px)


def painted_by_hand(
    boxes0: Boxes, values: NDArray[np.float32], *, pitch: int, side: int
) -> NDArray[np.float64]:
    """Return means over blocks of level-0 pixels, every tile drawn pixel by pixel."""
    sums, counts = np.zeros((2, pitch * side, pitch * side))
    for (x, y, width, height), value in zip(boxes0.tolist(), values.tolist(), strict=True):
        there = (slice(max(0, y), max(0, y + height)), slice(max(0, x), max(0, x + width)))
        sums[there] += value
        counts[there] += 1
    blocks = [each.reshape(side, pitch, side, pitch).sum(axis=(1, 3)) for each in (sums, counts)]
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = blocks[0] / blocks[1]
    return means


@given(seeds, st.sampled_from([1, 2, 3, 5, 8]))
def test_a_map_pixel_is_the_mean_over_the_area_that_tiles_cover(seed: int, pitch: int) -> None:
    boxes0, values = some_tiles(seed)
    side = 60 // pitch
    expected = painted_by_hand(boxes0, values, pitch=pitch, side=side + 20)[:side, :side]
    found = paint(boxes0, values, frame_of(pitch, width=side, height=side))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(seeds, st.floats(0.3, 40), st.floats(-20, 20), st.floats(0, 1, width=32))
def test_a_constant_stays_constant_wherever_pixels_and_tiles_lie(
    seed: int, pitch: float, x0: float, value: float
) -> None:
    boxes0, _ = some_tiles(seed)
    frame = frame_of(pitch, width=17, height=23, x0=x0, y0=-x0)
    found = paint(boxes0, np.full(len(boxes0), value, np.float32), frame)
    np.testing.assert_allclose(found[np.isfinite(found)], value, rtol=2e-7)


@given(seeds, st.integers(1, 9))
def test_a_map_that_is_painted_some_rows_at_a_time_is_the_same(seed: int, rows: int) -> None:
    boxes0, values = some_tiles(seed)
    frame = frame_of(4, width=15, height=17, y0=-8)
    whole = paint(boxes0, values, frame)
    pieces = list(painted_rows(boxes0, values, frame, rows=rows))
    np.testing.assert_array_equal(np.vstack(pieces), whole)


def test_where_no_tile_lies_there_is_no_number_and_zero_is_one() -> None:
    boxes0 = np.array([[0, 0, 8, 8], [16, 8, 8, 8]], np.int32)
    found = paint(boxes0, np.array([0, 1], np.float32), frame_of(8, width=4, height=2))
    expected = [[0, np.nan, np.nan, np.nan], [np.nan, np.nan, 1, np.nan]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_of_two_tiles_that_overlap_by_half_the_middle_is_their_mean() -> None:
    boxes0 = np.array([[0, 0, 8, 4], [4, 0, 8, 4]], np.int32)
    found = paint(boxes0, np.array([0.25, 0.75], np.float32), frame_of(4, width=3, height=1))
    assert found.tolist() == [[0.25, 0.5, 0.75]]


def test_a_tile_far_away_and_no_tile_at_all_leave_a_map_empty() -> None:
    frame = frame_of(4, width=3, height=2)
    for boxes0 in (np.array([[900, -900, 8, 8]], np.int32), np.empty((0, 4), np.int32)):
        assert np.isnan(paint(boxes0, np.ones(len(boxes0), np.float32), frame)).all()


@given(
    st.integers(1, 300_000),
    st.integers(1, 300_000),
    st.integers(1, 5000),
    st.integers(-50, 5000),
)
def test_levels_halve_cover_the_slide_and_show_every_tile(
    width: int, height: int, side: int, corner: int
) -> None:
    extent0 = Box(x=corner, y=corner, width=width, height=height)
    frames = map_frames(extent0, np.array([[0, 0, side, side + 3]], np.int32))
    first = frames[0]
    for level, frame in enumerate(frames):
        assert (frame.x0, frame.y0) == (corner, corner)
        assert frame.pitch_x == frame.pitch_y == first.pitch_x * 2**level
        assert frame.size_px.width * 2**level == first.size_px.width
        assert frame.size_px.height * 2**level == first.size_px.height
        assert frame.pitch_x * frame.size_px.width >= width
        assert frame.pitch_y * frame.size_px.height >= height
    fits = math.ceil(width * TILE_PX / side) * math.ceil(height * TILE_PX / side) < MOST_PX / 8
    if fits and side >= TILE_PX:
        assert frames[-1].pitch_x <= side < 2 * frames[-1].pitch_x
        assert TILE_PX <= side / first.pitch_x < 2 * TILE_PX


def test_the_largest_slides_have_maps_of_bounded_size() -> None:
    extent0 = Box(x=0, y=0, width=400_000, height=300_000)
    (frame, *_) = map_frames(extent0, np.array([[0, 0, 64, 64]], np.int32))
    assert frame.size_px.width * frame.size_px.height <= MOST_PX


def test_of_neighbours_each_pixel_is_one_tiles_own_value_at_every_level() -> None:
    corners = [(x, y) for y in range(0, 640, 64) for x in range(0, 640, 64)]
    boxes0 = np.array([(x, y, 64, 64) for x, y in corners], np.int32)
    values = np.random.default_rng(3).random(len(boxes0), np.float32)
    for frame in map_frames(Box(x=0, y=0, width=640, height=640), boxes0):
        times = 64 // int(frame.pitch_x)
        expected = np.kron(values.reshape(10, 10), np.ones((times, times), np.float32))
        np.testing.assert_array_equal(
            paint(boxes0, values, frame)[: 10 * times, : 10 * times], expected
        )


@given(st.lists(st.floats(0, 1, width=32) | st.just(math.nan), min_size=1, max_size=30))
def test_bytes_hold_probabilities_and_where_there_is_none(values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    again = from_bytes(as_bytes(given_values))
    np.testing.assert_array_equal(np.isnan(again), np.isnan(given_values))
    np.testing.assert_allclose(again, given_values, atol=0.5 / 254 + 1e-6)


def test_colours_are_one_scale_from_blue_over_yellow_to_red() -> None:
    table = colours()[0].astype(int)
    assert table.shape == (256, 3)
    assert table[0, 2] > table[0, 0] + 80
    assert table[255, 0] > table[255, 2] + 80
    assert table[128, :2].min() > table[128, 2] + 30


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_pixel_between_two_tiles_has_their_mean_by_area(share: float) -> None:
    boxes0 = np.array([[0, 0, 8, 8], [8, 0, 8, 8]], np.int32)
    frame = frame_of(4, width=1, height=1, x0=8 - 4 * share)
    assert paint(boxes0, np.array([1, 0], np.float32), frame)[0, 0] == pytest.approx(share)
