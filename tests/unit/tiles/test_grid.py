import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import boxes
from wsi_pipeline.geometry import Box
from wsi_pipeline.tiles.grid import Edge, stride_px, tile_grid, tile_origins

FIXTURE = Path(__file__).parents[2] / "fixtures/histoprep_2_0_5.json"
HISTOPREP = {
    grid["out_of_bounds"]: grid
    for grid in json.loads(FIXTURE.read_text("utf-8"))["tile_coordinates"]
}
EDGES: tuple[Edge, ...] = ("pad", "drop", "shift")

extents = st.integers(1, 10_000)
sides = st.integers(1, 600)
overlaps = st.floats(0, 0.99)
edges = st.sampled_from(EDGES)
parts_of_a_side = st.floats(0, 1)


@given(extents, sides, parts_of_a_side)
def test_every_pixel_is_inside_some_padded_tile(extent: int, side: int, part: float) -> None:
    origins = tile_origins(extent, side_px=side, stride=stride_of(side, part), edge="pad")
    assert uncovered(origins, side, extent) == 0


@given(extents, sides, parts_of_a_side)
def test_every_pixel_is_inside_some_shifted_tile(extent: int, side: int, part: float) -> None:
    origins = tile_origins(extent, side_px=side, stride=stride_of(side, part), edge="shift")
    assert uncovered(origins, side, extent) == 0


@given(st.integers(1, 60), st.integers(2, 6), st.floats(0, 0.999))
def test_strides_just_below_a_side_leave_out_no_last_pixel(
    extent: int, side: int, less: float
) -> None:
    origins = tile_origins(extent, side_px=side, stride=side - less, edge="pad")
    assert uncovered(origins, side, extent) == 0


@given(extents, sides, parts_of_a_side)
def test_no_tile_that_is_not_dropped_reaches_outside(extent: int, side: int, part: float) -> None:
    origins = tile_origins(extent, side_px=side, stride=stride_of(side, part), edge="drop")
    assert (origins >= 0).all()
    assert (origins + side <= extent).all()


@given(extents, sides, parts_of_a_side)
def test_dropped_tiles_are_the_padded_ones_that_reach_outside(
    extent: int, side: int, part: float
) -> None:
    stride = stride_of(side, part)
    padded = tile_origins(extent, side_px=side, stride=stride, edge="pad")
    kept = tile_origins(extent, side_px=side, stride=stride, edge="drop")
    assert kept.tolist() == padded[padded + side <= extent].tolist()


@given(extents, sides, parts_of_a_side)
def test_shifted_tiles_never_reach_outside_a_slide_as_large_as_a_tile(
    extent: int, side: int, part: float
) -> None:
    assume(extent >= side)
    origins = tile_origins(extent, side_px=side, stride=stride_of(side, part), edge="shift")
    assert (origins >= 0).all()
    assert origins[-1] + side == extent


@given(extents, sides, overlaps)
def test_shifted_tiles_are_as_few_as_cover_the_slide(
    extent: int, side: int, overlap: float
) -> None:
    stride = stride_px(side, overlap)
    assume(stride >= 1)
    origins = tile_origins(extent, side_px=side, stride=stride, edge="shift")
    assert origins.size == max(0, -(-(extent - side) // stride)) + 1


@given(st.integers(1, 599))
def test_a_slide_smaller_than_a_tile_gets_one_tile_unless_it_is_dropped(extent: int) -> None:
    counts = [
        tile_origins(extent, side_px=600, stride=600, edge=edge).tolist()
        for edge in ("pad", "shift", "drop")
    ]
    assert counts == [[0], [0], []]


@given(extents, sides, parts_of_a_side)
def test_padded_tiles_begin_inside(extent: int, side: int, part: float) -> None:
    origins = tile_origins(extent, side_px=side, stride=stride_of(side, part), edge="pad")
    assert origins[0] == 0
    assert origins[-1] < extent


@given(extents, sides, parts_of_a_side, edges)
def test_origins_ascend_and_lie_within_a_pixel_of_their_stride(
    extent: int, side: int, part: float, edge: Edge
) -> None:
    stride = stride_of(side, part)
    origins = tile_origins(extent, side_px=side, stride=stride, edge=edge)
    assert (np.diff(origins) > 0).all()
    regular = origins[:-1] if edge == "shift" else origins
    assert np.abs(regular - np.arange(regular.size) * stride).max(initial=0) < 1


@pytest.mark.parametrize(("edge", "count"), [("drop", 25), ("shift", 36), ("pad", 49)])
def test_2500_px_images_have_the_counts_of_the_study(edge: Edge, count: int) -> None:
    image = Box(x=0, y=0, width=2500, height=2500)
    grid = tile_grid(image, side_px=(512, 512), stride=(410, 410), edge=edge)
    assert len(grid) == count


def test_padded_tiles_begin_where_those_of_histoprep_out_of_bounds_do() -> None:
    theirs = HISTOPREP[True]
    assert origins_of(theirs, edge="pad") == theirs["x"]
    assert len(theirs["x"]) ** 2 == theirs["count"] == 49


def test_histoprep_in_bounds_leaves_out_the_last_padded_column_and_as_many_as_shift_remain() -> (
    None
):
    theirs = HISTOPREP[False]
    assert origins_of(theirs, edge="pad")[:-1] == theirs["x"]
    assert origins_of(theirs, edge="shift")[:-1] == theirs["x"][:-1]
    assert len(origins_of(theirs, edge="shift")) ** 2 == theirs["count"] == 36


def test_strides_are_those_of_the_study() -> None:
    assert stride_px(1024, 0.2) == 819
    assert stride_px(512, 0.2) == 410


@given(st.integers(1, 4096), overlaps)
def test_a_stride_is_the_side_without_the_rounded_overlap(side: int, overlap: float) -> None:
    assert stride_px(side, overlap) == side - round(side * overlap)
    assert stride_px(side, 0) == side


@given(boxes(corner=500, side=500), st.tuples(sides, sides), edges, parts_of_a_side)
def test_a_grid_is_every_column_of_every_row_in_row_major_order(
    bounds: Box, side: tuple[int, int], edge: Edge, part: float
) -> None:
    stride = (stride_of(side[0], part), stride_of(side[1], part))
    grid = tile_grid(bounds, side_px=side, stride=stride, edge=edge)
    x = bounds.x + tile_origins(bounds.width, side_px=side[0], stride=stride[0], edge=edge)
    y = bounds.y + tile_origins(bounds.height, side_px=side[1], stride=stride[1], edge=edge)
    expected = [[column, row, *side] for row in y.tolist() for column in x.tolist()]
    assert grid.tolist() == expected
    assert grid.dtype == np.int32


@pytest.mark.parametrize(("side", "stride"), [(0, 1.0), (4, 0.5), (4, 0.0), (-1, 2.0)])
def test_tiles_without_pixels_and_strides_that_stand_still_are_refused(
    side: int, stride: float
) -> None:
    with pytest.raises(ValueError, match="expected side and stride of at least 1"):
        tile_origins(100, side_px=side, stride=stride, edge="pad")


def stride_of(side: int, part: float) -> float:
    """Return a stride between 1 and the side, whole or not."""
    return 1 + part * (side - 1)


def uncovered(origins: np.ndarray[tuple[int], np.dtype[np.int64]], side: int, extent: int) -> int:
    """Return how many pixels of the extent are in no tile."""
    depth = np.zeros(extent + 1, dtype=np.int64)  # +1 where a tile begins, -1 behind its end
    np.add.at(depth, np.minimum(origins, extent), 1)
    np.add.at(depth, np.minimum(origins + side, extent), -1)
    return int((depth.cumsum()[:extent] == 0).sum())


def origins_of(histoprep: dict[str, int], *, edge: Edge) -> list[int]:
    side = histoprep["width"]
    stride = stride_px(side, histoprep["overlap"])
    width = histoprep["image_width"]
    found: list[int] = tile_origins(width, side_px=side, stride=stride, edge=edge).tolist()
    return found
