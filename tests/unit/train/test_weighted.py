"""Shares, quantiles and spreads of tiles by their weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.train.weighted import mean_and_std, quantiles, shares

TILES = st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 4)), min_size=1, max_size=12)


def arrays(tiles: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, weights, and each value as often as its weight says."""
    values, weights = np.array(tiles, np.float64).T
    return values, weights, np.repeat(values, weights.astype(int))


@given(TILES, st.lists(st.integers(0, 100), min_size=1, max_size=4))
def test_a_quantile_is_the_least_value_with_enough_weight(
    tiles: list[tuple[int, int]], percent: list[int]
) -> None:
    values, weights, whole = arrays(tiles)
    found = quantiles(values, weights, [each / 100 for each in percent])
    for value, wanted in zip(found, percent, strict=True):
        enough = [each for each in values if 100 * (whole <= each).sum() >= wanted * len(whole)]
        assert value == min(enough)


@given(TILES)
def test_a_tile_of_weight_two_spreads_like_two_tiles(tiles: list[tuple[int, int]]) -> None:
    values, weights, whole = arrays(tiles)
    assert mean_and_std(values, weights) == pytest.approx((whole.mean(), whole.std()), abs=1e-9)


def test_a_share_of_nothing_is_no_number_and_the_whole_may_be_of_several_parts() -> None:
    parts = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    found = shares(parts, parts.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(found, [[1 / 3, 2 / 3, 0], [np.nan] * 3])
