"""Whole clusters without a batch system: commands that stand in for one run each job as a process here."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from distributed import get_worker

from wsi_pipeline.calls import Call, run_all
from wsi_pipeline.compute.cluster import Cluster, open_pool

_START = 'setsid bash "$job" > "$job.log" 2>&1 < /dev/null & echo "Job $!"'
_OF_FILE = f'job=$(mktemp); cp "${{@: -1}}" "$job"; {_START}'
COMMANDS = {
    "sbatch": f'[ "$1" = --test-only ] && exit 0\n{_OF_FILE} | sed "s/Job //"',
    "qsub": _OF_FILE,
    "bsub": f'job=$(mktemp); cat > "$job"; {_START}',
    "scancel": 'kill -- "-$1"',
    "qdel": 'kill -- "-$1"',
    "bkill": 'kill -- "-$1"',
}


@pytest.mark.parametrize(
    ("kind", "interface"),
    [("slurm", "lo"), ("slurm-array", None), ("pbs", "lo"), ("sge", "lo"), ("lsf", None)],
)
def test_jobs_of_every_kind_do_the_work_and_end_with_the_pool(
    kind: str, interface: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch)
    path = tmp_path / "profile.yaml"
    listening_on = f"interface: {interface}\n" if interface else ""
    path.write_text(
        f"kind: {kind}\njobs: 1\ncores: 2\nmemory: 1GB\nshared: {tmp_path}/shared\n{listening_on}"
    )
    with open_pool(Cluster(workers=2, where=str(path))) as pool:
        calls = (Call(name="look", function=look, argument=number) for number in range(6))
        answers = list(run_all(pool, calls))
        here = listening(psutil.Process())
    assert [answer.error for answer in answers] == [None] * 6
    ((pid, threads, protocol, there),) = {answer.value for answer in answers}
    assert threads == 2
    assert protocol == ("tcp" if interface else "tls")
    if interface:
        assert {*here, *there} == {"127.0.0.1"}
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(20)
    assert not psutil.pid_exists(pid)


def look(_: int) -> tuple[int, int, str, Sequence[str]]:
    """Return what a worker sees of itself."""
    worker = get_worker()
    process = psutil.Process()
    protocol = worker.address.partition(":")[0]
    return process.pid, worker.state.nthreads, protocol, listening(process)


def listening(process: psutil.Process) -> tuple[str, ...]:
    """Return the addresses on which a process listens."""
    connections = process.net_connections(kind="tcp")
    return tuple(sorted({each.laddr.ip for each in connections if each.status == "LISTEN"}))


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = folder / "programs"
    programs.mkdir()
    for name, body in COMMANDS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(folder))
