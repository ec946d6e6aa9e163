"""A run that is killed or interrupted leaves nothing that looks finished, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.runs import (
    Drawn,
    InterruptedRunError,
    InterruptingPool,
    assert_same_run,
    assert_tiles,
    assert_whole,
    environment,
    leftovers,
    process,
    tile,
)
from wsi_pipeline.calls import Answer, SerialPool
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.files import TEMPORARY_PREFIX
from wsi_pipeline.stages.cut import UnitDone
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, read_records
from wsi_pipeline.stages.status import run_status
from wsi_pipeline.stages.tile import tile_slides
from wsi_pipeline.stages.units import UNIT_TILES
from wsi_pipeline.stages.verify import verify_run

MANY = {"tile_size": 64, "overlap": 0.25, "min_tissue": 0}
FLAGS = ("--tile-size", "64", "--overlap", "0.25", "--min-tissue", "0", "--workers", "2")
DONE = ("he", "plain", "dark", "flat")
WAYS = {
    "Ctrl-C": (signal.SIGINT, True),
    "SIGINT": (signal.SIGINT, False),
    "SIGTERM": (signal.SIGTERM, False),
    "SIGTERM to all": (signal.SIGTERM, True),
}
"""Signal, and whether the workers are sent it too, as a terminal or a scheduler does."""
FILES = 45
"""About as many as a run writes: moments to kill it are counted in files."""
DIE_WRITING = """
import contextlib, os, signal, sys
from pathlib import Path
from wsi_pipeline.files import published
with contextlib.ExitStack() as stack:
    for name in sys.argv[1:]:
        stack.enter_context(published(Path(name))).write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def whole(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run; two units a slide."""
    run = tmp_path_factory.mktemp("whole") / "RUN"
    outcome = tile(run, drawn.folder, config=make_config(TileConfig, MANY))
    assert all(record.tiles > UNIT_TILES for record in outcome.records)
    return run


@pytest.fixture
def started(drawn: Drawn, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Give how to start a run in a session of its own, of which nothing survives the test."""
    begun: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> subprocess.Popen[str]:
        run = tmp_path / "RUN"
        line = [
            sys.executable,
            "-m",
            "wsi_pipeline",
            "tile",
            drawn.folder,
            "-o",
            run,
            *FLAGS,
            *flags,
        ]
        begun.append(
            subprocess.Popen(
                [str(each) for each in line],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
                start_new_session=True,
            )
        )
        return begun[-1]

    yield start
    for each in begun:
        if members(each.pid):
            os.killpg(each.pid, signal.SIGKILL)
        each.communicate(timeout=30)


def members(session: int) -> list[int]:
    """Return the processes of a session that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = status.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_session) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


def wait_for_files(run: Path, count: int, running: "subprocess.Popen[str]") -> None:
    """Wait until a run has written so many files, or has ended."""
    while running.poll() is None:
        if sum(len(names) for _, _, names in os.walk(run)) >= count:
            return
        time.sleep(0.005)  # looking all the time would take a core from the run


def assert_nothing_looks_finished_that_is_not(run: Path) -> None:
    """Assert that what is there under its name is whole."""
    directory = RunDirectory(path=run)
    records = {record.slide_id: record for record in read_records(directory)}
    for slide_id, record in records.items():
        assert record.status == "done"
        assert directory.manifest(slide_id).is_file()
        assert directory.overlay(slide_id).is_file()
    for array in directory.store.glob("*/zarr.json"):
        tiles = int(array.read_text("utf-8").split('"shape": [')[1].split(",")[0])
        assert list(array.parent.glob("c.*.0.0.0"))
        if directory.manifest(array.parent.name).is_file():
            assert_tiles(run, array.parent.name, tiles=tiles, store=True)


@pytest.mark.parametrize("moments", [(2, 9), (9, 24), (24, FILES)])
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    moments: tuple[int, int],
    whole: Path,
    tmp_path: Path,
    started: Callable[..., "subprocess.Popen[str]"],
    drawn: Drawn,
) -> None:
    run = tmp_path / "RUN"
    running = started()
    wait_for_files(run, int(np.random.default_rng(moments).integers(*moments)), running)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)
    assert gone(running.pid), "processes are left"
    assert_nothing_looks_finished_that_is_not(run)
    if moments[0] == 9:
        assert process("tile", drawn.folder, "-o", run, *FLAGS).code == 0
    else:
        tile(run, drawn.folder, config=make_config(TileConfig, MANY))
    assert_whole(run, done=DONE)
    assert_same_run(run, whole)
    assert verify_run(run).findings == ()


@pytest.mark.parametrize(
    ("way", "files"), [*((way, 12) for way in WAYS), ("Ctrl-C", 1), ("SIGTERM", 1)]
)
def test_an_interrupted_run_says_so_leaves_no_process_and_goes_on(
    way: str,
    files: int,
    whole: Path,
    tmp_path: Path,
    started: Callable[..., "subprocess.Popen[str]"],
    drawn: Drawn,
) -> None:
    run, (number, everyone) = tmp_path / "RUN", WAYS[way]
    running = started()
    wait_for_files(run, files, running)
    os.killpg(running.pid, number) if everyone else running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert "interrupted: what is finished is kept; the same command goes on\n" in err
    assert "Traceback" not in err
    assert gone(running.pid), "processes are left"
    if way != "SIGTERM to all":  # workers that are told to end as well may leave half a file
        assert leftovers(run) == []
    assert_nothing_looks_finished_that_is_not(run)
    tile(run, drawn.folder, config=make_config(TileConfig, MANY))
    assert_whole(run, done=DONE)
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("flags", [("--workers", "1"), ("--cluster", "local")])
def test_an_interrupt_ends_every_way_of_running_alike(
    flags: tuple[str, ...],
    number: signal.Signals,
    whole: Path,
    tmp_path: Path,
    started: Callable[..., "subprocess.Popen[str]"],
    drawn: Drawn,
) -> None:
    run = tmp_path / "RUN"
    running = started(*flags)
    wait_for_files(run, 10, running)
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert "interrupted: what is finished is kept; the same command goes on\n" in err
    assert "Traceback" not in err
    assert gone(running.pid), "processes are left"
    assert leftovers(run) == []
    status = run_status(run)
    assert (status.count("interrupted") > 0, status.count("running")) == (True, 0)
    tile(run, drawn.folder, config=make_config(TileConfig, MANY))
    assert_whole(run, done=DONE)
    assert_same_run(run, whole)


@pytest.mark.parametrize("seconds", [0.3, 1.2])
def test_an_interrupt_while_starting_ends_without_a_traceback(
    seconds: float, tmp_path: Path, started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    running = started()
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode in {130, -signal.SIGINT}, err
    assert "Traceback" not in err
    assert gone(running.pid), "processes are left"
    assert leftovers(tmp_path) == []


def test_what_a_killed_writer_has_left_is_gone_after_the_run_went_on(
    whole: Path, tmp_path: Path, drawn: Drawn
) -> None:
    run, config = tmp_path / "RUN", make_config(TileConfig, MANY)
    with pytest.raises(InterruptedRunError):
        tile_slides([str(drawn.folder)], run, config, pool=InterruptingPool(3))
    written = [path for path in run.rglob("*") if path.is_file()]
    subprocess.run(
        [sys.executable, "-c", DIE_WRITING, *map(str, written)],
        check=False,
        timeout=60,
        env=environment(),
    )
    assert len(leftovers(run)) == len(written) > 5
    tile(run, drawn.folder, config=config)
    assert leftovers(run) == []
    assert_same_run(run, whole)


class DyingElsewhere(SerialPool):
    """Once a slide is done, a worker of another node comes late with the same, and dies of it."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run = run

    def next_answer(self) -> Answer:
        answer = super().next_answer()
        if isinstance(answer.value, SlideRecord):
            slide_id = answer.value.slide_id
            work, array = self._run.work(slide_id), self._run.array(slide_id)
            work.mkdir(parents=True)
            for folder in (work, array, self._run.manifests, self._run.overlays, self._run.records):
                (folder / f"{TEMPORARY_PREFIX}node7-4711-0").write_bytes(b"half of it")
        return answer


def test_what_dying_workers_of_other_nodes_leave_is_gone_when_the_run_ends(
    whole: Path, tmp_path: Path, drawn: Drawn
) -> None:
    run = RunDirectory(path=tmp_path / "RUN")
    pool = DyingElsewhere(run)
    tile_slides([str(drawn.folder)], run.path, make_config(TileConfig, MANY), pool=pool)
    assert_same_run(run.path, whole)


class LosingAShard(SerialPool):
    """After the first unit that was cut its first shard is lost."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run, self.lost = run, ""

    def next_answer(self) -> Answer:
        answer = super().next_answer()
        if isinstance(answer.value, UnitDone) and not self.lost:
            self.lost = answer.call.argument.slide.source.slide_id
            (self._run.array(self.lost) / "c.0.0.0.0").unlink()
        return answer


def test_a_slide_whose_shards_went_missing_while_it_was_cut_is_not_called_done(
    whole: Path, tmp_path: Path, drawn: Drawn
) -> None:
    run, config = tmp_path / "RUN", make_config(TileConfig, MANY)
    pool = LosingAShard(RunDirectory(path=run))
    outcome = tile_slides([str(drawn.folder)], run, config, pool=pool)
    (failed,) = outcome.with_status("failed")
    assert failed.slide_id == pool.lost
    assert failed.reason == (
        "FileNotFoundError: 1 of its shards is gone, the first c.0.0.0.0: something else removes files of "
        "this run; run the same command again"
    )
    tile(run, drawn.folder, config=config)
    assert_same_run(run, whole)


def test_work_of_a_slide_that_was_killed_just_after_its_record_is_cleared_away(
    drawn: Drawn, tmp_path: Path
) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    work = RunDirectory(path=tmp_path / "RUN").work("plain")
    work.mkdir(parents=True)
    (work / "begun.json").write_text("{}", encoding="utf-8")
    outcome = tile(tmp_path / "RUN", drawn.plain)
    assert outcome.already_done == {"plain"}
    assert_whole(tmp_path / "RUN", done=["plain"])


def gone(session: int) -> bool:
    """Whether every process of a session ends within a few seconds."""
    for _ in range(100):
        if not members(session):
            return True
        time.sleep(0.05)
    return False
