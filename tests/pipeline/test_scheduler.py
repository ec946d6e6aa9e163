"""Somebody else's Dask scheduler that loses its workers, or is lost itself, in the middle of a run."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline.runs import CONFIG, Drawn, assert_same_run, environment
from wsi_pipeline.compute import cluster as clusters
from wsi_pipeline.compute import pool
from wsi_pipeline.compute.cluster import Cluster
from wsi_pipeline.errors import ConfigError, PipelineError
from wsi_pipeline.run import tile
from wsi_pipeline.stages.run_directory import SlideRecord
from wsi_pipeline.stages.stage import SilentObserver

PROCESSES = Cluster(workers=1)


@dataclass(kw_only=True)
class Foreign:
    """A scheduler on loopback, and the worker that it has."""

    file: Path
    scheduler: "subprocess.Popen[bytes]"
    worker: "subprocess.Popen[bytes]"

    @property
    def cluster(self) -> Cluster:
        """How a run is given it."""
        return Cluster(workers=1, where=str(self.file))

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """Start another worker."""
        return _started("dask_worker", self.file, "--nthreads", "1", "--no-nanny")


def _started(name: str, file: Path, *flags: str) -> "subprocess.Popen[bytes]":
    line = [sys.executable, "-m", f"distributed.cli.{name}", "--scheduler-file", str(file)]
    line += ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", *flags]
    return subprocess.Popen(line, stderr=subprocess.DEVNULL, env=environment())


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Foreign]:
    """A scheduler with one worker; a run looks after its workers twice a second."""
    monkeypatch.setattr(pool, "_COUNT_EVERY_S", 0.5)
    file = tmp_path / "scheduler.json"
    scheduler = _started("dask_scheduler", file, "--port", "0")
    while not file.exists():
        assert scheduler.poll() is None
        time.sleep(0.05)
    given = Foreign(file=file, scheduler=scheduler, worker=scheduler)
    given.worker = given.start_worker()
    yield given
    for each in (given.worker, given.scheduler):
        each.kill()
        each.wait()


class AfterTheFirst(SilentObserver):
    """Has something happen when the first slide has ended."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens, self.ended = happens, 0

    def slide_ended(self, record: SlideRecord) -> None:
        super().slide_ended(record)
        self.ended += 1
        if self.ended == 1:
            self._happens()


def patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setitem(
        clusters._SETTINGS, "distributed.scheduler.no-workers-timeout", f"{seconds}s"
    )


def test_a_run_whose_workers_are_all_gone_ends_when_its_patience_does_and_goes_on_elsewhere(
    drawn: Drawn,
    undisturbed: Path,
    foreign: Foreign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patience(monkeypatch, 2)
    observer = AfterTheFirst(foreign.worker.kill)
    slides, run = [str(drawn.folder)], tmp_path / "RUN"
    began_s = time.monotonic()
    with pytest.raises(PipelineError, match="has had no workers for too long") as caught:
        tile(slides, run, CONFIG, cluster=foreign.cluster, observer=observer)
    assert not isinstance(caught.value, ConfigError)
    assert time.monotonic() - began_s < 30
    assert 1 <= observer.ended < 4
    tile(slides, run, CONFIG, cluster=PROCESSES)
    assert_same_run(run, undisturbed)


def test_a_run_goes_on_when_another_worker_comes_in_time(
    drawn: Drawn,
    undisturbed: Path,
    foreign: Foreign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def replaced() -> None:
        foreign.worker.kill()
        foreign.worker.wait()
        foreign.worker = foreign.start_worker()

    patience(monkeypatch, 60)
    run = tmp_path / "RUN"
    tile(
        [str(drawn.folder)],
        run,
        CONFIG,
        cluster=foreign.cluster,
        observer=AfterTheFirst(replaced),
    )
    assert_same_run(run, undisturbed)


def test_a_run_whose_scheduler_is_killed_says_so_and_the_same_command_goes_on(
    drawn: Drawn, undisturbed: Path, foreign: Foreign, tmp_path: Path
) -> None:
    slides, run = [str(drawn.folder)], tmp_path / "RUN"
    began_s = time.monotonic()
    observer = AfterTheFirst(foreign.scheduler.kill)
    with pytest.raises(PipelineError, match="the connection to the scheduler was lost"):
        tile(slides, run, CONFIG, cluster=foreign.cluster, observer=observer)
    assert time.monotonic() - began_s < 90
    tile(slides, run, CONFIG, cluster=PROCESSES)
    assert_same_run(run, undisturbed)
