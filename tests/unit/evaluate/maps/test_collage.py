"""Which tiles are the surest hits and misses."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.evaluate.maps.collage import FROM_ONE_SLIDE, surest_tiles


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 4), st.integers(1, 12))
def test_hits_and_misses_are_what_they_are_called_and_the_surest_come_first(
    seed: int, tiles: int, classes: int, count: int
) -> None:
    random = np.random.default_rng(seed)
    odds = random.normal(0, 5, (tiles, classes))
    targets = random.integers(-1, classes, tiles)
    slides = random.integers(0, 6, tiles)
    for kind in surest_tiles(odds, targets, slides, count=count):
        said = odds[kind.rows].argmax(axis=1)
        assert (said == kind.number).all()
        assert ((targets[kind.rows] == kind.number) == kind.is_right).all()
        assert (targets[kind.rows] >= 0).all()
        sure = odds[kind.rows, kind.number]
        assert (np.diff(sure) <= 0).all()
        every = (
            (odds.argmax(axis=1) == kind.number)
            & (targets >= 0)
            & ((targets == kind.number) == kind.is_right)
        )
        assert len(set(kind.rows.tolist())) == len(kind.rows) == min(count, every.sum())
        assert sure[0] == odds[every, kind.number].max()


def test_one_slide_does_not_fill_a_row_while_there_are_others() -> None:
    odds = np.column_stack([-np.arange(20, 0, -1.0), np.arange(20, 0, -1.0)])
    slides = np.array([0] * 15 + [1, 2, 3, 4, 5])
    (kind,) = surest_tiles(odds, np.ones(20, np.int64), slides, count=6)
    assert kind.rows.tolist() == [0, 1, 15, 16, 17, 18]
    (only,) = surest_tiles(odds[:15], np.ones(15, np.int64), slides[:15], count=6)
    assert only.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert FROM_ONE_SLIDE == 2


def test_tiles_whose_probability_is_1_are_told_apart_by_their_odds() -> None:
    odds = np.array([[-50.0, 50.0], [-90.0, 90.0], [-70.0, 70.0]])
    (kind,) = surest_tiles(odds, np.ones(3, np.int64), np.arange(3), count=3)
    assert kind.rows.tolist() == [1, 2, 0]


def test_tiles_without_a_label_are_neither() -> None:
    assert surest_tiles(np.eye(2), np.full(2, -1), np.zeros(2, np.int64), count=3) == []
