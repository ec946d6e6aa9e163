"""A SLURM of one's own for tests: two nodes on loopback, no systemd, no control groups, no accounting."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import pytest

NODES, CORES, MEMORY_MB = 2, 4, 6000
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
DefMemPerCPU=256
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
{nodes}
PartitionName=main Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """A running SLURM."""

    folder: Path
    """Short, or its sockets' names do not fit."""

    @property
    def environment(self) -> dict[str, str]:
        """By which its commands find it."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Return what a command prints."""
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=True
        )
        return ended.stdout

    def running(self) -> list[str]:
        """Return the jobs that run, array elements as ``ARRAY_NUMBER``, for 22.05 cancels no others."""
        return self.ask("squeue", "--noheader", "--states=RUNNING", "--format=%i", "-r").split()

    def cancel(self, job: str) -> None:
        """End a job."""
        self.ask("scancel", job)


def missing_programs() -> list[str]:
    """Return which programs of SLURM and MUNGE are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextmanager
def slurm_lab() -> Iterator[Slurm]:
    """Give a SLURM; its daemons and jobs end when it is left."""
    if missing := missing_programs():
        pytest.skip(f"needs SLURM and MUNGE on this machine; missing are {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a short name
    slurm = Slurm(folder=folder)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _start(slurm, daemons)
        yield slurm
    finally:
        _stop(slurm, daemons)
        shutil.rmtree(folder, ignore_errors=True)


def _start(slurm: Slurm, daemons: "list[subprocess.Popen[bytes]]") -> None:
    folder = slurm.folder
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o600)
    (folder / "slurm.conf").write_text(_configuration(folder))
    if _version() >= (
        23,
        2,
    ):  # without control groups it wants to be told so, before it knows no word
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("ab") as said:
            environment = {**slurm.environment, "PATH": _path()}
            daemons.append(subprocess.Popen(command, stdout=said, stderr=said, env=environment))

    names = {
        "key-file": "key",
        "socket": "socket",
        "pid-file": "pid",
        "log-file": "log",
        "seed-file": "seed",
    }
    start(
        "munged", "--foreground", *(f"--{flag}={folder}/munge.{end}" for flag, end in names.items())
    )
    _wait_for(folder, (folder / "munge.socket").exists)
    start("slurmctld", "-D", "-c")
    _wait_for(folder, lambda: "UP" in slurm.ask("scontrol", "ping"))
    for number in range(1, NODES + 1):
        start("slurmd", "-D", "-N", f"n{number}")
    _wait_for(
        folder, lambda: slurm.ask("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * NODES
    )


def _configuration(folder: Path) -> str:
    port = 20000 + secrets.randbelow(12000)
    host = gethostname().partition(".")[0]
    node = (
        "NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} Boards=1 "
        "SocketsPerBoard=1 CoresPerSocket={cores} ThreadsPerCore=1 RealMemory={memory} State=UNKNOWN"
    )
    nodes = [
        node.format(number=number, host=host, port=port + number, cores=CORES, memory=MEMORY_MB)
        for number in range(1, NODES + 1)
    ]
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
    return _CONFIGURATION.format(
        folder=folder, host=host, port=port, user=user, nodes="\n".join(nodes), count=NODES
    )


def _version() -> tuple[int, int]:
    said = subprocess.run(
        ["slurmd", "-V"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": _path()},
    ).stdout
    year, month = said.split()[-1].split(".")[:2]
    return int(year), int(month)


def _wait_for(folder: Path, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except subprocess.CalledProcessError:
            pass
        time.sleep(0.1)
    logs = sorted([*folder.glob("*.out"), *folder.glob("*.log")])
    said = "\n".join(f"{log.name}: {log.read_text()[-600:]}" for log in logs)
    raise RuntimeError(f"SLURM did not start:\n{said}")


def _stop(slurm: Slurm, daemons: "list[subprocess.Popen[bytes]]") -> None:
    try:
        jobs = slurm.ask("squeue", "--noheader", "--format=%F").split()
        if jobs:
            slurm.ask("scancel", *sorted(set(jobs)))
            _wait_for(slurm.folder, lambda: not slurm.running())
    except (subprocess.SubprocessError, RuntimeError):
        pass  # it never started, or its nodes are gone
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in reversed(daemons):
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _path() -> str:
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
