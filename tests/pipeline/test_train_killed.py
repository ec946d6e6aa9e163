"""The command killed at any moment, and asked to stop: the same command ends with the same weights."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import environment, leftovers  # noqa: E402
from tests.pipeline.trainable import labelled_run, same_weights, weights_of  # noqa: E402
from wsi_pipeline.train.config import train_configs  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

SETTINGS = {
    "model": {"name": "test_efficientnet", "image_px": 32},
    "batch_size": 8,
    "epochs": 24,
    "patience": None,
    "probe_tiles": 8,
    "device": "cpu",
    "threads": 1,
    "checkpoint_minutes": 0.00001,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and beside it settings of a training of a few seconds."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "train.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return labelled_run(folder)


@pytest.fixture(scope="module")
def undisturbed(run: Path) -> dict[str, Any]:
    """The weights of a training in this process that nothing has cut off."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config, work = train_configs(SETTINGS)
    outcome = train(run, config, name="undisturbed", work=work)
    torch.set_num_threads(before)
    return weights_of(outcome.directory)


def begin(run: Path, name: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "wsi_pipeline", "train", str(run), "--name", name]
    return subprocess.Popen(
        [*line, "--config", str(run.parent / "train.yaml"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )


def wait_for_another(path: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until a checkpoint is written."""
    before = changed_ns(path)
    while process.poll() is None and changed_ns(path) == before:
        time.sleep(0.01)


def changed_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


MOST = (signal.SIGKILL, signal.SIGINT) * 3


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGKILL, signal.SIGTERM), pytest.param(MOST, marks=pytest.mark.chaos)],
    ids=["twice", "often"],
)
def test_killed_or_stopped_at_random_moments_it_ends_with_the_same_weights(
    numbers: Sequence[signal.Signals], run: Path, undisturbed: dict[str, Any]
) -> None:
    drawn = random.Random(len(numbers))  # noqa: S311  moments, not secrets
    name = f"killed-{len(numbers)}"
    model = run / "models" / name
    for number in numbers:
        process = begin(run, name)
        wait_for_another(model / "checkpoints" / "last.pt", process)
        time.sleep(drawn.uniform(0, 0.2))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130
            assert said.splitlines()[-1].startswith("interrupted: what is finished is kept")
    ended = begin(run, name)
    _, said = ended.communicate(timeout=100)
    assert ended.returncode == 0, said
    assert f"{name}: goes on after step" in said
    assert same_weights(weights_of(model), undisturbed)
    assert leftovers(run) == []
