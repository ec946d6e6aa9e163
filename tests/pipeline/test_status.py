"""How far a run is can be asked at any time, and what is left is what a job array needs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.runs import (
    CONFIG,
    Command,
    Drawn,
    InterruptedRunError,
    InterruptingPool,
    assert_whole,
    environment,
    good_folder,
    process,
    tile,
)
from wsi_pipeline.calls import Answer, SerialPool
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.stages import cut, units
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.status import RunStatus, array_of, missing_parts, run_status
from wsi_pipeline.stages.tile import TileOptions, tile_slides
from wsi_pipeline.stages.tries import FAILURES_RETRIED

MANY = make_config(TileConfig, {"tile_size": 64, "overlap": 0.25, "min_tissue": 0})
HERE = f"{socket.gethostname()}:{os.getpid()}"


class AskingPool(SerialPool):
    """A serial pool that asks how far the run is after every answer."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._run = run
        self.seen: list[RunStatus] = []

    def next_answer(self) -> Answer:
        answer = super().next_answer()
        self.seen.append(run_status(self._run))
        return answer


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of one shard, so that a small slide has several."""
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    monkeypatch.setattr(units, "_UNIT_ROWS", 0)


def states(run: Path) -> dict[str, str]:
    return {slide.slide_id: slide.state for slide in run_status(run).slides}


@pytest.mark.usefixtures("small_units")
def test_while_a_run_works_it_is_told_what_is_done_under_way_and_left(
    drawn: Drawn, tmp_path: Path
) -> None:
    pool = AskingPool(tmp_path / "RUN")
    tile_slides([str(drawn.folder)], tmp_path / "RUN", MANY, pool=pool)
    middle = pool.seen[2]
    assert {slide.slide_id: slide.state for slide in middle.slides} == {
        "dark": "running",
        "flat": "left",
        "he": "left",
        "plain": "left",
    }
    dark = middle.slides[0]
    assert (dark.where, dark.tiles) == (HERE, 128)
    assert dark.tiles_planned is not None
    assert dark.tiles_planned > 128
    assert dark.stored_bytes > 0
    assert (middle.commands[0].where, middle.commands[0].alive) == (HERE, True)
    assert middle.tiles_per_s is not None
    tiles = [seen.tiles for seen in pool.seen]
    assert tiles == sorted(tiles)
    after = run_status(tmp_path / "RUN")
    assert (after.count("done"), after.commands) == (4, ())


@pytest.mark.usefixtures("small_units")
def test_after_an_interrupt_it_is_told_how_far_each_slide_came(
    drawn: Drawn, tmp_path: Path
) -> None:
    with pytest.raises(InterruptedRunError):
        tile_slides([str(drawn.folder)], tmp_path / "RUN", MANY, pool=InterruptingPool(3))
    status = run_status(tmp_path / "RUN")
    assert status.slides[0].state == "interrupted"
    assert (status.slides[0].where, status.tiles) == (HERE, 128)
    assert (status.count("left"), status.commands, status.tiles_per_s) == (3, (), None)


def test_after_a_kill_the_dead_command_is_named(drawn: Drawn, tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    line = [sys.executable, "-m", "wsi_pipeline", "tile", drawn.folder, "-o", run, "--workers", "1"]
    running = subprocess.Popen(
        [*map(str, line), "--tile-size", "32", "--overlap", "0.5"],
        env=environment(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    tries = run / ".state" / "tries"
    while not list(tries.glob("*.json")) and running.poll() is None:
        time.sleep(0.005)
    assert "running" in states(run).values()
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert "interrupted" in states(run).values()
    said = process("status", run).out
    assert f"{socket.gethostname()}:{running.pid} has died, since 20" in said
    assert "4 slides: 0 done, 1 interrupted, 3 left; 0 tiles" in said


def test_failures_are_told_with_their_reasons_and_the_result_is_json_too(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "broken.svs").touch()
    (folder / "notes.txt").touch()
    assert wsi("tile", folder, "-o", tmp_path / "RUN", "--tile-size", "128").code == 1
    said = wsi("status", tmp_path / "RUN")
    assert said.code == 0
    assert "4 slides: 2 done, 1 failed, 1 skipped; " in said.out
    values = json.loads(wsi("status", tmp_path / "RUN", "--json").out)
    assert values["counts"]["failed"] == 1
    rows = {slide["slide_id"]: slide for slide in values["slides"]}
    assert rows["broken"]["reason"] in said.out
    assert rows["he"]["tiles"] == rows["he"]["tiles_planned"] > 0


def test_a_failure_is_said_once(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "broken.svs").touch()
    said = wsi("tile", folder, "-o", tmp_path / "RUN", "--tile-size", "128")
    reason = run_status(tmp_path / "RUN").slides[0].reason
    assert reason
    assert (said.out + said.err).count(reason) == 1
    assert said.err.splitlines()[-1].startswith("failed: broken (")
    assert "slide=broken status=failed" in said.err


@pytest.mark.parametrize("command", [("status",), ("missing", "--parts", "3")])
def test_a_folder_that_is_no_run_is_refused(
    command: tuple[str, ...], tmp_path: Path, wsi: Command
) -> None:
    said = wsi(*command, tmp_path)
    assert said.code == 2
    assert f"error: {tmp_path}: expected a run directory, found no .state/asked.json" in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_parts_that_are_missing_are_those_that_a_part_would_cut(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    run, line = tmp_path / "RUN", ("tile", drawn.folder, "-o", tmp_path / "RUN")
    assert wsi(*line, "--tile-size", "128", "--part", "2/3").code == 0
    assert wsi("missing", run, "--parts", "3").out == "1,3\n"
    assert wsi("missing", run, "--parts", "1").out == "1\n"
    assert wsi("missing", run, "--parts", "9").out == "1,3-4\n"
    for part in (1, 3):
        assert wsi(*line, "--tile-size", "128", "--part", f"{part}/3").code == 0
    nothing = wsi("missing", run, "--parts", "3")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "")
    assert_whole(run, done=["he", "plain", "dark", "flat"])


def test_no_part_is_asked_for_again_for_a_slide_that_is_no_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "broken.svs").touch()
    assert wsi("tile", folder, "-o", tmp_path / "RUN", "--tile-size", "128").code == 1
    assert wsi("missing", tmp_path / "RUN", "--parts", "3").out == ""


def test_a_part_is_asked_for_again_a_few_times_where_a_disk_has_failed(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    run = tmp_path / "RUN"
    monkeypatch.setattr(cut, "finish_slide", fail)
    left = []
    for _ in range(FAILURES_RETRIED):
        outcome = tile(run, drawn.plain)
        assert outcome.records[0].status == "failed"
        left.append(missing_parts(run, parts=2))
    assert left == [[1], [1], []]
    monkeypatch.undo()
    assert tile(run, drawn.plain).records[0].status == "done"
    assert run_status(run).count("done") == 1


def test_slides_of_other_settings_are_left_after_an_interrupted_overwrite(
    drawn: Drawn, tmp_path: Path
) -> None:
    run = tmp_path / "RUN"
    tile(run, drawn.plain, drawn.he)
    other = CONFIG.model_copy(update={"tile_size": 64})
    with pytest.raises(InterruptedRunError):
        tile_slides(
            [str(drawn.plain), str(drawn.he)],
            run,
            other,
            options=TileOptions(overwrite=True),
            pool=InterruptingPool(2),
        )
    assert "done" not in states(run).values()
    assert missing_parts(run, parts=2) == [1, 2]


def test_a_status_is_given_while_files_come_and_go(drawn: Drawn, tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    tile(run, drawn.plain)
    state = RunDirectory(path=run).state
    (state / "tries" / "plain.json").write_text('{"half', encoding="utf-8")
    (state / "leases" / "1-of-1.x.json").write_text("", encoding="utf-8")
    assert states(run) == {"plain": "done"}
    shutil.rmtree(state / "leases")
    assert states(run) == {"plain": "done"}


def test_numbers_are_written_as_schedulers_read_them() -> None:
    assert array_of(range(1, 1001)) == "1-1000"
    assert array_of([1, 3, 5]) == "1,3,5"
