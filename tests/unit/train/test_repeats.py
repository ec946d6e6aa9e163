"""Names, seeds and spreads of repeats."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.train.repeats import Repeat, repeats_of, spreads_of


def test_seeds_count_on_from_the_first_and_are_in_the_names() -> None:
    assert repeats_of("a", 2, first_seed=7) == (
        Repeat(name="a-7", seed=7),
        Repeat(name="a-8", seed=8),
    )
    assert [each.seed for each in repeats_of("a", 5)] == [0, 1, 2, 3, 4]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
def test_a_spread_is_that_of_a_sample(values: list[float]) -> None:
    rows: list[dict[str, Any]] = [
        {"loss": value, "auroc": None, "kind": "epoch"} for value in values
    ]
    (spread,) = spreads_of(rows)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert spread.repeats == len(values)


def test_a_score_that_some_repeats_have_not_is_of_those_that_have() -> None:
    rows: list[dict[str, float | None]] = [
        {"recall_b": 0.5, "recall_a": 1.0},
        {"recall_b": None, "recall_a": 0.0},
    ]
    assert [(each.score, each.mean, each.std, each.repeats) for each in spreads_of(rows)] == [
        ("recall_a", 0.5, pytest.approx(0.5**0.5), 2),
        ("recall_b", 0.5, None, 1),
    ]
    assert spreads_of([]) == ()
