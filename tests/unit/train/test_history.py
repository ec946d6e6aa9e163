"""The table of a training: what is saved stays, what came after a checkpoint is written again."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.errors import OutputError
from wsi_pipeline.tables import read_table, table_metadata
from wsi_pipeline.train.columns import TIMED_COLUMNS, TRAINING_COLUMNS
from wsi_pipeline.train.history import History
from wsi_pipeline.train.metrics import evaluation
from wsi_pipeline.train.metrics_table import read_history

CLASSES = ("benign", "cancer")


def step_row(step: int, seconds: float = 1.0) -> dict[str, Any]:
    return {
        "kind": "step",
        "part": "train",
        "epoch": step // 10,
        "step": step,
        "tiles": 8,
        "loss": 1 / (step + 1),
        "loss_cross_entropy": 1 / (step + 1),
        "seconds": seconds,
    }


def epoch_row(step: int) -> dict[str, Any]:
    scored = evaluation([1.0, -step, 0.5], [1, 0, 0], [1, 1, 1], classes=CLASSES)
    return {"kind": "epoch", "part": "validation", "epoch": step // 10, "step": step, **scored}


def untimed(table: pa.Table | None) -> pa.Table:
    assert table is not None
    return table.drop_columns(list(TIMED_COLUMNS))


def test_rows_come_back_with_their_columns_and_types(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add([step_row(0), step_row(1)])
    history.add([epoch_row(1)])
    history.end_epoch()
    table = read_table(tmp_path / "metrics.parquet")
    fixed = [column.name for column in TRAINING_COLUMNS]
    assert table.column_names[: len(fixed)] == fixed
    assert table.column_names[len(fixed) :] == sorted(table.column_names[len(fixed) :])
    assert table_metadata(table)["schema_version"] == "1"
    rows = table.to_pylist()
    for name, value in {**step_row(1), "auroc": None}.items():
        assert rows[1][name] == value
    for name, value in epoch_row(1).items():
        assert rows[2][name] == value
    assert table.schema.field("logit_counts_cancer").type == pa.list_(pa.float64())


# Of every step: whether its rows are saved, an epoch ends, or the process dies and goes on.
acts = st.lists(st.sampled_from(["step", "save", "epoch", "checkpoint", "die"]), max_size=25)


@settings(max_examples=25)
@given(acts)
def test_a_training_that_dies_anywhere_leaves_the_rows_of_one_that_did_not(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    history, step, expected = History(folder / "died"), 0, [step_row(0)]
    history.add(expected)
    checkpoint, kept = 0, [dict(row) for row in expected[:0]]
    steps_kept = 0
    for act in acts:
        if act == "step":
            step += 1
            history.add([step_row(step, seconds=len(expected))])
            expected.append(step_row(step))
        elif act == "save":
            history.save()
        elif act == "epoch":
            history.add([epoch_row(step)])
            expected.append(epoch_row(step))
            history.end_epoch()
        elif act == "checkpoint":
            history.save()
            checkpoint, kept, steps_kept = history.rows, list(expected), step
        else:  # what was not saved is lost with the process
            history = History(folder / "died", rows=checkpoint)
            expected, step = list(kept), steps_kept
    history.end_epoch()
    whole = History(folder / "whole")
    whole.add(expected)
    whole.end_epoch()
    if not expected:
        assert read_history(folder / "died") is None
        return
    assert untimed(read_history(folder / "died")).equals(untimed(read_history(folder / "whole")))


def test_a_table_that_is_read_in_the_middle_of_an_epoch_has_all_saved_rows(tmp_path: Path) -> None:
    history = History(tmp_path)
    for step in range(6):
        history.add([step_row(step)])
        if step % 2:
            history.save()
        if step == 3:
            history.end_epoch()
    table = read_history(tmp_path)
    assert table is not None
    assert table.column("step").to_pylist() == list(range(6))


def test_parts_left_by_a_join_that_was_cut_off_are_not_read_twice(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add([step_row(0), step_row(1)])
    history.save()
    part = next((tmp_path / "metrics").iterdir())
    left = part.read_bytes()
    history.end_epoch()
    part.write_bytes(left)
    table = read_history(tmp_path)
    assert table is not None
    assert table.num_rows == 2
    History(tmp_path, rows=1)
    assert list((tmp_path / "metrics").iterdir()) == []


def test_steps_do_not_rewrite_the_whole_table(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(step_row(step) for step in range(3000))
    history.end_epoch()
    before = (tmp_path / "metrics.parquet").stat()
    history.add([step_row(3001)])
    history.save()
    assert (tmp_path / "metrics.parquet").stat().st_mtime_ns == before.st_mtime_ns
    part = next((tmp_path / "metrics").iterdir())
    assert part.stat().st_size < before.st_size / 3


def test_rows_that_nobody_saves_do_not_fill_the_memory(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(step_row(step) for step in range(10_000))
    assert history.rows == 10_000
    table = read_history(tmp_path)
    assert table is not None
    assert table.num_rows == 10_000


def test_a_checkpoint_that_knows_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add([step_row(0)])
    history.end_epoch()
    with pytest.raises(
        OutputError, match=r"expected at least the 5 rows .* got 1; put the file back"
    ):
        History(tmp_path, rows=5)


def test_a_column_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gradient_nrom: expected a column"):
        History(tmp_path).add([{**step_row(0), "gradient_nrom": 1.0}])


def test_rows_are_kept_where_they_cannot_be_written(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add([step_row(0)])
    (tmp_path / "metrics").write_text("a file is in the way")
    with pytest.raises(OutputError, match="a file is where a folder should be"):
        history.save()
    (tmp_path / "metrics").unlink()
    history.end_epoch()
    table = read_history(tmp_path)
    assert table is not None
    assert table.num_rows == 1


_WRITER = """
import os, signal, sys
from pathlib import Path
from tests.unit.train.test_history import epoch_row, step_row
from wsi_pipeline.train.history import History

history = History(Path(sys.argv[1]))
for step in range(10_000):
    history.add([step_row(step)])
    history.save()
    print(history.rows, flush=True)
    if step % 5 == 4:
        history.end_epoch()
"""


@pytest.mark.parametrize("answers", [1, 4, 9])
def test_a_process_that_is_killed_loses_no_row_that_it_had_saved(
    tmp_path: Path, answers: int
) -> None:
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as writer:
        assert writer.stdout is not None
        for _ in range(answers):
            saved = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    table = read_history(tmp_path)
    assert table is not None
    steps = table.column("step").to_pylist()
    assert len(steps) >= saved
    assert steps == list(range(len(steps)))
    assert History(tmp_path, rows=saved).rows == saved


def shown(folder: Path) -> tuple[Mapping[str, Any], set[str]]:
    """Return what TensorBoard shows: steps and values of each scalar, and names of histograms."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = accumulator.EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}
    )
    board.Reload()
    scalars = {tag: board.Scalars(tag) for tag in board.Tags()["scalars"]}
    found = {tag: [(each.step, each.value) for each in events] for tag, events in scalars.items()}
    return found, set(board.Tags()["histograms"])


@pytest.mark.filterwarnings("default")
def test_tensorboard_shows_every_number_once_after_a_training_went_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra train")
    history = History(tmp_path)
    history.add(step_row(step) for step in range(6))
    history.save()
    checkpoint = 4
    history.add([epoch_row(5), step_row(6)])
    history.save()
    again = History(tmp_path, rows=checkpoint)
    again.add([*(step_row(step) for step in range(4, 8)), epoch_row(7)])
    again.close()
    scalars, histograms = shown(tmp_path)
    assert scalars["step/loss"] == [(step, pytest.approx(1 / (step + 1))) for step in range(8)]
    assert scalars["validation/auroc"] == [(7, 1.0)]
    assert histograms == {"validation/logits_benign", "validation/logits_cancer"}


@pytest.mark.filterwarnings("default")
def test_many_trainings_of_a_process_leave_no_thread_and_no_open_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra train")
    History(tmp_path / "first").close()
    gc.collect()
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for number in range(5):
        history = History(tmp_path / str(number))
        history.add([step_row(0)])
        history.save()
        del history  # as a training that was broken off leaves it
    gc.collect()
    assert threading.active_count() <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
