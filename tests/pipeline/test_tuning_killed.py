"""A search killed in the middle of a training: the same command ends it as if nothing had been."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("optuna", reason="needs the extra train")

from tests.pipeline.runs import environment, leftovers  # noqa: E402
from tests.pipeline.trainable import SMALL, labelled_run, same_weights, weights_of  # noqa: E402
from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.train.tune_config import TuneConfig  # noqa: E402
from wsi_pipeline.tuning import tune  # noqa: E402

ASKED = {
    "train": {**SMALL, "epochs": 3, "checkpoint_minutes": 0.00001},
    "space": {"optimise.lr": {"log": [1e-4, 1e-2]}, "loss.decoupling": {"choice": [0, 0.01]}},
    "sampler": "random",
    "trials": 2,
    "prune": "none",
}


def begin(run: Path, study: str) -> "subprocess.Popen[str]":
    file = run.parent / "tune.yaml"
    file.write_text(yaml.safe_dump(ASKED), encoding="utf-8")
    line = [sys.executable, "-m", "wsi_pipeline", "tune", str(run), "--study", study]
    return subprocess.Popen(
        [*line, "--config", str(file), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )


def trials_of(run: Path, study: str) -> list[dict[str, str]]:
    with (run / "tunings" / study / "trials.csv").open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_killed_in_a_training_it_goes_on_with_the_same_settings_and_weights(tmp_path: Path) -> None:
    run = labelled_run(tmp_path)
    first = run / "models" / "died-0001" / "checkpoints" / "last.pt"
    victim = begin(run, "died")
    while not first.exists():
        assert victim.poll() is None, victim.communicate()[1]
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert len(trials_of(run, "died")) < 2
    again = begin(run, "died")
    _, said = again.communicate(timeout=100)
    assert again.returncode == 0, said
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    tune(run, make_config(TuneConfig, ASKED), study="whole")
    torch.set_num_threads(before)
    assert trials_of(run, "died") == trials_of(run, "whole")
    for number in range(2):
        died, whole = (run / "models" / f"{study}-{number:04d}" for study in ("died", "whole"))
        assert same_weights(weights_of(died), weights_of(whole))
    assert leftovers(run) == []
