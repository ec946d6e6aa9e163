"""Scores against scikit-learn's, and what must hold of them for any weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn import metrics as reference

from wsi_pipeline.errors import PipelineError
from wsi_pipeline.train.metrics import (
    ECE_BINS,
    LOGIT_EDGES,
    LOGIT_PERCENT,
    Judged,
    calibration,
    evaluation,
    judged,
    logit_shifts,
    logit_spreads,
    scores,
)

TWO = ("benign", "cancer")
FOUR = ("a", "b", "c", "d")

seeds = st.integers(0, 2**32 - 1)


def drawn(
    seed: int, *, tiles: int, classes: int = 2, single: bool = True, ties: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return logits that know something, targets of every class, and whole weights of 1 to 4."""
    random = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), random.integers(0, classes, tiles - classes)])
    logits = random.normal(0, 2, (tiles, classes)) + 1.5 * np.eye(classes)[targets]
    if ties:
        logits = np.round(logits)
    chosen = logits[:, 1] - logits[:, 0] if single else logits
    return chosen, targets, random.integers(1, 5, tiles).astype(np.float64)


@settings(max_examples=30)
@given(seeds, st.integers(2, 80), st.booleans())
def test_binary_scores_are_scikit_learns(seed: int, tiles: int, ties: bool) -> None:  # noqa: FBT001
    z, y, w = drawn(seed, tiles=tiles, ties=ties)
    p, found = expit(z), scores(z, y, w, classes=TWO)
    weighted: dict[str, Any] = {"sample_weight": w}
    expected = {
        "accuracy": reference.accuracy_score(y, z > 0, **weighted),
        "balanced_accuracy": reference.balanced_accuracy_score(y, z > 0, **weighted),
        "auroc": reference.roc_auc_score(y, z, **weighted),
        "log_loss": reference.log_loss(y, p, **weighted),
        "brier": reference.brier_score_loss(y, p, **weighted),
        "recall_cancer": reference.recall_score(y, z > 0, **weighted),
        "recall_benign": reference.recall_score(y, z > 0, pos_label=0, **weighted),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20)
@given(seeds, st.integers(8, 80))
def test_scores_of_four_classes_are_scikit_learns(seed: int, tiles: int) -> None:
    z, y, w = drawn(seed, tiles=tiles, classes=4, single=False)
    p, found = softmax(z, axis=1), scores(z, y, w, classes=FOUR)
    weighted: dict[str, Any] = {"sample_weight": w}
    areas = [reference.roc_auc_score(y == each, p[:, each], **weighted) for each in range(4)]
    expected = {
        "accuracy": reference.accuracy_score(y, p.argmax(1), **weighted),
        "balanced_accuracy": reference.balanced_accuracy_score(y, p.argmax(1), **weighted),
        "auroc": np.mean(areas),
        "log_loss": reference.log_loss(y, p, **weighted),
        "brier": reference.brier_score_loss(y, p, scale_by_half=False, **weighted),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def scored(z: Any, y: Any, w: Any, classes: Sequence[str]) -> dict[str, Any]:  # noqa: ANN401
    """Return all numbers of a row, lists as several, None as NaN."""
    flat: dict[str, Any] = {}
    for name, value in evaluation(z, y, w, classes=classes).items():
        for place, each in enumerate(value if isinstance(value, list) else [value]):
            flat[f"{name} {place}"] = np.nan if each is None else each
    del flat["tiles 0"]  # tiles are counted, not weighed
    return flat


@given(seeds, st.integers(4, 40), st.booleans())
def test_a_weight_is_a_number_of_tiles(seed: int, tiles: int, single: bool) -> None:  # noqa: FBT001
    classes = TWO if single else FOUR
    z, y, w = drawn(seed, tiles=tiles, classes=len(classes), single=single)
    times = w.astype(np.int64)
    repeated = scored(
        np.repeat(z, times, axis=0), np.repeat(y, times), np.ones(times.sum()), classes
    )
    assert scored(z, y, w, classes) == pytest.approx(repeated, abs=1e-9, nan_ok=True)


@given(seeds, st.integers(4, 40))
def test_tiles_of_weight_0_are_not_there_whatever_they_hold(seed: int, tiles: int) -> None:
    z, y, w = drawn(seed, tiles=tiles)
    filled = (np.append(z, [np.nan, 99.0]), np.append(y, [-1, 0]), np.append(w, [0.0, 0.0]))
    assert evaluation(*filled, classes=TWO) == evaluation(z, y, w, classes=TWO)


@given(seeds, st.integers(4, 40))
def test_order_does_not_matter(seed: int, tiles: int) -> None:
    z, y, w = drawn(seed, tiles=tiles, classes=4, single=False)
    order = np.random.default_rng(seed).permutation(tiles)
    again = scored(z[order], y[order], w[order], FOUR)
    assert scored(z, y, w, FOUR) == pytest.approx(again, abs=1e-12, nan_ok=True)


@given(seeds, st.integers(2, 40), st.floats(-50, 50))
def test_a_single_logit_and_two_logits_of_the_same_difference_score_alike(
    seed: int, tiles: int, shift: float
) -> None:
    z, y, w = drawn(seed, tiles=tiles)
    two = np.stack([np.full(tiles, shift), z + shift], axis=1)
    assert scored(z, y, w, TWO) == pytest.approx(scored(two, y, w, TWO), abs=1e-7, nan_ok=True)


def test_ranks_of_certain_logits_are_not_lost_in_probabilities() -> None:
    z = np.array([40.0, 41.0, 42.0, 43.0])  # their probabilities are all 1
    assert scores(z, [0, 0, 1, 1], np.ones(4), classes=TWO)["auroc"] == 1.0
    assert scores(z, [0, 0, 1, 1], np.ones(4), classes=TWO)["log_loss"] == pytest.approx(20.25)


@pytest.mark.parametrize("only", [0, 1])
def test_a_class_without_tiles_has_no_score_and_no_nan(only: int) -> None:
    row = evaluation([1.0, -2.0, 3.0], [only] * 3, [1, 1, 1], classes=TWO)
    missing = TWO[1 - only]
    assert row["auroc"] is None
    assert row[f"recall_{missing}"] is None
    assert row[f"logit_mean_{missing}"] is None
    assert row["balanced_accuracy"] == row[f"recall_{TWO[only]}"]
    flat = [
        each for value in row.values() for each in (value if isinstance(value, list) else [value])
    ]
    assert not any(each is not None and np.isnan(each) for each in flat)


def test_no_tile_at_all_has_no_score() -> None:
    row = evaluation(np.zeros(2), [0, 1], [0.0, 0.0], classes=TWO)
    assert row["tiles"] == 0
    assert {row[name] for name in ("log_loss", "accuracy", "auroc", "ece", "brier")} == {None}


@given(seeds, st.integers(5, 60))
def test_calibration_puts_every_tile_into_the_bin_of_its_probability(seed: int, tiles: int) -> None:
    z, y, w = drawn(seed, tiles=tiles)
    bins = calibration(judged(z, y, w, classes=TWO))
    p = expit(z)
    for place in range(ECE_BINS):
        held = (p >= place / ECE_BINS) & (p < (place + 1) / ECE_BINS)
        assert bins.weight[place] == pytest.approx(w[held].sum())
        if held.any():
            assert bins.share[place] == pytest.approx(np.average(y[held], weights=w[held]))


def test_the_calibration_error_of_known_cases() -> None:
    half = judged(np.zeros(4), [0, 1, 0, 1], np.ones(4), classes=TWO)
    assert calibration(half).error == 0.0
    wrong = judged([100.0, 100.0, -100.0], [0, 0, 0], np.ones(3), classes=TWO)
    assert calibration(wrong).error == pytest.approx(2 / 3)
    four = judged([[9.0, 0, 0, 0]] * 4, [0, 0, 0, 1], np.ones(4), classes=FOUR)
    assert calibration(four).error == pytest.approx(softmax([9.0, 0, 0, 0])[0] - 0.75)


@given(seeds, st.integers(2, 60))
def test_the_spread_of_logits_is_numpys(seed: int, tiles: int) -> None:
    z, y, w = drawn(seed, tiles=tiles)
    for number, spread in enumerate(logit_spreads(judged(z, y, w, classes=TWO)).values()):
        own = np.repeat(z[y == number], w[y == number].astype(int))
        assert spread.mean == pytest.approx(own.mean())
        assert spread.std == pytest.approx(own.std())
        quantiles = np.percentile(own, LOGIT_PERCENT, method="inverted_cdf")
        assert spread.quantiles == pytest.approx(quantiles)
        assert spread.counts.sum() == len(own)
        assert len(spread.counts) == len(LOGIT_EDGES) - 1


def test_logits_beyond_the_edges_are_in_the_outer_bins() -> None:
    spread = logit_spreads(judged([-1e6, 1e6], [1, 1], [1, 2], classes=TWO))["cancer"]
    assert (spread.counts[0], spread.counts[-1]) == (1, 2)


@given(seeds, st.integers(4, 60))
def test_margins_of_many_classes_are_negative_where_a_tile_is_wrong(seed: int, tiles: int) -> None:
    z, y, w = drawn(seed, tiles=tiles, classes=4, single=False)
    own = z[np.arange(tiles), y]
    others = np.where(np.eye(4, dtype=bool)[y], -np.inf, z).max(axis=1)
    assert judged(z, y, w, classes=FOUR).margins == pytest.approx(own - others, abs=1e-9)


def test_the_shift_is_the_mean_of_others_less_that_of_training() -> None:
    train = evaluation([-2.0, -4.0, 5.0], [0, 0, 1], np.ones(3), classes=TWO)
    other = evaluation([-2.5, 1.0, 2.0], [0, 1, 1], np.ones(3), classes=TWO)
    assert logit_shifts(train, other, classes=TWO) == {
        "logit_shift_benign": 0.5,
        "logit_shift_cancer": -3.5,
    }
    without = evaluation([-2.5], [0], [1.0], classes=TWO)
    assert logit_shifts(train, without, classes=TWO)["logit_shift_cancer"] is None


@pytest.mark.parametrize(
    ("z", "y", "w", "classes", "text"),
    [
        (np.zeros(3), [0, 1], [1, 1], TWO, r"logits: expected \(2, 2\)"),
        (np.zeros(2), [0, 1], [1, 1], FOUR, r"logits: expected \(2, 4\)"),
        (np.zeros((2, 3)), [0, 1], [1, 1], FOUR, r"logits: expected \(2, 4\)"),
        (np.zeros(2), [0, 2], [1, 1], TWO, "targets: expected 0 to 1, got 0 to 2"),
        (np.zeros(2), [0, -1], [1, 1], TWO, "targets: expected 0 to 1"),
        (np.zeros(2), [0, 1], [1, -1], TWO, "weights: expected"),
        (np.zeros(2), [0, 1], [1, np.nan], TWO, "weights: expected"),
        (np.zeros(2), [0, 1], [1], TWO, "weights: expected"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    z: Any,  # noqa: ANN401
    y: Any,  # noqa: ANN401
    w: Any,  # noqa: ANN401
    classes: Sequence[str],
    text: str,
) -> None:
    with pytest.raises(ValueError, match=text):
        judged(z, y, w, classes=classes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_network_that_has_diverged_is_named_and_not_scored(bad: float) -> None:
    with pytest.raises(PipelineError, match="1 of 2 tiles: the network has diverged"):
        scores([bad, 0.0], [0, 1], [1, 1], classes=TWO)


def test_logits_of_half_precision_are_scored_in_double() -> None:
    z = np.array([1.5, -0.5], np.float16)
    found: Judged = judged(z, [1, 0], np.ones(2, np.float32), classes=TWO)
    assert found.odds.dtype == np.float64
