"""Levels judged some at a time; patients drawn along sweeps as of predictions; a study's answer by them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.trainable import SMALL, labelled_run, small  # noqa: E402
from wsi_pipeline import robustness  # noqa: E402
from wsi_pipeline.evaluate.predictions import read_predictions  # noqa: E402
from wsi_pipeline.evaluate.score.nested import drawn_of, over_repeats  # noqa: E402
from wsi_pipeline.evaluate.study.config import study_config, work_of  # noqa: E402
from wsi_pipeline.evaluate.sweep import answers as sweep_answers  # noqa: E402
from wsi_pipeline.evaluate.sweep import sweeping  # noqa: E402
from wsi_pipeline.evaluate.sweep.patients import read_drawn  # noqa: E402
from wsi_pipeline.evaluation import evaluate  # noqa: E402
from wsi_pipeline.robustness import sweep  # noqa: E402
from wsi_pipeline.study import study  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than all the rest."""
    monkeypatch.setattr(robustness, "sweep_figure", lambda *_, **__: b"<svg/>")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two networks that have had one epoch each; test has nineteen tiles in three batches."""
    path = labelled_run(tmp_path_factory.mktemp("draws"), test=19)
    for name, changes in {"plain": {}, "averaged": {"load_px": 20}}.items():
        config, work = small(epochs=1, **changes)
        train(path, config, name=name, work=work)
    return path


def test_it_is_the_same_however_many_levels_are_judged_together(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {
        "model": ["plain", "averaged"],
        "sweeps": ["jpeg:40,60", "saturation:0.5"],
        "keep_logits": True,
        "replicates": 20,
        "work": CPU,
    }
    found: list[list[bytes]] = []
    for at_once in (2**28, 1):
        monkeypatch.setattr(sweep_answers, "AT_ONCE_BYTES", at_once)
        monkeypatch.setattr(sweep_answers, "_AT_ONCE_TILES", at_once)
        monkeypatch.setattr(sweeping, "PART_TILES", min(at_once, 8))
        swept = sweep(run, **asked, overwrite=True)
        paths = [*swept.tables["plain"], *swept.tables["averaged"], *swept.draws["averaged"]]
        found.append([path.read_bytes() for path in (*paths, swept.curves)])
        tiles = run / "models" / "averaged" / "sweeps" / "tiles" / "test.parquet"
        found[-1].append(pd.read_parquet(tiles).to_json().encode())  # in other groups of rows
    assert found[0] == found[1]


def test_draws_of_patients_without_a_change_are_those_of_the_predictions(run: Path) -> None:
    tiles: dict[str, Any] = {"model": "plain", "part": "all", "work": CPU}  # of three slides
    asked = {**tiles, "sweeps": ["brightness:0.5"]}
    assert sweep(run, **asked).draws == {"plain": ()}
    first = sweep(run, **asked, replicates=30)
    assert first.asked == 2
    assert sweep(run, **asked, replicates=30).asked == 0
    (path,) = first.draws["plain"]
    expected = drawn_of(read_predictions(evaluate(run, **tiles).predictions), replicates=30)
    found = read_drawn(path, [1.0], expected.classes, replicates=30)
    assert (found.tiles, found.patients) == (expected.tiles, 3)
    assert found.effective == expected.effective
    ours, theirs = over_repeats([found]), over_repeats([expected])
    for key, each in theirs.items():
        assert found.values[key] == expected.values[key]
        assert ours[key].interval.low == pytest.approx(each.interval.low, rel=1e-6)
        assert ours[key].interval.high == pytest.approx(each.interval.high, rel=1e-6)
    more = sweep(run, **{**asked, "sweeps": ["brightness:0.5,1.5"]}, replicates=30)
    assert more.asked == 1
    levels = pd.read_parquet(path).groupby("level").size()
    assert levels.index.tolist() == [0.5, 1.0, 1.5]
    assert (levels == len(expected.values)).all()


def test_a_sweep_speaks_for_or_against_where_both_intervals_do(tmp_path: Path) -> None:
    """One arm learns nothing, the other colours, which a blur leaves; patients are three slides."""
    run = labelled_run(tmp_path, train=16, validation=8, test=8)
    values = {
        "base": {**SMALL, "epochs": 4, "optimise": {"lr": 1e-2}},
        "arms": {"sighted": {}, "blind": {"epochs": 1, "optimise.lr": 1e-12}},
        "repeats": 3,
        "experiments": {"blurred": {"kind": "sweep", "part": "all", "shifts": ["box_blur:2,3"]}},
    }
    arms = ("sighted", "blind")
    for method, reference, verdict in ((*arms, "for"), (*arms[::-1], "against")):
        config = study_config({**values, "method": method, "reference": reference})
        outcome = study(run, config, out=tmp_path / "OUT", work=work_of(config, {}))
        found = {each.tiles: each for each in outcome.answers}
        assert found["box_blur"].verdict == verdict, found["box_blur"].text
        row = pd.read_parquet(outcome.out / "table2.parquet").query(
            "tiles == 'box_blur' and score == 'balanced_accuracy' and arm == @method"
        )
        low, high = row["difference_nested_low"].item(), row["difference_nested_high"].item()
        assert (verdict == "for") == (0 < low <= high)
        assert (verdict == "against") == (low <= high < 0)
