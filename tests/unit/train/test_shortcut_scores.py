"""The score that sees a shortcut, beside the one that is fooled by it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from wsi_pipeline.train.metrics import auroc, judged
from wsi_pipeline.train.shortcut_scores import worst_auroc

CLASSES = ("benign", "cancer")


def tiles_of(rng: np.random.Generator, count: int, *, relies: float) -> tuple[np.ndarray, ...]:
    """Return logits, targets and carriers of tiles whose shortcut speaks for the first class."""
    targets = np.arange(count) % 2
    carries = rng.random(count) < np.where(targets == 1, 0.1, 0.5)
    logits = targets + rng.normal(size=count) - relies * carries
    return logits, targets, carries


@given(seed=st.integers(0, 50))
def test_the_more_is_made_of_the_shortcut_the_worse_it_is_and_the_better_the_plain_one(
    seed: int,
) -> None:
    plain, worst = [], []
    for relies in (0.0, 2.0, 20.0):
        logits, targets, carries = tiles_of(np.random.default_rng(seed), 400, relies=relies)
        tiles = judged(logits, targets, np.ones(400), classes=CLASSES)
        plain.append(auroc(tiles))
        worst.append(worst_auroc(tiles, carries))
    assert worst[0] > worst[1] > worst[2] == 0  # type: ignore[operator]
    assert plain[0] < max(plain[1:])  # type: ignore[operator,type-var]


@given(seed=st.integers(0, 50))
def test_it_is_the_least_of_four_by_scikit_learn_with_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, targets, carries = tiles_of(rng, 120, relies=1.0)
    weights = rng.integers(0, 3, 120).astype(np.float64)
    weights[:8], carries[:8] = 1, np.repeat([True, False], 4)  # a tile of each group at the least
    groups = [(targets == each) & (weights > 0) for each in (0, 1)]
    areas = []
    for ours in (carries, ~carries):
        for theirs in (carries, ~carries):
            there = (groups[1] & ours) | (groups[0] & theirs)
            areas.append(roc_auc_score(targets[there], logits[there], sample_weight=weights[there]))
    tiles = judged(logits, targets, weights, classes=CLASSES)
    assert worst_auroc(tiles, carries[weights > 0]) == pytest.approx(min(areas), abs=1e-12)


def test_it_cannot_be_said_where_a_group_is_empty_or_of_more_than_two_classes() -> None:
    logits, targets, carries = tiles_of(np.random.default_rng(0), 40, relies=1.0)
    tiles = judged(logits, targets, np.ones(40), classes=CLASSES)
    assert worst_auroc(tiles, carries & (targets == 0)) is None
    assert worst_auroc(tiles, np.ones(40, np.bool_)) is None
    three = judged(np.eye(3), np.arange(3), np.ones(3), classes=("a", "b", "c"))
    assert worst_auroc(three, np.array([True, False, True])) is None
