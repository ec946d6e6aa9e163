"""One run at a time on a run directory, or its different parts; the dead keep nobody out."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.pipeline.runs import Drawn, assert_whole, environment, tile
from wsi_pipeline.calls import Answer, SerialPool
from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.files import TEMPORARY_PREFIX
from wsi_pipeline.stages import lease
from wsi_pipeline.stages.lease import SILENT_S, leases, sole_use
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.tile import TileConfig, TileOptions, tile_slides

HOLD = """
import sys, time
from pathlib import Path
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory
with sole_use(RunDirectory(path=Path(sys.argv[1])), part=1, parts=1):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
ELSEWHERE = {"machine": "another", "host": "node7", "pid": 4711}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(path=tmp_path / "RUN")


def holding(run: RunDirectory, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that holds a run directory for so long."""
    line = [sys.executable, "-c", HOLD, str(run.path), str(seconds)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def left_by_another(
    run: RunDirectory, changes: Mapping[str, object], *, age_s: float, part: int = 1, parts: int = 1
) -> Path:
    """Leave a lease of a process that is not this one, last touched so long ago."""
    with sole_use(run, part=part, parts=parts):
        (mine,) = leases(run)
        content = json.loads(mine.path.read_bytes())
    path = run.state / "leases" / "other.json"
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_a_second_run_is_refused_and_told_who_works_there(run: RunDirectory) -> None:
    first = holding(run, 60)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        where = f"{socket.gethostname()}:{first.pid}"
        who = rf"another run is working there: {where} since 20.*heartbeat \d+ s ago"
        with pytest.raises(ConfigError, match=who), sole_use(run, part=1, parts=1):
            pass
        with pytest.raises(ConfigError, match=who), sole_use(run, part=2, parts=3):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with sole_use(run, part=1, parts=1):
            assert len(leases(run)) == 1
    finally:
        first.kill()
        first.communicate()
    assert leases(run) == []


def test_parts_share_a_run_directory_unless_they_share_slides(run: RunDirectory) -> None:
    with sole_use(run, part=1, parts=3), sole_use(run, part=2, parts=3):
        with (
            pytest.raises(ConfigError, match="part 2/3 is being worked on already, by "),
            sole_use(run, part=2, parts=3),
        ):
            pass
        with pytest.raises(ConfigError, match="the same N"), sole_use(run, part=2, parts=4):
            pass
        with sole_use(run, part=3, parts=3):
            assert len(leases(run)) == 3


def test_a_process_number_that_is_used_again_is_not_the_holder(run: RunDirectory) -> None:
    left_by_another(run, {"born": "0"}, age_s=0)
    with sole_use(run, part=1, parts=1):
        assert len(leases(run)) == 1


def test_another_host_is_believed_while_it_is_heard_of_and_taken_over_after(
    run: RunDirectory,
) -> None:
    path = left_by_another(run, ELSEWHERE, age_s=5)
    with pytest.raises(ConfigError, match="node7:4711 since"), sole_use(run, part=1, parts=1):
        pass
    os.utime(path, (time.time() - SILENT_S - 1,) * 2)
    with sole_use(run, part=1, parts=1):
        assert len(leases(run)) == 1


def test_a_host_that_is_late_is_waited_for_until_it_is_given_up(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(lease, "_LATE_S", 0.6)
    monkeypatch.setattr(lease, "SILENT_S", 3.0)
    left_by_another(run, ELSEWHERE, age_s=2.0)
    with sole_use(run, part=1, parts=1):
        assert len(leases(run)) == 1


def test_a_heartbeat_keeps_a_lease_fresh(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    with sole_use(run, part=1, parts=1):
        (mine,) = leases(run)
        os.utime(mine.path, (1, 1))
        time.sleep(0.4)
        assert time.time() - leases(run)[0].touched_s < 5


def test_unfinished_files_beside_a_living_part_may_be_its_own_and_are_left(
    drawn: Drawn, run: RunDirectory
) -> None:
    path = left_by_another(run, {**ELSEWHERE, "part": 2, "parts": 2}, age_s=0)
    run.manifests.mkdir(parents=True)
    unfinished = run.manifests / f"{TEMPORARY_PREFIX}node7-4711-0"
    unfinished.write_bytes(b"half of it")
    tile(run.path, drawn.plain, options=TileOptions(part=1, parts=2))
    assert unfinished.exists()
    path.unlink()
    tile(run.path, drawn.plain, options=TileOptions(part=1, parts=2))
    assert not unfinished.exists()


def test_of_runs_that_begin_at_once_exactly_one_goes_on(run: RunDirectory) -> None:
    every = [holding(run, 3) for _ in range(4)]
    said = [each.communicate(timeout=60) for each in every]
    assert [out for out, _ in said].count("held\n") == 1
    assert sum("another run is working there" in err for _, err in said) == 3


def test_a_run_that_was_taken_over_stops_and_says_so(
    drawn: Drawn, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TakenOver(SerialPool):
        """Another host takes the run over during the first call."""

        def next_answer(self) -> Answer:
            for each in leases(run):
                each.path.unlink()
            time.sleep(0.3)
            return super().next_answer()

    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    with pytest.raises(OutputError, match="was taken over by another"):
        tile_slides([str(drawn.folder)], run.path, TileConfig(tile_size=128), pool=TakenOver())
    tile(run.path, drawn.folder, config=TileConfig(tile_size=128))
    assert_whole(run.path, done=["he", "plain", "dark", "flat"])
