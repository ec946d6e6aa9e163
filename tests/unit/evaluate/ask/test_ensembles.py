"""Which models are meant by a name, and what they say as one."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.ensembles import chosen_models, mean_predictions
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.train.prediction_table import number_column, probabilities


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with models that have begun, an ensemble, and what is no model."""
    names = ("sd-10", "sd-2", "sd-0", "wd", "wd-0", "wd-1", "alone-3", "other")
    for name in names:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "train.json").write_text("{}", encoding="utf-8")
    for name in ("sd", "sd-tmp"):
        (tmp_path / "models" / name).mkdir()
        (tmp_path / "models" / name / "ensemble.json").write_text(json.dumps({}))
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "names", "ensemble"),
    [
        (["sd"], ("sd-0", "sd-2", "sd-10"), "sd"),
        (["sd-*"], ("sd-0", "sd-2", "sd-10"), "sd"),
        (["sd-2", "sd-0"], ("sd-2", "sd-0"), None),
        (["wd"], ("wd",), None),
        (["wd-?"], ("wd-0", "wd-1"), None),
        (["alone"], ("alone-3",), None),
        (["other", "sd", "other"], ("other", "sd-0", "sd-2", "sd-10"), None),
    ],
)
def test_names_patterns_and_repeats_are_meant(
    run: Path, asked: list[str], names: tuple[str, ...], ensemble: str | None
) -> None:
    found = chosen_models(run, asked)
    assert (found.names, found.ensemble) == (names, ensemble)


def test_an_ensemble_may_be_named_but_not_like_a_model(run: Path) -> None:
    assert chosen_models(run, ["sd-0", "wd"], ensemble="both").ensemble == "both"
    with pytest.raises(ConfigError, match="other is the name of a model"):
        chosen_models(run, ["sd"], ensemble="other")


def test_a_misspelt_name_is_answered_with_what_there_is(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean other\?; there are alone-3, other, sd-0"):
        chosen_models(run, ["othre"])
    with pytest.raises(ConfigError, match="there is none"):
        chosen_models(run / "models", ["net"])
    with pytest.raises(ConfigError, match="expected a run, there is nothing"):
        chosen_models(run / "elsewhere", ["net"])


def predictions(logits: "np.typing.NDArray[np.float32]", classes: tuple[str, ...]) -> Predictions:
    tiles = len(logits)
    table = pa.table(
        {
            "slide_id": pa.array(["a"] * tiles).dictionary_encode(),
            "tile": pa.array(range(tiles), pa.int32()),
            "target": pa.array([None, *[1] * (tiles - 1)], pa.int64()),
            "weight": pa.array([0, *[1] * (tiles - 1)], pa.float32()),
            "logit": number_column(logits),
            "probability": number_column(probabilities(logits)),
        }
    )
    return Predictions(table=table, classes=classes)


NUMBERS = st.floats(-30, 30, width=32)


@given(st.integers(1, 5), st.integers(1, 8), st.data())
def test_the_mean_is_that_of_probabilities(members: int, tiles: int, data: st.DataObject) -> None:
    drawn = [
        data.draw(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=tiles, max_size=tiles))
        for _ in range(members)
    ]
    double = [np.array(each, np.float32) for each in drawn]
    found = mean_predictions([predictions(each, ("n", "p")) for each in double])
    expected = np.mean([probabilities(each)[:, 1] for each in double], axis=0)
    np.testing.assert_allclose(
        found.table["probability"].to_numpy(), expected, rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(probabilities(found.logits), expected, rtol=1e-5, atol=1e-9)


def test_one_member_says_what_it_says_alone_and_far_logits_stay_far() -> None:
    logits = np.array([-400.0, 0.25, 400.0], np.float32)
    alone = mean_predictions([predictions(logits, ("n", "p"))])
    np.testing.assert_array_equal(alone.logits, logits)
    twice = mean_predictions([predictions(logits, ("n", "p"))] * 2)
    np.testing.assert_allclose(twice.logits, logits, rtol=1e-6)


def test_other_tiles_or_classes_are_no_ensemble() -> None:
    first = predictions(np.zeros(3, np.float32), ("n", "p"))
    with pytest.raises(ConfigError, match="same tiles"):
        mean_predictions([first, predictions(np.zeros(4, np.float32), ("n", "p"))])
    with pytest.raises(ConfigError, match="same classes"):
        mean_predictions([first, predictions(np.zeros(3, np.float32), ("p", "n"))])
