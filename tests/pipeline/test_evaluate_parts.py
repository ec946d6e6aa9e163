"""Predictions in parts: cut off and gone on with, shared by ranks, kept apart; the same bytes in the end."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import environment  # noqa: E402
from tests.pipeline.test_train_ranks import free_port  # noqa: E402
from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluate.ask import part_files  # noqa: E402
from wsi_pipeline.evaluate.ask.observer import SilentAskObserver  # noqa: E402
from wsi_pipeline.evaluation import Evaluated, Question, evaluate, evaluate_models  # noqa: E402
from wsi_pipeline.stages.lease import sole_use  # noqa: E402
from wsi_pipeline.stages.run_directory import RunDirectory  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)
TILES, BATCH = 39, 8


@pytest.fixture(autouse=True)
def _parts_of_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 39 tiles be five parts."""
    monkeypatch.setattr(part_files, "LEAST_TILES", BATCH)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two networks that have had one epoch each."""
    path = labelled_run(tmp_path_factory.mktemp("parts"), test=7)
    for seed in range(2):
        config, work = small(epochs=1, seed=seed)
        train(path, config, name=f"net-{seed}", work=work)
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The same, of which nothing was asked yet."""
    return Path(shutil.copytree(trained, tmp_path / "RUN"))


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """What one process says of all tiles without a break, in a single part."""
    path = shutil.copytree(trained, tmp_path_factory.mktemp("whole") / "RUN")
    return evaluate(path, model="net-0", part="all", work=CPU)


class Watching(SilentAskObserver):
    """Notes what is asked; ends it after some parts if it is to."""

    def __init__(self, ends_after: int | None = None) -> None:
        self.passes: list[tuple[tuple[str, ...], int, int]] = []
        self.parts = 0
        self._ends_after = ends_after

    def on_begin(
        self,
        models: Sequence[str],
        tiles: int,
        *,
        there: int,
        asked: str = "",  # noqa: ARG002
    ) -> None:
        self.passes.append((tuple(models), tiles, there))

    def on_tiles(self, count: int) -> None:  # noqa: ARG002
        self.parts += 1
        if self.parts == self._ends_after:
            raise KeyboardInterrupt


def left_in(run: Path, model: str = "net-0") -> set[str]:
    return {path.name for path in (run / "models" / model / "predictions").iterdir()}


def assert_same(found: Evaluated, whole: Evaluated) -> None:
    """The tables say the same; row groups are those of the parts."""
    pd.testing.assert_frame_equal(
        pd.read_parquet(found.predictions), pd.read_parquet(whole.predictions)
    )
    assert found.scores == whole.scores


def test_what_was_cut_off_goes_on_and_ends_with_the_same_bytes(
    run: Path, whole: Evaluated, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, model="net-0", part="all", work=CPU, observer=Watching(ends_after=2))
    assert left_in(run) == {"all.parts"}
    seen = Watching()
    cut = evaluate(run, model="net-0", part="all", work=CPU, observer=seen)
    assert seen.passes == [(("net-0",), TILES - 2 * BATCH, 2 * BATCH)]
    assert left_in(run) == {"all.parquet", "all.json", "all.scores.parquet"}
    other = shutil.copytree(run, tmp_path / "other")
    again = evaluate(other, model="net-0", part="all", work=CPU, overwrite=True)
    assert again.predictions.read_bytes() == cut.predictions.read_bytes()
    assert_same(cut, whole)


def test_what_is_there_is_not_asked_again_unless_it_is_to_be(run: Path) -> None:
    first = evaluate(run, model="net-0", work=CPU)
    before = first.predictions.stat().st_mtime_ns
    seen = Watching()
    second = evaluate(run, model="net-0", work=CPU, observer=seen)
    assert (first.was_there, second.was_there, seen.passes) == (False, True, [])
    assert second.scores == first.scores
    assert second.table == first.table
    assert second.predictions.stat().st_mtime_ns == before
    evaluate(run, model="net-0", work=CPU, observer=seen, overwrite=True)
    assert seen.passes == [(("net-0",), 7, 0)]


def test_other_weights_or_labels_are_asked_anew(run: Path) -> None:
    evaluate(run, model="net-0", work=CPU)
    best = run / "models" / "net-0" / "checkpoints" / "best.pt"
    shutil.copy(run / "models" / "net-1" / "checkpoints" / "best.pt", best)
    seen = Watching()
    evaluate(run, model="net-0", work=CPU, observer=seen)
    for path in (run / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(path)
        rows.loc[rows["split"] == "test", "label"] = None
        rows.to_parquet(path)
    bare = evaluate(run, model="net-0", work=CPU, observer=seen)
    assert [tiles for _, tiles, _ in seen.passes if tiles == 7] == [7, 7]
    assert pd.read_parquet(bare.predictions)["target"].isna().all()


def test_several_networks_are_asked_in_one_pass_each_where_it_was(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, model="net-0", part="all", work=CPU, observer=Watching(ends_after=3))
    seen = Watching()
    found = evaluate_models(
        run, models=["net"], question=Question(part="all"), work=CPU, observer=seen
    )
    assert seen.passes == [(("net-0", "net-1"), TILES, 0)]
    assert [each.model for each in found.members] == ["net-0", "net-1"]


def test_two_commands_do_not_ask_the_same_at_once(run: Path) -> None:
    parts = RunDirectory(path=run / "models" / "net-0" / "predictions" / "test.parts")
    with (
        sole_use(parts, part=1, parts=1),
        pytest.raises(ConfigError, match=r"working there: .*wait for it to end: it asks the same"),
    ):
        evaluate(run, model="net-0", work=CPU)
    evaluate(run, model="net-0", work=CPU)
    assert "test.parts" not in left_in(run)


def process(run: Path, program: str, **variables: str) -> "subprocess.Popen[str]":
    """Start ``evaluate`` of all tiles in a process with parts of one batch."""
    line = [sys.executable, "-c", f"{_SMALL_PARTS}{program}", "evaluate", str(run)]
    line += ["--model", "net-0", "--part", "all", "--device", "cpu", "--json"]
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "OMP_NUM_THREADS": "1", **variables},
    )


def test_a_terminated_command_leaves_130_and_what_it_had_done(run: Path, whole: Evaluated) -> None:
    started = process(run, _ENDS_ITSELF)
    said = started.communicate(timeout=280)[1]
    assert started.returncode == 130, said
    assert "the same command goes on" in said
    seen = Watching()
    found = evaluate(run, model="net-0", part="all", work=CPU, observer=seen)
    assert seen.passes == [(("net-0",), TILES - 2 * BATCH, 2 * BATCH)]
    assert_same(found, whole)


def test_two_ranks_make_the_bytes_that_one_process_makes(run: Path, tmp_path: Path) -> None:
    alone = evaluate(shutil.copytree(run, tmp_path / "alone"), model="net-0", part="all", work=CPU)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    started = [
        process(run, _COMMAND, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2", **shared)
        for rank in range(2)
    ]
    said = [each.communicate(timeout=280) for each in started]
    assert [each.returncode for each in started] == [0, 0], said
    assert json.loads(said[0][0])["scores"]["tiles"] == TILES
    assert said[1][0] == ""
    found = run / "models" / "net-0" / "predictions" / "all.parquet"
    assert found.read_bytes() == alone.predictions.read_bytes()
    assert left_in(run) == {"all.parquet", "all.json", "all.scores.parquet"}


_SMALL_PARTS = """
from wsi_pipeline.cli import app
from wsi_pipeline.evaluate.ask import part_files

part_files.LEAST_TILES = 8
"""

_COMMAND = "app.main()"

_ENDS_ITSELF = """
import os
import signal

write = part_files.PartFiles.write


def writes(self, number, logits):
    if number == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    write(self, number, logits)


part_files.PartFiles.write = writes
app.main()
"""
