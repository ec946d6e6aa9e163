"""Areas under curves of drawn patients: the same as counting their tiles as often as they are drawn."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.strategies import seeds
from wsi_pipeline.evaluate.score import ranking
from wsi_pipeline.evaluate.score.ranking import (
    Area,
    Ranks,
    pair_area,
    pairs_of,
    precision_area,
    ranked,
    roc_area,
    tile_area,
)
from wsi_pipeline.train.metrics import Floats


def drawn(seed: int, *, tiles: int, patients: int, digits: int = 1, heaviest: int = 3) -> Ranks:
    random = np.random.default_rng(seed)
    positive = random.random(tiles) < 0.4
    values = np.round(random.normal(0, 1, tiles) + positive, digits)
    weights = random.integers(1, heaviest + 1, tiles).astype(np.float64)
    return ranked(values, positive, weights, random.integers(0, patients, tiles), count=patients)


def draws(seed: int, patients: int, count: int = 5) -> Floats:
    drawn = np.random.default_rng(seed).multinomial(patients, [1 / patients] * patients, count)
    return drawn.astype(np.float64)


@settings(max_examples=60)
@given(
    seeds,
    st.integers(1, 60),
    st.integers(1, 8),
    st.sampled_from([1, 3]),
    st.sampled_from([pair_area, tile_area]),
)
def test_a_patient_who_is_drawn_twice_is_two(
    seed: int, tiles: int, patients: int, heaviest: int, area: Callable[[Ranks], Area]
) -> None:
    ranks = drawn(seed, tiles=tiles, patients=patients, heaviest=heaviest)
    weights = draws(seed, patients)
    for found, times in zip(area(ranks)(weights), weights, strict=True):
        held = ranks.weights * times[ranks.patients]
        if len(np.unique(ranks.positive[held > 0])) < 2:
            assert np.isnan(found)
            continue
        expected = roc_auc_score(ranks.positive, ranks.steps, sample_weight=held)
        assert found == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(seeds, st.integers(1, 60), st.integers(1, 8))
def test_average_precision_of_few_values_is_scikit_learns(
    seed: int, tiles: int, patients: int
) -> None:
    ranks, weights = drawn(seed, tiles=tiles, patients=patients), draws(seed, patients)
    for found, times in zip(precision_area(ranks)(weights), weights, strict=True):
        held = ranks.weights * times[ranks.patients]
        if len(np.unique(ranks.positive[held > 0])) < 2:  # of positive tiles alone it is always 1
            assert np.isnan(found)
            continue
        expected = average_precision_score(ranks.positive, ranks.steps, sample_weight=held)
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_joined_values_are_far_nearer_than_draws_scatter(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    patients = random.integers(0, 20, 40_000)
    positive = random.random(40_000) < share
    values = random.normal(0, 1, 40_000) + positive + random.normal(0, 0.4, 20)[patients]
    ranks = ranked(values, positive, np.ones(40_000), patients, count=20)
    weights = draws(3, 20, 20)
    monkeypatch.setattr(ranking, "STEPS", 256)
    joined = precision_area(ranks)(weights)
    monkeypatch.setattr(ranking, "STEPS", 10**9)
    exact = precision_area(ranks)(weights)
    assert 0 < np.abs(joined - exact).max() < exact.std() / 20


@given(seeds, st.integers(2, 60), st.integers(1, 8))
def test_every_pair_of_tiles_is_won_by_one_or_shared(seed: int, tiles: int, patients: int) -> None:
    ranks = drawn(seed, tiles=tiles, patients=patients)
    turned = Ranks(
        patients=ranks.patients,
        weights=ranks.weights,
        positive=~ranks.positive,
        steps=ranks.steps,
        count=patients,
    )
    all_pairs = np.outer(ranks.sums(positive=True), ranks.sums(positive=False))
    assert pairs_of(ranks) + pairs_of(turned).T == pytest.approx(all_pairs)


def test_both_ways_are_taken_and_agree() -> None:
    ranks, weights = drawn(1, tiles=400, patients=80), draws(1, 80, 70)
    few: Area = roc_area(ranks, draws=70)
    many = roc_area(ranks, draws=10_000)
    assert few(weights) == pytest.approx(many(weights), abs=1e-12)
    assert "tile_area" in few.__qualname__
    assert "pair_area" in many.__qualname__


def test_nothing_has_no_area() -> None:
    ranks = drawn(1, tiles=0, patients=2)
    for area in (pair_area, tile_area, precision_area):
        assert np.isnan(area(ranks)(np.ones((1, 2)))).all()
