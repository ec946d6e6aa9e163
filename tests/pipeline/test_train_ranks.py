"""One training by several processes: torchrun and srun, the same result, and a rank that fails."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import environment  # noqa: E402
from tests.pipeline.trainable import labelled_run, same_weights, weights_of  # noqa: E402
from wsi_pipeline.train.config import train_configs  # noqa: E402
from wsi_pipeline.train.metrics_table import read_history  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

SETTINGS = {
    "model": {
        "name": "test_convnext",  # without batch statistics, which each rank has of its own tiles
        "image_px": 32,
        "dropout": 0,
        "stochastic_depth": 0,
    },
    "optimise": {"optimiser": "sgd", "lr": 0.05},
    "batch_size": 8,
    "epochs": 2,
    "probe_tiles": 8,
    "device": "cpu",
    "threads": 1,
    "checkpoint_minutes": 1e-9,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and settings beside it."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "train.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return labelled_run(folder)


def arguments(run: Path, name: str) -> list[str]:
    return ["train", str(run), "--name", name, "--config", str(run.parent / "train.yaml")]


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def alone(run: Path, name: str) -> Path:
    """Train, or go on, in this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config, work = train_configs(SETTINGS)
    outcome = train(run, config, name=name, work=work)
    torch.set_num_threads(before)
    return outcome.directory.path


def assert_alike(run: Path, first: str, second: str) -> None:
    """Two models have the same weights and rows but for rounding."""
    one, other = (weights_of(run / "models" / name) for name in (first, second))
    assert all(torch.allclose(value, other[name], atol=1e-5) for name, value in one.items())
    tables = [read_history(run / "models" / name) for name in (first, second)]
    before, after = (table.to_pandas() for table in tables if table is not None)
    assert before["tiles"].tolist() == after["tiles"].tolist()
    assert (before["loss"] - after["loss"]).abs().max() < 1e-5


def test_two_ranks_of_torchrun_learn_what_one_process_learns(run: Path) -> None:
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    line += ["--master-port", free_port(), "-m", "wsi_pipeline", *arguments(run, "two")]
    ended = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("trained: lowest validation loss") == 1
    alone(run, "alone")
    assert_alike(run, "alone", "two")


@pytest.mark.slow
def test_when_a_checkpoint_is_written_changes_nothing_of_what_ranks_learn(
    run: Path, tmp_path: Path
) -> None:
    program = tmp_path / "ranks.py"
    program.write_text(_OFTEN_AND_SELDOM, encoding="utf-8")
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*line, "--master-port", free_port(), str(program), str(run)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    often, seldom = (weights_of(run / "models" / name) for name in ("often", "seldom"))
    assert same_weights(often, seldom)


def test_a_rank_that_fails_ends_all_of_srun_with_one_sentence_and_one_process_goes_on(
    run: Path,
) -> None:
    said = said_by_failing_ranks(arguments(run, "failing"))
    assert "error: out of memory with batch_size 8" in said[1]
    assert "error" not in said[0]
    assert "Traceback" not in said[0] + said[1]
    left = torch.load(run / "models" / "failing" / "checkpoints" / "last.pt", weights_only=True)
    assert left["learner"]["step"] == 2
    alone(run, "failing")
    alone(run, "alone")
    assert_alike(run, "alone", "failing")


def test_a_rank_that_fails_in_a_repeat_ends_all_of_them(run: Path) -> None:
    said = said_by_failing_ranks([*arguments(run, "failing-often"), "--repeats", "2"])
    assert "error: out of memory with batch_size 8" in said[1]
    assert not (run / "models" / "failing-often-1").exists()


def said_by_failing_ranks(arguments: list[str]) -> list[str]:
    """Return what two ranks say of which one has too little memory, once both have ended with 1."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), "OMP_NUM_THREADS": "1", **_as_srun(rank, port)},
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=100)[1] for process in started]
    assert [process.returncode for process in started] == [1, 1]
    return said


def _as_srun(rank: int, port: str) -> dict[str, str]:
    names = {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": str(rank)}
    return {**names, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


_RANK = """
import os
import sys

import torch

from wsi_pipeline.cli import app
from wsi_pipeline.train.learner import Learner

learn = Learner.learn


def fails(self, batch, *, steps):
    if self.step == 2 and os.environ["SLURM_PROCID"] == "1":
        full()
    return learn(self, batch, steps=steps)


def full():
    from wsi_pipeline.train.learner import enough_memory
    from wsi_pipeline.train.config import train_configs

    with enough_memory(train_configs({"batch_size": 8})[0]):
        raise torch.OutOfMemoryError("out of memory")


Learner.learn = fails
app.main()
"""
"""A rank whose second one has too little memory in its third step."""

_OFTEN_AND_SELDOM = """
import sys

from wsi_pipeline.train.config import train_configs
from wsi_pipeline.train.peers import together
from wsi_pipeline.training import train

settings = {
    "model": {"name": "test_efficientnet", "image_px": 32},
    "augment": {"operations": "none", "crop": [1, 1]},
    "loss": {"adversarial": 1.0, "adversarial_classes": "all"},
    "batch_size": 8,
    "epochs": 2,
    "probe_tiles": 0,
    "device": "cpu",
    "threads": 1,
}
with together("cpu"):
    for name, minutes in (("often", 1e-9), ("seldom", 100.0)):
        config, work = train_configs(settings, {"checkpoint_minutes": minutes})
        train(sys.argv[1], config, name=name, work=work)
"""
"""Batch statistics, which the adversarial step reads, are of each rank's own tiles."""
