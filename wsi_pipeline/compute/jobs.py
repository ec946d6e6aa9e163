"""What a batch system is given: job scripts, as text that can be read before anything is sent."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from wsi_pipeline.compute.keys import Keys, keys_in
from wsi_pipeline.compute.profile import Profile, size_in_bytes
from wsi_pipeline.errors import ConfigError

JOB_NAME = "wsi-pipeline"
DEATH_TIMEOUT_S = 60
"""A worker that finds no scheduler for so long ends its job."""

_CLUSTERS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
}
_WORKER_SETTINGS = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",  # results are a few bytes: nothing to spill
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "0.85",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.95",
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1h",
    "OMP_NUM_THREADS": "1",  # one thread a core is all that a job has cores for
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder of one cluster, seen by this machine and by all nodes, and whether keys are in it."""

    folder: Path
    encrypted: bool = True

    @property
    def keys(self) -> Keys | None:
        """Keys, where what is sent is encrypted."""
        return keys_in(self.folder) if self.encrypted else None

    @property
    def scheduler_file(self) -> Path:
        """Where workers read who the scheduler is; gone when the run has ended."""
        return self.folder / "scheduler.json"

    @property
    def logs(self) -> Path:
        """What jobs have printed; stays."""
        return self.folder.parent / "logs"

    @property
    def protocol(self) -> str:
        """How scheduler and workers talk."""
        return "tls://" if self.encrypted else "tcp://"


def jobqueue(kind: str) -> ModuleType:
    """Return dask-jobqueue; Ctrl-C means afterwards what it meant before it was imported.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    with _interrupts_kept():
        try:
            import dask_jobqueue
        except ImportError as error:
            raise ConfigError(
                f"cluster {kind}: expected the package dask-jobqueue, found none; "
                "pip install 'wsi-pipeline[hpc]'"
            ) from error
    module: ModuleType = dask_jobqueue
    return module


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def cluster_class(kind: str) -> Any:  # noqa: ANN401  its classes have no types
    """Return dask-jobqueue's class for a batch system."""
    return getattr(jobqueue(kind), _CLUSTERS[kind])


def job_script(profile: Profile, place: Place) -> str:
    """Return the script of one job, with a scheduler whose address is not known yet.

    Raises
    ------
    ConfigError
        A package that is needed is not installed.
    """
    if profile.kind == "slurm-array":
        return array_script(profile, place)
    keys = place.keys
    job = cluster_class(profile.kind).job_cls(
        scheduler=f"{place.protocol}SCHEDULER:PORT",
        name=f"{JOB_NAME}-0",
        interface=profile.interface,
        protocol=place.protocol,
        security=keys.security() if keys else None,
        **job_settings(profile, place),
    )
    return str(job.job_script())


def job_settings(profile: Profile, place: Place) -> dict[str, Any]:
    """Return what dask-jobqueue makes a job of; one process a job, or no job is ever replaced.

    (dask-jobqueue's issues 691 and 611: workers of several processes are not told from their job.)
    """
    return {
        "job_name": JOB_NAME,
        "cores": profile.cores,
        "memory": f"{size_in_bytes(profile.memory)}B",
        "processes": 1,
        "nanny": True,
        "death_timeout": DEATH_TIMEOUT_S,
        "local_directory": profile.scratch,
        "log_directory": str(place.logs),
        "python": _python(profile),
        "job_script_prologue": _prologue(profile),
        "worker_extra_args": _worker_flags(profile),
        **_settings_of_kind(profile),
    }


def _settings_of_kind(profile: Profile) -> dict[str, Any]:
    directives = list(profile.directives)
    where = {"queue": profile.queue, "walltime": profile.walltime}
    match profile.kind:
        case "slurm" | "slurm-array" | "pbs":
            return {**where, "account": profile.account, "job_extra_directives": directives}
        case "sge":  # slots and memory are sites' names to it, memory is by slot
            slots = f"-pe {profile.parallel_environment} {profile.cores}"
            slot_mib = _mebibytes(profile) // profile.cores
            return {
                **where,
                "project": profile.account,
                "resource_spec": f"h_vmem={slot_mib}M",
                "job_extra_directives": [slots, *directives],
            }
        case "lsf":  # takes hours and minutes only
            walltime = profile.walltime.rpartition(":")[0]
            return {
                "queue": profile.queue,
                "walltime": walltime,
                "project": profile.account,
                "lsf_units": profile.lsf_units,
                "job_extra_directives": directives,
            }
        case "htcondor":
            pairs = (line.partition("=") for line in directives)
            extra = {key.strip(): value.strip() for key, _, value in pairs}
            if profile.account is not None:
                extra = {"accounting_group": profile.account, **extra}
            return {"disk": f"{size_in_bytes(profile.disk)}B", "job_extra_directives": extra}


def array_script(profile: Profile, place: Place) -> str:
    """Return a job array of Dask workers: ``jobs`` at once, replaced by SLURM as they end."""
    log = f"{place.logs}/%x-%A_%a.out"
    header = [
        f"--job-name={JOB_NAME}",
        f"--array=0-{profile.size_of_array - 1}%{profile.jobs}",
        "--ntasks=1",
        f"--cpus-per-task={profile.cores}",
        f"--mem={_mebibytes(profile)}M",
        f"--time={profile.walltime}",
        f"--output={log}",
        f"--partition={profile.queue}" if profile.queue else "",
        f"--account={profile.account}" if profile.account else "",
        *profile.directives,
    ]
    lines = ["#!/usr/bin/env bash", *(f"#SBATCH {line}" for line in header if line)]
    scheduler_file = shlex.quote(str(place.scheduler_file))
    lines += [
        "",
        "# Once the run has ended, what is left of the array has nothing to do.",
        f"[ -e {scheduler_file} ] || exit 0",
        *_prologue(profile),
        f"exec {_python(profile)} -m distributed.cli.dask_worker {_array_flags(profile, place)}",
    ]
    return "\n".join(lines) + "\n"


def _array_flags(profile: Profile, place: Place) -> str:
    flags = ["--scheduler-file", shlex.quote(str(place.scheduler_file))]
    flags += ["--name", f"{JOB_NAME}-$SLURM_ARRAY_TASK_ID", "--nthreads", str(profile.cores)]
    flags += ["--memory-limit", f"{size_in_bytes(profile.memory)}B", "--nanny"]
    flags += ["--death-timeout", str(DEATH_TIMEOUT_S)]
    if profile.scratch:
        flags += ["--local-directory", profile.scratch]
    flags += _worker_flags(profile)
    if profile.interface:
        flags += ["--interface", profile.interface]
    flags += ["--protocol", place.protocol]
    return " ".join([*flags, *(place.keys.flags() if place.keys else [])])


def _worker_flags(profile: Profile) -> list[str]:
    lifetime_s, stagger_s = profile.lifetime_s
    lifetime = ["--lifetime", f"{lifetime_s}s", "--lifetime-stagger", f"{stagger_s}s"]
    return [*lifetime, "--dashboard-address", "127.0.0.1:0"]


def _prologue(profile: Profile) -> list[str]:
    return [
        *(f"export {name}={value}" for name, value in _WORKER_SETTINGS.items()),
        *(f"module load {name}" for name in profile.modules),
        *profile.prologue,
    ]


def _python(profile: Profile) -> str:
    python = profile.python or ("python" if profile.container else shlex.quote(sys.executable))
    return f"{profile.container} {python}" if profile.container else python


def _mebibytes(profile: Profile) -> int:
    return size_in_bytes(profile.memory) >> 20
