"""Processes of this machine: who goes first when memory runs out, and what is left when they are dropped."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.runs import environment
from wsi_pipeline.calls import Call
from wsi_pipeline.compute.cluster import Cluster, open_pool
from wsi_pipeline.compute.processes import ProcessPool, process_pool


def score(_: object) -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


def write_later(path: Path) -> None:
    time.sleep(1)
    path.touch()


def test_a_worker_dies_of_a_full_memory_before_the_command_does() -> None:
    with process_pool(1) as pool:
        pool.submit(Call(name="score", function=score, argument=None))
        assert pool.next_answer().value >= 500
    assert score(None) < 500


@pytest.mark.parametrize("where", ["processes", "local"])
def test_what_is_dropped_has_ended_and_writes_nothing_more(where: str, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(6)]
    with open_pool(Cluster(workers=2, where=where)) as pool:
        for path in files:
            pool.submit(Call(name=path.name, function=write_later, argument=path))
        assert pool.next_answer().error is None
        pool.drop()
        written = sorted(tmp_path.iterdir())
        time.sleep(1.5)
        assert sorted(tmp_path.iterdir()) == written
        assert len(written) < len(files)


def test_a_pool_that_was_never_used_can_be_dropped_twice() -> None:
    pool = ProcessPool(2)
    pool.drop()
    pool.drop()
    assert multiprocessing.active_children() == []


WORK = """
import os, sys, tempfile
from wsi_pipeline.calls import Call
from wsi_pipeline.compute.processes import process_pool
with process_pool(1) as pool:
    pool.submit(Call(name="length", function=len, argument="four"))
    print(pool.next_answer().value, tempfile.gettempdir() == sys.argv[1])
"""


def test_a_long_name_of_the_folder_for_temporary_files_does_not_matter(tmp_path: Path) -> None:
    scratch = tmp_path / "a scratch folder of a cluster" / ("x" * 100)
    scratch.mkdir(parents=True)
    ended = subprocess.run(
        [sys.executable, "-c", WORK, str(scratch)],
        env={**environment(), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("4 True\n", "")
    assert list(scratch.iterdir()) == []
