import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, ks_2samp, wasserstein_distance

from wsi_pipeline.labels.density import densities, distances

numbers = st.floats(-1e4, 1e4, allow_nan=False, width=32)
samples = st.lists(numbers, min_size=1, max_size=40)
RNG_SEED = [5, 2]


def two_groups(first: list[float], second: list[float]) -> tuple[NDArray[np.float32], list[str]]:
    return np.array(first + second, np.float32), ["a"] * len(first) + ["b"] * len(second)


def statistic_of_scipy(first: list[float], second: list[float]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about the p-value of a few values
        return float(ks_2samp(first, second, method="asymp").statistic)


@given(samples, samples)
def test_distances_are_those_of_scipy(first: list[float], second: list[float]) -> None:
    ks, wasserstein = distances(np.sort(first), np.sort(second))
    assert ks == pytest.approx(statistic_of_scipy(first, second), abs=1e-12)
    assert wasserstein == pytest.approx(wasserstein_distance(first, second), rel=1e-9, abs=1e-9)


@given(samples, samples)
def test_every_density_has_mass_1_and_overlaps_lie_between_0_and_1(
    first: list[float], second: list[float]
) -> None:
    found = densities(*two_groups(first, second), log=False)
    step = found.grid[1] - found.grid[0]
    for density in found.by_group.values():
        assert density.min() >= 0
        assert density.sum() * step == pytest.approx(1, abs=1e-3)
    assert 0 <= found.pairs[0].overlap <= 1


@given(samples, samples, st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(
    first: list[float], second: list[float], seed: int
) -> None:
    values, groups = two_groups(first, second)
    order = np.random.default_rng(seed).permutation(len(values))
    found = densities(values, groups, log=False)
    again = densities(values[order], [groups[row] for row in order], log=False)
    assert again.pairs == found.pairs
    assert again.groups == found.groups


@given(samples)
def test_a_group_overlaps_itself_wholly(values: list[float]) -> None:
    pair = densities(*two_groups(values, values), log=False).pairs[0]
    assert (pair.ks, pair.wasserstein) == (0, 0)
    assert pair.overlap == pytest.approx(1, abs=1e-3)


def test_a_density_is_that_of_scipy_at_the_same_bandwidth() -> None:
    values = np.random.default_rng(RNG_SEED).normal(50, 9, 5000)
    found = densities(values, ["a"] * 5000, log=False)
    kernel = gaussian_kde(values)
    q25, q75 = np.percentile(values, (25, 75))
    kernel.set_bandwidth(
        0.9 * min(values.std(), (q75 - q25) / 1.34) * 5000**-0.2 / values.std(ddof=1)
    )
    expected = kernel(found.grid)
    assert np.abs(found.by_group["a"] - expected).max() < 2e-3 * expected.max()


def test_the_overlap_of_two_normal_groups_is_what_theory_says() -> None:
    rng = np.random.default_rng(RNG_SEED)
    values = np.concatenate((rng.normal(0, 1, 40_000), rng.normal(2, 1, 40_000)))
    pair = densities(values, ["a"] * 40_000 + ["b"] * 40_000, log=False).pairs[0]
    assert pair.overlap == pytest.approx(0.3173, abs=0.01)  # 2 Φ(-1)
    assert pair.wasserstein == pytest.approx(2, abs=0.02)


def test_on_a_logarithmic_axis_a_factor_of_ten_is_a_distance_of_one() -> None:
    values = np.random.default_rng(RNG_SEED).lognormal(5, 0.2, 3000)
    found = densities(np.concatenate((values, values * 10)), ["a"] * 3000 + ["b"] * 3000, log=True)
    assert found.pairs[0].wasserstein == pytest.approx(1)
    assert found.far_apart() == found.pairs
    assert found.far_apart(limit=0) == ()
    assert np.diff(np.log10(found.grid)) == pytest.approx(np.diff(np.log10(found.grid))[0])


def test_what_has_no_place_on_the_axis_is_counted_and_not_moved() -> None:
    values = np.array([0, -1, np.nan, np.inf, 100, 1000], np.float32)
    (group,) = densities(values, ["a"] * 6, log=True).groups
    assert (group.count, group.left_out) == (2, 4)
    assert group.median == pytest.approx(316.2, abs=0.1)


def test_groups_without_values_have_no_density_and_rows_without_a_group_are_in_none() -> None:
    groups = pd.Categorical(["a", None, "a"], categories=["a", "empty"])
    found = densities(np.array([1.0, 5.0, 1.0]), groups, log=False)
    assert set(found.by_group) == {"a"}
    assert [(group.name, group.count) for group in found.groups] == [("a", 2), ("empty", 0)]
    assert found.pairs == ()
    assert densities(np.zeros(0), [], log=True).groups == ()


def test_as_many_groups_as_values_are_expected() -> None:
    with pytest.raises(ValueError, match="expected one for each of 2 values, got 1"):
        densities(np.zeros(2), ["a"], log=False)
