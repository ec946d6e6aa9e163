"""Repeats and searches with real trainings of seconds."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("optuna", reason="needs the extra train")

from tests.pipeline.runs import Command, environment  # noqa: E402
from tests.pipeline.trainable import SMALL, labelled_run, same_weights, small, weights_of  # noqa: E402
from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError, TrainError  # noqa: E402
from wsi_pipeline.train.config import train_configs  # noqa: E402
from wsi_pipeline.train.metrics_table import validation_rows  # noqa: E402
from wsi_pipeline.train.model_directory import model_directory  # noqa: E402
from wsi_pipeline.train.observer import SilentTrainObserver  # noqa: E402
from wsi_pipeline.train.tune_config import TuneConfig  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402
from wsi_pipeline.tuning import repeat, tune  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_run(tmp_path_factory.mktemp("tuning"))


def searched(**values: Any) -> TuneConfig:  # noqa: ANN401  of YAML
    return make_config(TuneConfig, {"train": {**SMALL, "epochs": 2}, "prune": "none", **values})


class Stops(SilentTrainObserver):
    """Ends a training as a crash would, after its first epoch."""

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002
        raise ZeroDivisionError


def test_repeats_differ_by_seed_alone_and_are_models_like_any_other(tiles: Path) -> None:
    config, work = small(epochs=1)
    outcome = repeat(tiles, config, count=2, name="twice", work=work)
    assert [each.directory.path.name for each in outcome.outcomes] == ["twice-0", "twice-1"]
    weights = [weights_of(each.directory) for each in outcome.outcomes]
    assert not same_weights(*weights)
    alone, work = small(epochs=1, seed=1)
    assert same_weights(
        weights[1], weights_of(train(tiles, alone, name="alone", work=work).directory)
    )
    losses = [validation_rows(each.directory.path)[-1]["loss"] for each in outcome.outcomes]
    spread = next(each for each in outcome.spreads if each.score == "loss")
    assert spread.mean == pytest.approx(sum(losses) / 2)
    assert spread.std == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5)
    again = repeat(tiles, config, count=2, name="twice", work=work)
    assert [each.ended for each in again.outcomes] == ["already", "already"]


def test_a_repeat_that_fails_is_named_and_the_others_are_trained(tiles: Path) -> None:
    config, work = small(epochs=2)
    with pytest.raises(ZeroDivisionError):
        train(tiles, config, name="broken-0", work=work, observer=Stops())
    model_directory(tiles, "broken-0").last.write_bytes(b"no checkpoint")
    with pytest.raises(TrainError, match=r"1 of 2 repeats have failed: broken-0: .*last.pt"):
        repeat(tiles, config, count=2, name="broken", work=work)
    assert model_directory(tiles, "broken-1").best.exists()


def test_a_search_trains_its_trials_and_says_what_their_models_say(tiles: Path) -> None:
    space = {"loss.decoupling": {"choice": [0.1, 0.001]}, "optimise.lr": {"choice": [1e-3]}}
    outcome = tune(tiles, searched(space=space, score="log_loss"), study="sd")
    assert outcome.count("complete") == 2
    for row in outcome.rows:
        folder = model_directory(tiles, f"sd-{row['trial']:04d}").path
        about = json.loads((folder / "train.json").read_text())
        assert about["settings"]["loss"]["decoupling"] == row["loss.decoupling"]
        scores = validation_rows(folder)
        assert row["log_loss"] == scores[about["best"]["epoch"]]["log_loss"]
        assert row["epochs"] == len(scores) == 2
    assert outcome.best is not None
    best = yaml.safe_load((outcome.folder / "best.yaml").read_text())
    assert best["loss"]["decoupling"] == outcome.best["loss.decoupling"]
    assert train_configs(best)[0].epochs == 2


def test_a_training_that_learns_nothing_is_ended_early(tiles: Path) -> None:
    asked = searched(
        space={"optimise.lr": {"choice": [1e-2, 1e-12]}},
        score="log_loss",
        prune="median",
        prune_after_trials=1,
        prune_after_epochs=0,
    )
    outcome = tune(tiles, asked, study="early")
    assert [row["state"] for row in outcome.rows] == ["complete", "pruned"]
    assert outcome.rows[1]["epochs"] == 1
    assert len(validation_rows(model_directory(tiles, "early-0001").path)) == 1
    assert tune(tiles, asked, study="early").done_here == 0


class Interrupts(SilentTrainObserver):
    """Sends this process a signal in the second epoch."""

    def on_step(self, row: Mapping[str, Any]) -> None:
        if row["step"] == 4:
            signal.raise_signal(signal.SIGTERM)


def test_a_trial_that_was_asked_to_stop_is_not_scored_by_its_half(tiles: Path) -> None:
    asked = searched(space={"optimise.lr": {"choice": [1e-2]}})
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            tune(tiles, asked, study="asked", observer=Interrupts())
    finally:
        signal.signal(signal.SIGTERM, before)
    outcome = tune(tiles, asked, study="asked")
    assert [row["state"] for row in outcome.rows] == ["complete"]
    assert outcome.rows[0]["epochs"] == 2


def test_settings_that_no_training_takes_are_refused_before_the_first(tiles: Path) -> None:
    with pytest.raises(ConfigError, match="decopling"):
        tune(tiles, searched(space={"loss.decopling": {"choice": [0.1]}}), study="misspelt")
    with pytest.raises(ConfigError, match="dropout"):
        tune(tiles, searched(space={"model.dropout": {"choice": [0.1, 7.0]}}), study="too-much")
    assert not (tiles / "tunings" / "misspelt").exists()


def test_the_command_searches_and_shows_and_goes_on(
    tiles: Path, tmp_path: Path, wsi: Command
) -> None:
    asked = {"train": {**SMALL, "epochs": 1}, "space": {"optimise.lr": {"log": [1e-4, 1e-2]}}}
    file = tmp_path / "tune.yaml"
    file.write_text(yaml.safe_dump(asked))
    line = ("tune", tiles, "--config", file, "--study", "cli", "--sampler", "random")
    plan = wsi(*line, "--trials", "2", "--dry-run")
    assert "2 trials by random, balanced_accuracy of validation decides" in plan.out
    assert not (tiles / "tunings" / "cli").exists()
    ended = wsi(*line, "--trials", "2")
    assert ended.code == 0, ended.err
    assert "2 of 2 trials complete" in ended.out
    assert "cli-0001: epoch 1 of 1" in ended.err
    said = json.loads(wsi(*line, "--trials", "2", "--json").out)
    assert (said["complete"], said["trials"]) == (2, 2)
    assert said["best"]["optimise.lr"] in [row["optimise.lr"] for row in said["rows"]]


def test_the_command_refuses_the_test_part(tiles: Path, tmp_path: Path, wsi: Command) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text(yaml.safe_dump({"split": "test"}))
    ended = wsi("tune", tiles, "--config", file)
    assert ended.code == 2
    assert "settings are never chosen on the test part" in ended.err


def test_the_command_trains_repeats_and_says_how_far_they_are_apart(
    tiles: Path, tmp_path: Path, wsi: Command
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "epochs": 1}))
    line = ("train", tiles, "--config", file, "--name", "sd", "--repeats", "2")
    ended = wsi(*line)
    assert ended.code == 0, ended.err
    assert "sd-1: epoch 1 of 1" in ended.err
    said = json.loads(wsi(*line, "--json").out)
    assert [Path(each["model"]).name for each in said["models"]] == ["sd-0", "sd-1"]
    assert {"loss", "balanced_accuracy", "auroc", "recall_cancer"} <= {
        each["score"] for each in said["scores"]
    }
    shown = next(line for line in ended.out.splitlines() if line.startswith("loss"))
    mean = next(each["mean"] for each in said["scores"] if each["score"] == "loss")
    assert f"{mean:.4f}" in shown


@pytest.mark.slow
def test_ranks_train_one_repeat_after_another(tiles: Path, tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "epochs": 1}))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    line += ["--master-port", port, "-m", "wsi_pipeline", "train", str(tiles)]
    ended = subprocess.run(
        [*line, "--config", str(file), "--name", "ranks", "--repeats", "2", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    models = json.loads(ended.stdout)["models"]
    assert [(Path(each["model"]).name, each["ended"]) for each in models] == [
        ("ranks-0", "done"),
        ("ranks-1", "done"),
    ]


def test_a_search_by_ranks_is_refused(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="tune: expected one process, got 2 ranks"):
        tune(tiles, searched(), study="ranks")
