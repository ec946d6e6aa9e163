"""Intervals by drawing patients: what draws are, what intervals keep, and how often they hold the truth."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import bootstrap as reference

from tests.strategies import seeds
from wsi_pipeline.evaluate.score import bootstrap
from wsi_pipeline.evaluate.score.bootstrap import (
    draws_of,
    effective_patients,
    few,
    interval_of,
    replicated,
    tail_of,
)
from wsi_pipeline.evaluate.score.ranking import pair_area, ranked
from wsi_pipeline.train.metrics import Floats, area_under_roc


@given(seeds, st.integers(1, 40), st.integers(1, 50))
def test_as_many_patients_are_drawn_as_there_are(seed: int, patients: int, count: int) -> None:
    draws = np.concatenate(list(draws_of(patients, count, seed=seed)))
    assert draws.shape == (count, patients)
    assert (draws.sum(axis=1) == patients).all()


def test_draws_are_the_same_by_seed_however_many_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = np.concatenate(list(draws_of(7, 100, seed=1)))
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 70)
    parts = list(draws_of(7, 100, seed=1))
    assert len(parts) == 10
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(np.concatenate(list(draws_of(7, 100, seed=2))), whole)


def test_each_patient_is_drawn_alike() -> None:
    draws = np.concatenate(list(draws_of(5, 20_000, seed=0)))
    assert draws.mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    assert draws.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.03)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(-1 / 4, abs=0.03)


def test_five_patients_give_126_draws_and_it_is_said() -> None:
    draws = np.concatenate(list(draws_of(5, 20_000, seed=0)))
    assert len(np.unique(draws, axis=0)) == comb(9, 5) == 126
    assert few(5) == "5 patients: only 126 distinct resamples"
    assert few(30) == ""


def mean_of(values: Floats) -> bootstrap.Statistic:
    return lambda draws: {("mean", "none"): draws @ values / draws.sum(axis=1)}


def test_the_percentile_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(0).normal(0, 1, 60)
    found = replicated(mean_of(values), patients=60, replicates=20_000).values["mean", "none"]
    theirs = reference((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    assert found.std() == pytest.approx(theirs.standard_error, rel=0.03)
    ours = np.quantile(found, [0.025, 0.975])
    assert ours == pytest.approx(list(theirs.confidence_interval), abs=0.02)


@given(st.integers(3, 500), st.floats(0.5, 0.99))
def test_few_patients_make_the_interval_of_a_mean_that_of_students_t(n: int, level: float) -> None:
    """A normal sample's draws have the deviation s sqrt((n - 1) / n) / sqrt(n)."""
    out = stats.norm.ppf(tail_of(n, level=level)) * np.sqrt((n - 1) / n) / np.sqrt(n)
    assert out == pytest.approx(stats.t.ppf((1 - level) / 2, n - 1) / np.sqrt(n), rel=1e-6)


@given(seeds, st.integers(2, 50))
def test_an_interval_follows_any_rising_change_of_scale(seed: int, patients: int) -> None:
    values = np.random.default_rng(seed).beta(4, 2, 4001)
    plain, logit = (interval_of(each, patients) for each in (values, np.log(values / (1 - values))))
    assert plain.low is not None
    assert logit.low is not None
    assert 1 / (1 + np.exp(-logit.low)) == pytest.approx(plain.low, abs=1e-3)
    assert values.min() <= plain.low


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.floats(0.1, 10))
def test_unequal_patients_count_for_fewer(weights: list[float], times: float) -> None:
    held = np.array(weights)
    found = effective_patients(held)
    assert 1 - 1e-9 <= found <= len(weights) + 1e-9
    assert effective_patients(held * times) == pytest.approx(found)


def test_what_has_no_interval_says_why() -> None:
    assert interval_of(np.ones(10), 1).note == "1 patient: no interval"
    lost = np.array([np.nan] * 6 + [0.5] * 4)
    assert interval_of(lost, 20).note == "no interval: 6 of 10 resamples lack what it counts"
    assert interval_of(lost, 20).low is None
    some = interval_of(np.array([np.nan, 0.5, 0.5, 0.5]), 20)
    assert (some.low, some.high) == (0.5, 0.5)
    assert "1 of 4" in some.note


def coverage(*, patients: int, simulations: int, replicates: int, seed: int) -> tuple[float, float]:
    """Return how often the intervals of an area and of a proportion hold the truth.

    Patients differ in how many tiles they have, how many of these are positive, and how high the network
    scores all of their tiles. The truth is that of 20 000 such patients.
    """
    truth = simulated(np.random.default_rng(seed), 20_000)
    area = area_under_roc(truth[0], truth[1], np.ones(len(truth[0])))
    recall = float((truth[0][truth[1]] > 0.75).mean())
    held = np.zeros(2)
    for number in range(simulations):
        values, positive, owners = simulated(np.random.default_rng([seed, number]), patients)
        ranks = ranked(values, positive, np.ones(len(values)), owners, count=patients)
        theirs, ours = ranks.sums(positive=False), ranks.sums(positive=True)
        found = np.bincount(owners, positive & (values > 0.75), patients)
        draws = next(draws_of(patients, replicates, seed=number))
        effective = effective_patients(ours)
        fewer = min(effective, effective_patients(theirs))
        first = interval_of(pair_area(ranks)(draws), patients, effective=fewer)
        second = interval_of(
            (draws @ found) / np.maximum(draws @ ours, 1e-9), patients, effective=effective
        )
        for place, (true, each) in enumerate([(area, first), (recall, second)]):
            assert true is not None
            assert each.low is not None
            assert each.high is not None
            held[place] += each.low <= true <= each.high
    return float(held[0] / simulations), float(held[1] / simulations)


def simulated(
    random: np.random.Generator, patients: int
) -> tuple[
    Floats,
    "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]",
    "np.ndarray[tuple[int, ...], np.dtype[np.int64]]",
]:
    tiles = np.maximum(5, random.lognormal(3.3, 0.5, patients)).astype(np.int64)
    owners = np.repeat(np.arange(patients), tiles)
    positive = random.random(len(owners)) < random.beta(1.2, 1.2, patients)[owners]
    shift = random.normal(0, 0.6, patients)
    values = random.normal(0, 1, len(owners)) + 1.5 * positive + shift[owners]
    return values, positive, owners


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of 300 simulations 95 % are 285 with a standard deviation of 3.8."""
    found = coverage(patients=35, simulations=300, replicates=600, seed=1)
    assert min(found) > 0.91
    assert max(found) < 0.985


@pytest.mark.slow
@pytest.mark.parametrize("patients", [30, 40])
def test_the_coverage_at_95_percent_lies_between_93_and_97(patients: int) -> None:
    found = coverage(patients=patients, simulations=4000, replicates=2000, seed=2)
    assert min(found) >= 0.93
    assert max(found) <= 0.97


@pytest.mark.slow
def test_plain_percentiles_hold_the_truth_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wider tails are for; if this fails, they are not needed."""
    monkeypatch.setattr(bootstrap, "tail_of", lambda _, level: (1 - level) / 2)
    assert max(coverage(patients=12, simulations=1000, replicates=1000, seed=3)) < 0.93
