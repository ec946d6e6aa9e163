"""A search is refused before it begins where it is asked for wrongly, or names the test part."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.config import make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.tune_config import STUDY_GRID, TuneConfig, with_values


def config(**values: Any) -> TuneConfig:  # noqa: ANN401
    return make_config(TuneConfig, values)


def test_the_usual_search_is_the_grid_of_the_study() -> None:
    usual = config()
    assert STUDY_GRID == (0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6)
    assert [cell["loss.decoupling"] for cell in usual.grid] == list(STUDY_GRID)
    assert usual.trials_in_all == 6


def test_a_grid_has_every_combination_once() -> None:
    space = {"loss.decoupling": {"choice": [0.1, "1e-2"]}, "seed": {"choice": [0, 1, 2]}}
    grid = config(space=space).grid
    assert grid[0] == {"loss.decoupling": 0.1, "seed": 0}
    assert grid[-1] == {"loss.decoupling": 0.01, "seed": 2}
    assert len({tuple(cell.values()) for cell in grid}) == len(grid) == 6
    assert config(space=space, trials=4).trials_in_all == 4
    assert config(space=space, trials=9).trials_in_all == 6


@pytest.mark.parametrize(
    "spec",
    [
        {"choice": []},
        {"choice": [[1]]},
        {"choice": [1, 1]},
        {"log": [0, 1]},
        {"log": [1, 1]},
        {"log": ["a", "b"]},
        {"uniform": [2, 1]},
        {"uniform": [0, float("inf")]},
        {"uniform": [False, True]},
        {"whole": [1.5, 3]},
        {"whole": [1]},
        {"gaussian": [0, 1]},
        {"log": [1, 2], "uniform": [1, 2]},
        [0.1, 0.2],
        0.1,
        None,
    ],
)
def test_a_range_that_is_none_is_refused(spec: object) -> None:
    with pytest.raises(ConfigError, match=r"space: expected paths of settings, each with \{choice"):
        config(space={"loss.decoupling": spec}, sampler="random")


@pytest.mark.parametrize("path", ["", "loss..x", ".loss", "loss.", "a b", "1.x"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="space: expected paths of settings"):
        config(space={path: {"choice": [1, 2]}})


def test_ranges_are_not_for_a_grid() -> None:
    with pytest.raises(ConfigError, match=r"sampler: expected tpe, gp or random for .*optimise.lr"):
        config(space={"optimise.lr": {"log": [1e-5, 1e-2]}})


def test_the_test_part_cannot_be_named() -> None:
    with pytest.raises(ConfigError, match=r"split: expected validation; .* got 'test'"):
        config(split="test")
    for where in ("split == 'test'", "split in ('TEST', 'train')", "split_2 == test"):
        with pytest.raises(ConfigError, match=r"train.where: expected no word of the test part"):
            config(train={"where": where})
    with pytest.raises(ConfigError, match=r"train.split: expected no word of the test part"):
        config(train={"split": "test"})
    assert config(train={"where": "scanner == 'latest' and contest > 1"}).train


@pytest.mark.parametrize("path", ["split", "where", "fold", "target", "classes", "weight"])
def test_what_is_looked_at_is_not_searched(path: str) -> None:
    with pytest.raises(ConfigError, match=f"space: expected settings of a training, got {path}"):
        config(space={path: {"choice": ["a", "b"]}})


sections = st.dictionaries(
    st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())
)


@given(sections, sections)
def test_values_at_paths_win_and_the_others_stay(
    settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    def flat(values: dict[str, Any]) -> dict[str, Any]:
        return {
            f"{name}.{key}" if key else name: each
            for name, value in values.items()
            for key, each in (value.items() if isinstance(value, dict) else [("", value)])
        }

    merged = flat(with_values(settings, flat(changes)))
    assert flat(changes).items() <= merged.items()
    replaced = {name.partition(".")[0] for name in flat(changes)}
    kept = {name: v for name, v in flat(settings).items() if name.partition(".")[0] not in replaced}
    assert kept.items() <= merged.items()


def test_paths_reach_below_sections() -> None:
    assert with_values({"loss.decoupling.benign": 0.1}, {"loss.decoupling.cancer": 0.2}) == {
        "loss": {"decoupling": {"benign": 0.1, "cancer": 0.2}}
    }
