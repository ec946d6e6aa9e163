"""Names of repeats, taken apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.evaluate.ask.repeats import repeat_of
from wsi_pipeline.train.repeats import repeats_of


@given(st.from_regex(r"[\w.+=-]+", fullmatch=True), st.integers(0, 10**6))
def test_what_training_calls_a_repeat_is_known_as_one(name: str, seed: int) -> None:
    (repeat,) = repeats_of(name, 1, first_seed=seed)
    assert repeat_of(repeat.name) == (name, seed)


@pytest.mark.parametrize("name", ["sd", "-3", "sd-", "sd3", "sd-3b", "sd-3 ", "sd-\u0663"])
def test_other_names_are_of_no_repeat(name: str) -> None:
    assert repeat_of(name) is None
