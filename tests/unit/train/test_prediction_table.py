"""Logits as columns of a table: single numbers and lists, and probabilities that do not overflow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.train.metrics import judged
from wsi_pipeline.train.prediction_table import number_column, probabilities

LOGITS = st.floats(-900, 900, width=32)


@given(st.lists(LOGITS, min_size=1, max_size=20))
def test_a_single_logit_says_what_two_logits_with_that_difference_say(logits: list[float]) -> None:
    single = np.array(logits, np.float32)
    double = np.stack([np.zeros_like(single), single], axis=1)
    np.testing.assert_allclose(probabilities(single), probabilities(double)[:, 1], rtol=1e-6)


@given(st.lists(st.tuples(LOGITS, LOGITS, LOGITS), min_size=1, max_size=20))
def test_probabilities_are_those_that_scores_are_made_of(logits: list[tuple[float, ...]]) -> None:
    z = np.array(logits, np.float32)
    found = probabilities(z)
    scored = judged(z, np.zeros(len(z)), np.ones(len(z)), classes=("a", "b", "c")).probabilities
    np.testing.assert_allclose(found, scored, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("tiles", [0, 1, 5])
def test_logits_of_several_classes_are_lists_in_order(tiles: int) -> None:
    z = np.arange(3 * tiles, dtype=np.float32).reshape(tiles, 3)
    assert number_column(z).to_pylist() == z.tolist()
