"""Shares of classes: exact, whatever the shapes are like and however the tiles lie."""

from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes, Size
from wsi_pipeline.labels.cells import cells_of, in_turns
from wsi_pipeline.labels.coverage import (
    Shapes,
    Shares,
    covered_shares,
    mended,
    outside,
    overlaps,
    united,
)

CANVAS = Size(width=400, height=300)
NONE = np.empty(0, dtype=np.object_)


def boxes(*each: tuple[int, int, int, int]) -> Boxes:
    return np.array(each, dtype=np.int32).reshape(-1, 4)


def grid(side: int, stride: int, canvas: Size = CANVAS) -> Boxes:
    """Return tiles that overlap and reach past the canvas."""
    xs, ys = np.arange(0, canvas.width, stride), np.arange(0, canvas.height, stride)
    return boxes(*((x, y, side, side) for y in ys.tolist() for x in xs.tolist()))


def shapes_of(*each: shapely.Geometry) -> Shapes:
    found = np.empty(len(each), dtype=np.object_)
    found[:] = each
    return found


def shares(shapes: Shapes, tiles: Boxes, canvas: Size = CANVAS, without: Shapes = NONE) -> Shares:
    return covered_shares(united(mended(shapes).shapes, mended(without).shapes), tiles, canvas)


def star(seed: int, corners: int, *, within: Size = CANVAS) -> shapely.Polygon:
    """Return an outline with spikes that does not cross itself and may leave the canvas."""
    rng = np.random.default_rng([5, seed])
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(5, 120, corners)
    centre = rng.uniform(0, (within.width, within.height))
    return shapely.Polygon(
        centre + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    )


stars = st.builds(star, st.integers(0, 10_000), st.integers(3, 40))
grids = st.builds(grid, st.integers(20, 150), st.integers(15, 120))


def exact(area: shapely.Geometry, tiles: Boxes, canvas: Size = CANVAS) -> NDArray[np.float64]:
    """Return the shares by cutting the polygon with every tile."""
    x, y, width, height = tiles.T.astype(np.float64)
    inside = shapely.intersection(
        shapely.box(x, y, x + width, y + height), shapely.box(0, 0, canvas.width, canvas.height)
    )
    return np.asarray(shapely.area(shapely.intersection(inside, area)) / (width * height))


@given(shapes=st.lists(stars, min_size=1, max_size=6), tiles=grids)
def test_shares_are_those_of_cutting_every_tile(
    shapes: list[shapely.Geometry], tiles: Boxes
) -> None:
    area = united(mended(shapes_of(*shapes)).shapes, NONE)
    np.testing.assert_allclose(covered_shares(area, tiles, CANVAS), exact(area, tiles), atol=1e-6)


@given(shape=stars, hole=stars, tiles=grids)
def test_holes_are_taken_away(
    shape: shapely.Geometry, hole: shapely.Geometry, tiles: Boxes
) -> None:
    whole = shares(shapes_of(shape), tiles)
    common = exact(shapely.intersection(shapely.make_valid(shape), shapely.make_valid(hole)), tiles)
    found = shares(shapes_of(shape), tiles, without=shapes_of(hole))
    np.testing.assert_allclose(found, whole - common, atol=1e-5)


def drawn_picture(shape: shapely.Polygon, zoom: int) -> NDArray[np.int64]:
    """Return 1 where a pixel's centre is inside: to the right of an odd number of edges."""
    height, width = CANVAS.height * zoom, CANVAS.width * zoom
    crossings = np.zeros((height, width + 1), dtype=np.int64)
    corners = np.asarray(shape.exterior.coords) * zoom
    middles = np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in pairwise(corners):
        rows = np.flatnonzero((middles >= min(y0, y1)) & (middles < max(y0, y1)))
        xs = x0 + (middles[rows] - y0) * (x1 - x0) / (y1 - y0) if rows.size else middles[rows]
        np.add.at(crossings, (rows, np.clip(np.ceil(xs - 0.5), 0, width).astype(np.intp)), 1)
    inside: NDArray[np.int64] = np.cumsum(crossings, axis=1)[:, :width] % 2
    return inside


@settings(max_examples=15)
@given(shape=stars, tiles=grids)
def test_shares_agree_with_a_drawn_picture_within_one_percent(
    shape: shapely.Polygon, tiles: Boxes
) -> None:
    assume(shapely.is_valid(shape))
    zoom = 6  # pixels of the picture per level-0 pixel
    table = np.zeros((CANVAS.height * zoom + 1, CANVAS.width * zoom + 1))
    np.cumsum(np.cumsum(drawn_picture(shape, zoom), axis=0), axis=1, out=table[1:, 1:])
    found = shares(shapes_of(shape), tiles)
    for (x, y, width, height), share in zip(tiles.tolist(), found, strict=True):
        right, below = min(x + width, CANVAS.width) * zoom, min(y + height, CANVAS.height) * zoom
        left, top = x * zoom, y * zoom
        drawn = table[below, right] - table[top, right] - table[below, left] + table[top, left]
        assert abs(drawn / (zoom * zoom * width * height) - share) < 0.01


@given(shapes=st.lists(stars, min_size=2, max_size=5), tiles=grids)
def test_classes_that_share_nothing_sum_to_at_most_one(
    shapes: list[shapely.Geometry], tiles: Boxes
) -> None:
    given_away: Shapes = NONE
    total = np.zeros(len(tiles))
    for shape in shapes:
        total += shares(shapes_of(shape), tiles, without=given_away)
        given_away = shapes_of(*given_away, shape)
    assert total.max() <= 1 + 1e-5


@given(shape=stars, tiles=grids, by=st.tuples(st.integers(0, 90_000), st.integers(0, 90_000)))
def test_moving_slide_and_shape_together_changes_nothing(
    shape: shapely.Geometry, tiles: Boxes, by: tuple[int, int]
) -> None:
    inside = shapely.intersection(
        shapely.make_valid(shape), shapely.box(0, 0, CANVAS.width, CANVAS.height)
    )
    moved_shape = shapely.transform(inside, lambda points: points + by)
    moved_tiles = tiles + np.array([*by, 0, 0], dtype=np.int32)
    larger = Size(width=CANVAS.width + by[0], height=CANVAS.height + by[1])
    before = covered_shares(inside, tiles, CANVAS)
    assert before == pytest.approx(covered_shares(moved_shape, moved_tiles, larger), abs=1e-5)


@given(shape=stars, tiles=grids)
def test_a_mirrored_slide_has_mirrored_shares(shape: shapely.Geometry, tiles: Boxes) -> None:
    mirrored = shapely.transform(shape, lambda points: (CANVAS.width, 0) + points * (-1, 1))
    swapped = tiles.copy()
    swapped[:, 0] = CANVAS.width - tiles[:, 0] - tiles[:, 2]
    found = shares(shapes_of(mirrored), swapped)
    assert shares(shapes_of(shape), tiles) == pytest.approx(found, abs=1e-5)


@given(shape=stars, tiles=grids)
def test_the_sense_of_an_outline_does_not_matter(shape: shapely.Geometry, tiles: Boxes) -> None:
    backwards = shapely.reverse(shape)
    assert shares(shapes_of(backwards), tiles) == pytest.approx(shares(shapes_of(shape), tiles))


@given(shape=stars, tiles=grids, seed=st.integers(0, 99))
def test_the_order_of_tiles_and_the_turns_do_not_matter(
    shape: shapely.Geometry, tiles: Boxes, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(tiles))
    area = united(mended(shapes_of(shape)).shapes, NONE)
    found = covered_shares(area, tiles[order], CANVAS)
    np.testing.assert_allclose(found, covered_shares(area, tiles, CANVAS)[order], atol=1e-6)
    groups = list(in_turns(tiles, most_cells=30))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(tiles)))
    assert all(len(cells_of(tiles[group], CANVAS).xs) <= 30 for group in groups)


def test_the_same_shape_twice_covers_once() -> None:
    shape = shapely.box(10, 10, 60, 60)
    tiles = boxes((10, 10, 100, 50))
    assert shares(shapes_of(shape, shape, shape), tiles).tolist() == [0.5]
    assert overlaps(shapes_of(shape, shape, shape), ["a"] * 3).same == {"a": 3}


def test_a_footprint_past_the_slide_counts_whole() -> None:
    tiles = boxes((350, 0, 100, 100), (350, 250, 100, 100), (0, 0, 100, 100))
    everything = shapely.box(-1e6, -1e6, 1e6, 1e6)
    assert shares(shapes_of(everything), tiles).tolist() == [0.5, 0.25, 1.0]


def test_a_tile_that_touches_a_shape_has_none_of_it() -> None:
    tiles = boxes((0, 0, 100, 100), (100, 0, 100, 100), (0, 100, 100, 100))
    assert shares(shapes_of(shapely.box(0, 0, 100, 100)), tiles).tolist() == [1.0, 0.0, 0.0]


def test_no_tiles_and_no_shapes_are_no_trouble() -> None:
    assert shares(shapes_of(shapely.box(0, 0, 9, 9)), boxes()).tolist() == []
    assert covered_shares(shapely.Polygon(), boxes((0, 0, 9, 9)), CANVAS).tolist() == [0.0]


@pytest.mark.parametrize(
    ("corners", "area"),
    [
        ([(0, 0), (10, 10), (10, 0), (0, 10)], 50),  # a bow tie: both wings
        ([(0, 0), (10, 0), (10, 10), (4, 10), (4, -5), (6, -5), (6, 5), (0, 5)], 90),  # a loop
        ([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (2, 2), (8, 2), (8, 8), (2, 8), (2, 2)], 100),
        ([(0, 0), (10, 0), (10, 10), (20, 10), (10, 10), (0, 10)], 100),  # a spike without an area
    ],
)
def test_what_an_outline_goes_around_is_inside(
    corners: list[tuple[float, float]], area: float
) -> None:
    repaired = mended(shapes_of(shapely.Polygon(corners)))
    assert repaired.crossed.tolist() == [True]
    assert shapely.area(repaired.shapes).tolist() == [area]


def test_overlaps_are_counted_by_class_and_touching_is_none() -> None:
    shapes = shapes_of(
        shapely.box(0, 0, 10, 10),
        shapely.box(10, 0, 20, 10),  # touches the first
        shapely.box(5, 5, 15, 15),
        shapely.box(100, 100, 110, 110),
        shapely.box(102, 102, 104, 104),  # within the fourth
    )
    found = overlaps(shapes, ["a", "a", "b", "b", "b"])
    assert found.same == {"b": 1}
    assert found.different == {("a", "b"): 2}


def test_what_lies_past_the_slide_is_told_from_what_reaches_past_it() -> None:
    shapes = shapes_of(
        shapely.box(1, 1, 5, 5),
        shapely.box(-0.5, -0.5, 400.5, 300.5),  # rounding of a drawing program
        shapely.box(390, 10, 450, 20),
        shapely.box(500, 500, 600, 600),
        shapely.box(-30, 0, -20, 9),
    )
    found = outside(shapes, CANVAS)
    assert found.partly.tolist() == [False, False, True, True, True]
    assert found.wholly.tolist() == [False, False, False, True, True]
    assert found.furthest_px[found.partly].tolist() == [50, 300, 30]
