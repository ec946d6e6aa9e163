"""Tiles of another part that share pixels are found, exactly those."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.labels.overlap import crossing

NUMBERS = st.integers(-20, 40)
BOXES = st.lists(
    st.tuples(NUMBERS, NUMBERS, st.integers(1, 25), st.integers(1, 25), st.integers(0, 2)),
    min_size=1,
    max_size=30,
)


@given(rows=BOXES)
def test_it_is_what_painting_the_boxes_shows(rows: list[tuple[int, ...]]) -> None:
    table = np.array(rows)
    canvas = np.zeros((3, 90, 90), dtype=np.bool_)
    for x, y, width, height, part in rows:
        canvas[part, y + 20 : y + 20 + height, x + 20 : x + 20 + width] = True
    expected = [
        any(
            canvas[other, y + 20 : y + 20 + height, x + 20 : x + 20 + width].any()
            for other in range(3)
            if other != part
        )
        for x, y, width, height, part in rows
    ]
    assert crossing(table[:, :4].astype(np.int32), table[:, 4]).tolist() == expected


@given(rows=BOXES, seed=st.integers(0, 9))
def test_neither_order_nor_place_matters(rows: list[tuple[int, ...]], seed: int) -> None:
    table = np.array(rows)
    boxes0, parts = table[:, :4].astype(np.int32), table[:, 4]
    order = np.random.default_rng(seed).permutation(len(table))
    moved = boxes0 + np.array([10_000, -7, 0, 0], dtype=np.int32)
    expected = crossing(boxes0, parts)
    assert (crossing(boxes0[order], parts[order]) == expected[order]).all()
    assert (crossing(moved, parts) == expected).all()


def test_no_tiles_and_one_part_cross_nothing() -> None:
    assert crossing(np.empty((0, 4), dtype=np.int32), np.empty(0, dtype=np.int64)).tolist() == []
    boxes0 = np.array([[0, 0, 9, 9]] * 5, dtype=np.int32)
    assert not crossing(boxes0, np.ones(5, dtype=np.int64)).any()


@pytest.mark.parametrize("kind", ["grid", "one place"])
def test_many_tiles_take_seconds(kind: str) -> None:
    count = 50_000
    rows, columns = np.divmod(np.arange(count), 250)
    boxes0 = np.column_stack([columns * 205, rows * 205, np.full((count, 2), 256)]).astype(np.int32)
    if kind == "one place":
        boxes0[:, :2] = 0
    parts = np.random.default_rng(1).integers(0, 2, count)
    started = time.process_time()
    assert crossing(boxes0, parts).mean() > 0.9
    assert time.process_time() - started < 20
