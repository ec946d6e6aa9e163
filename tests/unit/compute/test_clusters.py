"""Schedulers that run already, and batch systems that refuse or never start a job; none is installed."""

import asyncio
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed.scheduler import NoWorkerError

from wsi_pipeline.calls import Call, run_all
from wsi_pipeline.compute import batch
from wsi_pipeline.compute import cluster as clusters
from wsi_pipeline.compute.cluster import Cluster, open_pool
from wsi_pipeline.compute.keys import Keys, make_keys
from wsi_pipeline.compute.pool import DaskPool
from wsi_pipeline.compute.profile import Profile
from wsi_pipeline.config import BATCH_KINDS
from wsi_pipeline.errors import ConfigError, PipelineError


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_a_running_scheduler_is_found_by_its_file(tmp_path: Path, *, encrypted: bool) -> None:
    keys = make_keys(tmp_path) if encrypted else None
    with running_scheduler(tmp_path, keys=keys) as path:
        if encrypted:
            with pytest.raises(ConfigError, match=r"scheduler\.json: no scheduler answers"):
                doubled(path)
        with dask.config.set(client_keys(keys) if keys else {}):
            assert doubled(path) == list(range(0, 20, 2))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tls://127.0.0.1:1", "morse://sos"])
def test_a_scheduler_that_does_not_answer_leaves_no_client_behind(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dask.config.config["distributed"]["comm"]["timeouts"], "connect", "1s")
    before = event_loops()
    with pytest.raises(ConfigError, match="no scheduler answers"):
        doubled(address)
    assert event_loops() == before


def test_a_scheduler_without_workers_is_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_WORKER_WAIT_S", 0.2)
    with (
        running_scheduler(tmp_path, workers=0) as path,
        pytest.raises(
            ConfigError, match=r"no worker came within 0 s; start some with: dask worker"
        ),
    ):
        doubled(path)


def test_a_run_ends_when_its_workers_have_been_gone_for_too_long() -> None:
    class Future:
        key = "unit"

        def result(self) -> None:
            raise NoWorkerError("unit", 1800)

        def release(self) -> None: ...

    pool = DaskPool(lambda: None, slots=1)

    class Completed(list[Future]):
        def has_ready(self) -> bool:
            return True

        def __next__(self) -> Future:
            return self.pop()

    pool._client, pool._completed = object(), Completed([Future()])
    pool._calls["unit"] = Call(name="unit", function=abs, argument=0)
    with pytest.raises(PipelineError, match="no workers for too long; have all its jobs ended"):
        pool.next_answer()


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "{"])
def test_what_is_no_scheduler_file_is_refused_by_name(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "scheduler.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"scheduler\.json: expected the file that 'dask scheduler"
    ):
        doubled(path)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_a_batch_system_that_is_not_here_is_said_not_to_be(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"cluster {kind}: expected the command \w+, found none"):
        doubled(profile(tmp_path, kind))


@pytest.mark.parametrize("kind", ["slurm", "slurm-array"])
def test_slurm_is_asked_before_anything_waits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, monkeypatch, "sbatch", "echo 'sbatch: error: no such account: x' >&2; exit 1")
    with pytest.raises(ConfigError) as caught:
        doubled(profile(tmp_path, kind))
    assert str(caught.value) == (
        f"cluster {kind}: SLURM refuses the job: no such account: x; "
        "change queue, account, walltime, cores or memory of the profile"
    )


def test_a_job_that_replaces_another_is_tried_again_when_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "_AGAIN_S", 0)

    class Job:
        tried = 0

        async def start(self) -> None:
            self.tried += 1
            if self.tried < 3:
                raise RuntimeError("stderr:\nno more jobs today")

    submitting = batch._Submitting(has_begun=True)
    job = batch._telling(Job, submitting)()
    asyncio.run(job.start())
    assert (job.tried, submitting.refused) == (3, ["no more jobs today"] * 2)


def test_what_another_batch_system_refuses_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, monkeypatch, "qsub", "echo 'qsub: Unknown queue' >&2; exit 170")
    with pytest.raises(ConfigError, match="cluster pbs: the job was refused: qsub: Unknown queue"):
        doubled(profile(tmp_path, "pbs"))


@pytest.mark.parametrize(
    ("kind", "submit", "cancel"),
    [("slurm-array", "sbatch", "scancel"), ("slurm", "sbatch", "scancel"), ("pbs", "qsub", "qdel")],
)
def test_jobs_that_never_start_are_said_not_to_and_cancelled(
    kind: str, submit: str, cancel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, monkeypatch, submit, "echo 4711")
    command(tmp_path, monkeypatch, cancel, f"echo $@ >> {tmp_path}/cancelled")
    with pytest.raises(
        ConfigError, match=rf"cluster {kind}: no worker came within 1 s; are its jobs"
    ):
        doubled(profile(tmp_path, kind, "wait_minutes: 0.02"))
    assert (tmp_path / "cancelled").read_text().split() == ["4711"]


def test_nothing_but_logs_is_left_where_all_nodes_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, monkeypatch, "sbatch", "exit 1")
    with pytest.raises(ConfigError, match="it does not say why"):
        doubled(profile(tmp_path, "slurm", interface=None))
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["logs"]


def test_a_shared_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").touch()
    with pytest.raises(ConfigError, match="shared: expected a folder that can be written to"):
        doubled(profile(tmp_path, "slurm"))


def test_keys_are_for_this_user_only(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    for path in (keys.key, keys.certificate):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_cryptography_nothing_listens_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match="expected the package cryptography"):
        doubled(profile(tmp_path, "slurm", interface=None))


def test_only_loopback_goes_unencrypted() -> None:
    assert Profile(kind="slurm", interface="lo").is_loopback
    assert not Profile(kind="slurm", interface="ib0").is_loopback
    assert not Profile(kind="slurm").is_loopback


def profile(folder: Path, kind: str, *lines: str, interface: str | None = "lo") -> Path:
    path = folder / "profile.yaml"
    listening = [f"interface: {interface}"] if interface else []
    text = [f"kind: {kind}", "cores: 1", f"shared: {folder}/shared", *listening, *lines]
    path.write_text("\n".join(text))
    return path


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(f"#!/bin/bash\n{body}\n")
    (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


def doubled(where: Path | str) -> list[int]:
    with open_pool(Cluster(workers=1, where=str(where))) as pool:
        calls = (Call(name="double", function=abs, argument=-2 * number) for number in range(10))
        return sorted(answer.value for answer in run_all(pool, calls))


def event_loops() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "IO loop"}


def client_keys(keys: Keys) -> dict[str, object]:
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": str(keys.certificate),
        "distributed.comm.tls.client.cert": str(keys.certificate),
        "distributed.comm.tls.client.key": str(keys.key),
    }


@contextmanager
def running_scheduler(
    folder: Path, *, keys: Keys | None = None, workers: int = 1
) -> Iterator[Path]:
    """Give the file of a scheduler on loopback that was started by somebody else."""
    path = folder / "scheduler.json"
    common = ["--scheduler-file", str(path), "--dashboard-address", "127.0.0.1:0"]
    common += ["--host", "127.0.0.1", "--protocol", "tls" if keys else "tcp"]
    common += keys.flags() if keys else []
    lines = [["distributed.cli.dask_scheduler", "--port", "0", *common]]
    lines += workers * [["distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *common]]
    started = []
    for line in lines:
        started.append(subprocess.Popen([sys.executable, "-m", *line], stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    try:
        yield path
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()
