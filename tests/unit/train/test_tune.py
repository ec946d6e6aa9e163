"""A search: no more trials than asked for, none twice, whoever works on it and whoever is killed."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

optuna = pytest.importorskip("optuna", reason="needs the extra train")

from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError, OutputError, PipelineError  # noqa: E402
from wsi_pipeline.remote import absolute  # noqa: E402
from wsi_pipeline.stages.lease import sole_use  # noqa: E402
from wsi_pipeline.stages.run_directory import RunDirectory  # noqa: E402
from wsi_pipeline.train.tune import Report, TuneOutcome, tune  # noqa: E402
from wsi_pipeline.train.tune_config import STUDY_GRID, TuneConfig  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
LR = {"optimise.lr": {"log": [1e-5, 1e-1]}}

# Optuna calls one of its samplers experimental, and torch warns on a machine without a GPU.
pytestmark = pytest.mark.filterwarnings("default")


def config(**values: Any) -> TuneConfig:  # noqa: ANN401
    return make_config(TuneConfig, values)


def claim(folder: Path) -> AbstractContextManager[Any]:
    return sole_use(RunDirectory(path=folder), part=1, parts=1)


class Trainer:
    """Scores a setting by how near it is to 0.003, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, settings: Mapping[str, Any], *, name: str, report: Report) -> float:
        self.asked.append((name, settings))
        value = self.score(settings)
        for epoch in range(4):
            report(epoch, value * (epoch + 1) / 4)
        return value

    def score(self, settings: Mapping[str, Any]) -> float:
        lr = float(settings["optimise"]["lr"])
        return 1 - abs(math.log10(lr / 0.003)) / 4


class GridTrainer(Trainer):
    """Scores the study's λ: 1e-3 is the best one."""

    def score(self, settings: Mapping[str, Any]) -> float:
        return 1 - abs(STUDY_GRID.index(settings["loss"]["decoupling"]) - 2) / 10


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_the_grid_is_trained_once_and_the_best_is_kept(tmp_path: Path) -> None:
    trainer, folder = GridTrainer(), tmp_path / "lambda"
    outcome = tune(folder, config(train={"seed": 3}, prune="none"), trainer, claim=claim)
    assert [name for name, _ in trainer.asked] == [f"lambda-{each:04d}" for each in range(6)]
    assert [settings["loss"]["decoupling"] for _, settings in trainer.asked] == list(STUDY_GRID)
    assert all(settings["seed"] == 3 for _, settings in trainer.asked)
    assert outcome.count("complete") == outcome.done_here == 6
    assert outcome.best is not None
    assert outcome.best["loss.decoupling"] == 1e-3
    assert yaml.safe_load((folder / "best.yaml").read_text()) == {
        "seed": 3,
        "loss": {"decoupling": 0.001},
    }
    table = rows_of(folder)
    assert [float(row["loss.decoupling"]) for row in table] == list(STUDY_GRID)
    assert {row["state"] for row in table} == {"complete"}


def test_a_finished_study_trains_nothing_and_more_trials_can_be_asked_for(tmp_path: Path) -> None:
    first = config(space=LR, sampler="random", trials=3)
    tune(tmp_path, first, Trainer(), claim=claim)
    again = Trainer()
    assert tune(tmp_path, first, again, claim=claim).done_here == 0
    assert again.asked == []
    more = tune(tmp_path, config(space=LR, sampler="random", trials=5), again, claim=claim)
    assert (len(again.asked), len(more.rows)) == (2, 5)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_that_learn_come_near_the_best(tmp_path: Path, sampler: str) -> None:
    trials = 22 if sampler == "tpe" else 14  # both draw 10 by chance first
    asked = config(space=LR, sampler=sampler, trials=trials, prune="none")
    outcome = tune(tmp_path, asked, Trainer(), claim=claim)
    assert outcome.best is not None
    assert outcome.best["balanced_accuracy"] > 0.96
    after = [row["balanced_accuracy"] for row in outcome.rows[10:]]
    before = [row["balanced_accuracy"] for row in outcome.rows[:10]]
    assert sum(after) / len(after) > sum(before) / len(before)


def test_a_score_that_is_better_when_lower_is_minimised(tmp_path: Path) -> None:
    class Losses(GridTrainer):
        def score(self, settings: Mapping[str, Any]) -> float:
            return -super().score(settings)

    outcome = tune(tmp_path, config(score="log_loss", prune="none"), Losses(), claim=claim)
    assert outcome.best is not None
    assert outcome.best["loss.decoupling"] == 1e-3


def test_a_trial_worse_than_the_median_is_ended_early_and_says_so(tmp_path: Path) -> None:
    epochs: dict[str, int] = {}

    def train_one(settings: Mapping[str, Any], *, name: str, report: Report) -> float:
        for epoch in range(10):
            epochs[name] = epoch + 1
            report(epoch, float(settings["seed"]))
        return float(settings["seed"])

    space = {"seed": {"choice": [5, 6, 7, 8, 9, 1, 10]}}
    outcome = tune(tmp_path, config(space=space), train_one, claim=claim)
    row = outcome.rows[5]
    assert (row["state"], row["seed"], row["epochs"]) == ("pruned", 1, 3)
    assert "worse than the median of the others after epoch 3" in row["reason"]
    assert epochs[f"{tmp_path.name}-0005"] == 3
    assert outcome.count("complete") == 6


class KilledError(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_study_that_is_cut_off_ends_as_one_that_was_not(tmp_path: Path, sampler: str) -> None:
    space = LR if sampler == "tpe" else {"optimise.lr": {"choice": [1e-4, 1e-3, 1e-2, 2e-2]}}
    asked = config(space=space, sampler=sampler, trials=13, prune="none")

    class Dies(Trainer):
        def __init__(self, after: int) -> None:
            super().__init__()
            self.left = after

        def __call__(self, settings: Mapping[str, Any], *, name: str, report: Report) -> float:
            self.asked.append((name, settings))
            for epoch in range(2):
                report(epoch, 0.5)
            self.left -= 1
            if self.left == 0:
                raise KilledError
            return self.score(settings)

    died, whole = tmp_path / "died", tmp_path / "whole"
    attempts: list[tuple[str, Mapping[str, Any]]] = []
    for _ in range(20):
        trainer = Dies(3)
        try:
            tune(died, asked, trainer, claim=claim)
            break
        except KilledError:
            continue
        finally:
            attempts += trainer.asked
    tune(whole, asked, Dies(100), claim=claim)
    assert [{**row, "trial": ""} for row in rows_of(died)] == [
        {**row, "trial": ""} for row in rows_of(whole)
    ]
    settings_by_name: dict[str, set[str]] = {}
    for name, settings in attempts:
        settings_by_name.setdefault(name, set()).add(json.dumps(settings))
    assert all(len(each) == 1 for each in settings_by_name.values())
    assert max(Counter(name for name, _ in attempts).values()) > 1


def test_a_trial_that_fails_is_noted_and_the_others_go_on(tmp_path: Path) -> None:
    class Diverges(GridTrainer):
        def score(self, settings: Mapping[str, Any]) -> float:
            if settings["loss"]["decoupling"] == 0.1:
                raise PipelineError("the loss is not a number")
            if settings["loss"]["decoupling"] == 0.01:
                return float("nan")
            return super().score(settings)

    outcome = tune(tmp_path, config(prune="none"), Diverges(), claim=claim)
    assert [row["state"] for row in outcome.rows] == ["fail", "fail", *["complete"] * 4]
    assert outcome.rows[0]["reason"] == "the loss is not a number"
    assert outcome.rows[1]["reason"] == "the score is nan"


def test_a_disk_that_is_full_is_no_failure_of_a_trial(tmp_path: Path) -> None:
    class Full(GridTrainer):
        def score(self, settings: Mapping[str, Any]) -> float:
            if settings["loss"]["decoupling"] == 0.01:
                raise OutputError("no space is left")
            return super().score(settings)

    with pytest.raises(OutputError, match="no space is left"):
        tune(tmp_path, config(prune="none"), Full(), claim=claim)
    outcome = tune(tmp_path, config(prune="none"), GridTrainer(), claim=claim)
    assert [row["state"] for row in outcome.rows] == ["complete"] * 6


def test_a_study_whose_every_trial_fails_says_why(tmp_path: Path) -> None:
    def train_one(settings: Mapping[str, Any], *, name: str, report: Report) -> float:  # noqa: ARG001
        raise PipelineError("out of memory")

    with pytest.raises(
        PipelineError, match="all 6 trials have failed, the first one: out of memory"
    ):
        tune(tmp_path, config(), train_one, claim=claim)


def test_settings_that_are_refused_end_the_search_and_are_named(tmp_path: Path) -> None:
    def train_one(settings: Mapping[str, Any], *, name: str, report: Report) -> float:  # noqa: ARG001
        raise ConfigError("loss: unknown key decopling")

    with pytest.raises(ConfigError, match=r"trial .*-0000: loss: unknown key decopling"):
        tune(tmp_path, config(), train_one, claim=claim)


def test_other_settings_than_the_study_was_begun_with_are_refused(tmp_path: Path) -> None:
    tune(tmp_path, config(), GridTrainer(), claim=claim)
    with pytest.raises(
        ConfigError, match=r"begun with other settings .*score: was balanced_accuracy"
    ):
        tune(tmp_path, config(score="auroc"), GridTrainer(), claim=claim)
    with pytest.raises(ConfigError, match="no URL"):
        tune(absolute("memory://study"), config(), GridTrainer(), claim=claim)


def test_a_line_of_the_journal_that_was_cut_off_does_no_harm(tmp_path: Path) -> None:
    asked = config(space=LR, sampler="random", trials=2)
    tune(tmp_path, asked, Trainer(), claim=claim)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":5,"wor')
    more = config(space=LR, sampler="random", trials=4)
    outcome: TuneOutcome = tune(tmp_path, more, Trainer(), claim=claim)
    assert outcome.count("complete") == 4


_WORKER = """
import sys, time
from pathlib import Path
from tests.unit.train.test_tune import Trainer, claim, config, LR
from wsi_pipeline.train.tune import tune

class Slow(Trainer):
    def __call__(self, settings, *, name, report):
        print(name, flush=True)
        time.sleep(float(sys.argv[2]))
        return super().__call__(settings, name=name, report=report)

tune(Path(sys.argv[1]), config(space=LR, sampler="tpe", trials=6, prune="none"), Slow(), claim=claim)
"""


def worker(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(folder), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def test_two_processes_share_a_study_and_do_no_trial_twice(tmp_path: Path) -> None:
    first, second = (worker(tmp_path / "shared", 1.0) for _ in range(2))
    said = [process.communicate(timeout=90)[0].split() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert sorted(said[0] + said[1]) == [f"shared-{each:04d}" for each in range(6)]
    assert said[0]
    assert said[1]
    rows = rows_of(tmp_path / "shared")
    assert [row["state"] for row in rows] == ["complete"] * 6
    assert len({row["optimise.lr"] for row in rows}) == 6


def test_what_a_killed_process_left_is_done_by_another(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    with worker(folder, 600) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline().strip() == "shared-0000"
        victim.send_signal(signal.SIGKILL)
    began = time.monotonic()
    asked = config(space=LR, sampler="tpe", trials=6, prune="none")
    trainer = Trainer()
    outcome = tune(folder, asked, trainer, claim=claim)
    assert trainer.asked[0][0] == "shared-0000"
    assert outcome.count("complete") == len(outcome.rows) == 6
    assert time.monotonic() - began < 60
