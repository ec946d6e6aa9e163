"""A slide that kills what works on it is given up after three deaths; nothing else makes it look guilty."""

import errno
import os
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.runs import (
    CONFIG,
    Drawn,
    Ended,
    InterruptedRunError,
    InterruptingPool,
    assert_whole,
    environment,
    tile,
)
from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.slides.find import find_slides
from wsi_pipeline.stages import cut, units
from wsi_pipeline.stages.lease import Holder
from wsi_pipeline.stages.run_directory import RunDirectory, now
from wsi_pipeline.stages.status import missing_parts
from wsi_pipeline.stages.tile import tile_slides
from wsi_pipeline.stages.tries import DEATHS_ALLOWED, begin_try, interrupt_try, read_try
from wsi_pipeline.stages.units import SlideJob

MANY = make_config(TileConfig, {"tile_size": 64, "overlap": 0.25, "min_tissue": 0})
DEADLY = """
import os, signal
from wsi_pipeline.stages import cut
from wsi_pipeline.cli.app import main
read = cut.read_tiles
def deadly(reader, sampling, windows):
    if reader.info.size0.width == int(os.environ["KILLS"]):
        os.kill(os.getpid(), getattr(signal, os.environ["WITH"]))
    return read(reader, sampling, windows)
cut.read_tiles = deadly
main()
"""


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of one shard, so that a small slide has several."""
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    monkeypatch.setattr(units, "_UNIT_ROWS", 0)


@pytest.fixture
def folder(drawn: Drawn, tmp_path: Path) -> Path:
    """Three slides, told apart by their widths."""
    from PIL import Image  # noqa: PLC0415  only here

    folder = tmp_path / "slides"
    folder.mkdir()
    for name, width in (("a", 600), ("b", 700), ("c", 800)):
        Image.fromarray(drawn.rgb["plain"][:, :width]).save(folder / f"{name}.png")
    return folder


def tile_deadly(folder: Path, run: Path, *flags: str, width: int = 600, by: str) -> Ended:
    """Run the command with the tiles of slides of one width deadly."""
    line = [sys.executable, "-c", DEADLY, "tile", str(folder), "-o", str(run), *flags]
    ended = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**environment(), "KILLS": str(width), "WITH": by},
    )
    return Ended(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def test_a_slide_that_kills_three_commands_is_given_up_and_the_rest_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    run, flags = tmp_path / "RUN", ("--workers", "1", "--tile-size", "128")
    for _ in range(DEATHS_ALLOWED):
        assert tile_deadly(folder, run, *flags, by="SIGKILL").code == -9
    last = tile_deadly(folder, run, *flags, by="SIGKILL")
    assert last.code == 1
    assert "failed: a (" in last.err
    assert "has killed 3 commands in a row while none of its tiles got done" in last.err
    assert_whole(run, done=["b", "c"])
    assert missing_parts(run, parts=1) == []
    again = tile(run, folder, config=TileConfig(tile_size=128))
    assert [record.status for record in again.records] == ["failed", "done", "done"]
    os.utime(folder / "a.png", (1, 1))
    tile(run, folder, config=TileConfig(tile_size=128))
    assert_whole(run, done=["a", "b", "c"])


def test_an_end_that_was_asked_for_is_nobodys_death(folder: Path, tmp_path: Path) -> None:
    run, flags = tmp_path / "RUN", ("--workers", "1", "--tile-size", "128")
    for by in ("SIGTERM", "SIGINT", "SIGTERM"):
        ended = tile_deadly(folder, run, *flags, by=by)
        assert ended.code == 130, ended.err
        last = read_try(RunDirectory(path=run), "a")
        assert last is not None
        assert (last.deaths, last.over) == (0, True)
    tile(run, folder, config=TileConfig(tile_size=128))
    assert_whole(run, done=["a", "b", "c"])


def test_a_slide_that_gets_on_is_never_given_up(drawn: Drawn, tmp_path: Path) -> None:
    run = RunDirectory(path=tmp_path / "RUN")
    work = run.work("plain")
    work.mkdir(parents=True)
    deaths = []
    for number in range(8):
        begin_try(run, "plain", path=str(drawn.plain), holder=holder(number))
        last = read_try(run, "plain")
        assert last is not None
        deaths.append(last.deaths)
        if number % 3 == 2:
            (work / f"tiles-{number}.parquet").touch()
    assert deaths == [0, 1, 2, 0, 1, 2, 0, 1]


def test_the_death_of_a_worker_is_not_counted_as_the_commands(drawn: Drawn, tmp_path: Path) -> None:
    run = RunDirectory(path=tmp_path / "RUN")
    for number in range(8):
        other = replace(holder(number), pid=os.getppid())
        begin_try(run, "plain", path=str(drawn.plain), holder=other)
    last = read_try(run, "plain")
    assert last is not None
    assert last.deaths == 0


def test_a_worker_that_dies_just_after_a_slide_was_done_leaves_it_done(
    drawn: Drawn, tmp_path: Path
) -> None:
    run = RunDirectory(path=tmp_path / "RUN")
    outcome = tile(run.path, drawn.plain)
    (source,) = find_slides([str(drawn.plain)])
    job = SlideJob(source=source, run=run, config=CONFIG)
    run.work("plain").mkdir()
    assert cut.finish_slide(job) == cut.begin_slide(job).record == outcome.records[0]
    assert_whole(run.path, done=["plain"])


def test_a_full_disk_is_nobodys_death(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = RunDirectory(path=tmp_path / "RUN")
    begin_try(run, "plain", path=str(drawn.plain), holder=holder(1))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        interrupt_try(run, "plain")
    begin_try(run, "plain", path=str(drawn.plain), holder=holder(2))
    last = read_try(run, "plain")
    assert last is not None
    assert last.deaths == 0
    assert len(list((run.state / "tries").iterdir())) == 1


@pytest.mark.usefixtures("small_units")
def test_an_interrupted_slide_is_the_first_of_the_next_command(
    drawn: Drawn, tmp_path: Path
) -> None:
    with pytest.raises(InterruptedRunError):
        tile_slides([str(drawn.plain)], tmp_path / "RUN", MANY, pool=InterruptingPool(2))
    pool = InOrder(window=1)
    tile_slides([str(drawn.folder)], tmp_path / "RUN", MANY, pool=pool)
    slides = list(dict.fromkeys(name.split(":")[1] for name in pool.names))
    assert slides == ["plain", "dark", "flat", "he"]


class InOrder:
    """A pool of so many workers that are all equally fast, and of the names of its calls."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.names: list[str] = []
        self._waiting: deque[Call] = deque()

    def submit(self, call: Call) -> None:
        self.names.append(call.name)
        self._waiting.append(call)

    def next_answer(self) -> Answer:
        call = self._waiting.popleft()
        return Answer(call=call, value=call.function(call.argument))

    def drop(self) -> None:
        self._waiting.clear()


def holder(number: int) -> Holder:
    """Return this process as the holder of one lease after another."""
    from wsi_pipeline.stages.lease import _this_process  # noqa: PLC0415

    return replace(_this_process(1, 1), token=str(number), since=now())
