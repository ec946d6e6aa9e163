"""Names and levels of graded changes: what is asked for, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.sweep.shift_config import SHIFTS, Sweep, sweep_of, sweeps_of


@pytest.mark.parametrize("name", SHIFTS)
def test_a_sweep_has_its_clean_level_and_ascends(name: str) -> None:
    sweep = sweep_of(name)
    assert SHIFTS[name].clean in sweep.levels
    assert list(sweep.levels) == sorted(set(sweep.levels))


def test_the_study_has_twenty_blurs_and_eleven_sharpenings() -> None:
    assert sweep_of("box_blur").levels == tuple(range(1, 21))
    assert sweep_of("sharpen").levels == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


@given(st.lists(st.integers(1, 101), max_size=5))
def test_levels_are_each_taken_once_beside_the_clean_one(levels: list[int]) -> None:
    text = "box_blur:" + ",".join(map(str, levels)) if levels else "box_blur:1"
    assert sweep_of(text).levels == tuple(sorted({*levels, 1}))


def test_a_change_that_is_named_twice_is_one_sweep() -> None:
    asked = ("sharpen:0.5", "box_blur:3", "sharpen:1")
    assert sweeps_of(asked) == (
        Sweep(shift="sharpen", levels=(0, 0.5, 1)),
        Sweep(shift="box_blur", levels=(1, 3)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("box_blurr", r"got 'box_blurr' \(did you mean box_blur\?\)"),
        ("box_blur:2.5", "expected whole numbers from 1 to 101 as side n in pixels, got 2.5"),
        ("box_blur:0", "got 0"),
        ("sharpen:2", "expected numbers from 0 to 1"),
        ("sharpen:nan", "got nan"),
        ("noise:inf", "got inf"),
        ("sharpen:a", "expected levels with commas between them, such as sharpen:0,0.1,0.2"),
        ("", "expected one of box_blur"),
    ],
)
def test_what_is_no_sweep_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep_of(text)


def test_no_sweep_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one of box_blur"):
        sweeps_of([])
