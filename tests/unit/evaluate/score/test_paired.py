"""Comparisons against scipy's and statsmodels', and what repeats and patients make of an interval."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.said import drawn_predictions, predictions_of
from tests.strategies import seeds
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.nested import drawn_of, nested_interval, over_repeats, repeated
from wsi_pipeline.evaluate.score.paired import delong, differences, paired, unpaired
from wsi_pipeline.evaluate.score.table import score_table
from wsi_pipeline.train.metrics import area_under_roc


@settings(max_examples=30)
@given(seeds, st.integers(2, 12))
def test_pairs_are_compared_as_scipy_and_statsmodels_do(seed: int, pairs: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(0.1, 1, (2, pairs))
    found = paired(a, b)
    theirs = sm.stats.DescrStatsW(a - b)
    assert found.t.p == pytest.approx(theirs.ttest_mean(0)[1], abs=1e-9)
    assert found.t.p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=1e-9)
    interval = (found.interval.low, found.interval.high)
    assert interval == pytest.approx(theirs.tconfint_mean(0.05), abs=1e-9)
    flipped = stats.permutation_test(
        (a - b,),
        lambda values: float(np.mean(values)),
        permutation_type="samples",
        n_resamples=2**pairs,
    )
    assert found.sign_flip.p == pytest.approx(min(flipped.pvalue, 1), abs=1e-9)
    ranked = stats.wilcoxon(a, b, method="exact")
    assert found.wilcoxon.p == pytest.approx(ranked.pvalue, abs=1e-9)


@pytest.mark.parametrize(("pairs", "least"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_the_least_p_of_few_pairs_is_reached_and_said(pairs: int, least: float) -> None:
    found = paired(np.arange(1, pairs + 1), np.zeros(pairs))
    for test in (found.sign_flip, found.wilcoxon):
        assert test.p == test.least == least
        assert (f"with {pairs} pairs p cannot be below {least:.4g}" == test.note) is (least > 0.05)


def test_more_than_ten_pairs_are_all_tried() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 12)
    patterns = np.array(list(product((1, -1), repeat=12))) @ np.abs(values)
    expected = (np.abs(patterns) >= abs(values.sum()) - 1e-12).mean()
    assert paired(values, np.zeros(12)).sign_flip.p == pytest.approx(expected)


def test_equal_pairs_cannot_be_tested_and_it_is_said() -> None:
    found = paired([1.0, 2.0], [1.0, 2.0])
    assert (found.t.p, found.sign_flip.p, found.wilcoxon.p) == (None, 1.0, None)
    assert found.wilcoxon.note == "no pair differs"
    with pytest.raises(ValueError, match="two scores or more"):
        paired([1.0], [1.0])


@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_unmatched_seeds_are_compared_as_scipy_does(seed: int, first: int, second: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(0, 1, first), random.normal(0, 1, second)
    found = unpaired(a, b)
    expected = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert found.p == pytest.approx(expected, abs=1e-9)
    assert (found.p or 0) >= found.least - 1e-12


def test_five_unmatched_seeds_each_can_reach_what_five_pairs_cannot() -> None:
    assert unpaired([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]).p == pytest.approx(2 / 252)


def kernel_of(a: float, b: float) -> float:
    return float(a > b) + 0.5 * float(a == b)


def test_pairs_that_differ_alike_but_for_rounding_are_equal() -> None:
    first = np.array([0.8, 0.9, 0.7, 0.6, 0.5])
    second = np.array([0.77, 0.87, 0.67, 0.57, 0.47])
    assert np.ptp(first - second) > 0  # in their last digits
    found = paired(first, second)
    assert (found.t.p, found.effect) == (None, None)
    assert found.t.note == "all differences are equal"
    assert found.mean == pytest.approx(0.03)
    assert paired(first, second * (1 + 1e-9 * np.arange(5))).t.p is not None


@settings(max_examples=20)
@given(seeds)
def test_delong_is_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    positive = np.array([True] * 6 + [False] * 8)
    both = np.round(random.normal(0, 1, (2, 14)) + positive, 1)
    difference, test = delong(both[0], both[1], positive, np.arange(14))
    areas = [area_under_roc(each, positive, np.ones(14)) or 0 for each in both]
    assert difference == pytest.approx(areas[0] - areas[1])
    won = np.array(
        [[[kernel_of(x, y) for y in each[~positive]] for x in each[positive]] for each in both]
    )
    placed = won[0] - won[1]
    variance = placed.mean(1).var(ddof=1) / 6 + placed.mean(0).var(ddof=1) / 8
    if variance > 1e-12:
        expected = 2 * stats.norm.sf(abs(difference) / np.sqrt(variance))
        assert test.p == pytest.approx(expected, abs=1e-9)


def test_delong_is_refused_for_tiles_of_shared_patients() -> None:
    positive = np.array([True, False, True, False])
    with pytest.raises(ConfigError, match=r"got 4 of 2 patients.* no independent witnesses"):
        delong(np.arange(4), np.arange(4), positive, ["a", "a", "b", "b"])


def noisier(said: Predictions, seed: int, by: float) -> Predictions:
    random = np.random.default_rng(seed)
    z = (said.logits + random.normal(0, by, len(said))).astype(np.float32)
    place = said.table.column_names.index("logit")
    return Predictions(
        table=said.table.set_column(place, "logit", pa.chunked_array([pa.array(z)])),
        classes=said.classes,
    )


def test_two_networks_are_compared_on_the_same_draws() -> None:
    said = drawn_predictions(1, patients=20, separation=2)
    worse = noisier(said, 1, 3.0)
    turned = Predictions(table=worse.table.sort_by("tile").slice(0), classes=worse.classes)
    found = differences(said, turned, replicates=500)
    auroc = found["auroc", "none"]
    assert auroc.interval.low is not None
    assert 0 < auroc.interval.low < auroc.value
    same = differences(said, said, replicates=50)
    assert {(each.value, each.interval.low) for each in same.values()} == {(0.0, 0.0)}
    with pytest.raises(ConfigError, match="same labelled tiles"):
        differences(said, said.only(said.targets == 1))


def test_repeats_that_say_the_same_scatter_by_patients_alone() -> None:
    said = drawn_predictions(1, patients=20)
    found = repeated([said] * 4, replicates=800)["auroc", "none"]
    rows = score_table(said, replicates=800).to_pandas()
    row = rows[(rows["unit"] == "tile") & (rows["by"] == "all") & (rows["score"] == "auroc")].iloc[
        0
    ]
    assert found.mean == pytest.approx(row["value"])
    assert found.spread == pytest.approx(0, abs=1e-12)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (row["low"], row["high"]), abs=1e-9
    )


def test_seeds_that_scatter_make_the_interval_wider_and_few_of_them_wider_still() -> None:
    said = drawn_predictions(1, patients=20, separation=2)
    repeats = [noisier(said, seed, 0.3 + seed / 2) for seed in range(5)]

    def width(some: list[Predictions]) -> float:
        interval = repeated(some, replicates=800)["auroc", "none"].interval
        assert interval.low is not None
        assert interval.high is not None
        return interval.high - interval.low

    alike = [repeats[2]] * 5
    assert width(repeats) > 1.2 * width(alike)
    assert width([repeats[0], repeats[4]]) > width(repeats)


def test_a_score_that_no_draw_has_gets_no_interval_and_no_warning() -> None:
    drawn, picked = np.full((3, 40), np.nan), np.zeros((40, 3), np.int64)
    found = nested_interval(np.array([0.1, 0.2, 0.3]), drawn, picked, patients=8, effective=8)
    assert (found.low, found.high) == (None, None)
    assert "40 of 40 resamples" in found.note


def test_differences_of_repeats_are_drawn_with_the_same_seeds_and_patients() -> None:
    said = drawn_predictions(1, patients=20, separation=2)
    ours = [drawn_of(noisier(said, seed, 0.3), replicates=400) for seed in range(4)]
    worse = [drawn_of(noisier(said, seed, 3.0), replicates=400) for seed in range(4)]
    key = ("auroc", "none")
    found = over_repeats(ours, worse)[key]
    assert found.values == pytest.approx(
        [a.values[key] - b.values[key] for a, b in zip(ours, worse, strict=True)]
    )
    assert found.interval.low is not None
    assert 0 < found.interval.low < found.mean
    same = over_repeats(ours, ours)[key]
    assert (same.mean, same.interval.low, same.interval.high) == (0, 0, 0)
    with pytest.raises(ConfigError, match="same labelled tiles"):
        over_repeats(ours[:1], [drawn_of(drawn_predictions(2), replicates=400)])


def test_repeats_of_other_tiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="same labelled tiles"):
        repeated([drawn_predictions(1), drawn_predictions(2)])
    with pytest.raises(ConfigError, match="got none"):
        repeated([])
    one = repeated([predictions_of([1.0, -1.0], [1, 0], patients=["a", "b"])], replicates=50)
    assert "1 repeat: seeds are not drawn" in one["recall", "0.5"].interval.note
