"""Dask workers in jobs of a batch system, with their scheduler in this process."""

import asyncio
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_pipeline.compute.jobs import (
    JOB_NAME,
    Place,
    cluster_class,
    job_script,
    job_settings,
)
from wsi_pipeline.compute.keys import make_keys
from wsi_pipeline.compute.preflight import check_jobs, run_sbatch
from wsi_pipeline.compute.profile import Profile
from wsi_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client, Security

_LOG = logging.getLogger(__name__)
_SHARED = "~/.wsi-pipeline"
_POLL_S = 0.5
_AGAIN_S = 60


@dataclass(slots=True)
class _Submitting:
    """What is known of the jobs of one cluster."""

    refused: list[str] = field(default_factory=list)
    has_begun: bool = False
    is_ending: bool = False


@contextmanager
def batch_client(profile: Profile) -> Iterator["Client"]:
    """Give a client of workers in jobs, one of which has come; the jobs end when it is left.

    Raises
    ------
    ConfigError
        The batch system refuses the jobs, or no worker came within ``wait_minutes``.
    """
    import distributed

    submitting = _Submitting()
    with ExitStack() as opened:
        place = opened.enter_context(_place(profile))
        check_jobs(profile, job_script(profile, place), folder=place.folder)
        security = place.keys.security() if place.keys else None
        workers = _array if profile.kind == "slurm-array" else _queue
        scheduler = opened.enter_context(workers(profile, place, security, submitting))
        client = opened.enter_context(distributed.Client(scheduler, security=security))
        _LOG.info(
            "cluster=%s jobs=%s cores=%s logs=%s",
            profile.kind,
            profile.jobs,
            profile.cores,
            place.logs,
        )
        wait_for_worker(
            client,
            seconds=60 * profile.wait_minutes,
            name=profile.kind,
            hint=f"are its jobs still waiting, or did they end at once? Their logs: {place.logs}",
            refused=lambda: submitting.refused,
        )
        submitting.has_begun = True
        yield client


def wait_for_worker(
    client: "Client",
    *,
    seconds: float,
    name: str,
    hint: str,
    refused: Callable[[], list[str]] = list,
) -> None:
    """Return when a worker has come.

    Raises
    ------
    ConfigError
        A job was refused, or none came in time.
    """
    deadline = time.monotonic() + seconds
    while not client.nthreads():
        if said := refused():
            raise ConfigError(f"cluster {name}: the job was refused: {said[0]}")
        if time.monotonic() > deadline:
            raise ConfigError(f"cluster {name}: no worker came within {seconds:.0f} s; {hint}")
        time.sleep(_POLL_S)


@contextmanager
def _place(profile: Profile) -> Iterator[Place]:
    """Give a folder for one run's keys and scheduler file, which is removed when it is left."""
    shared = Path(profile.shared or _SHARED).expanduser()
    try:
        (shared / "logs").mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=shared.resolve()))
    except OSError as error:
        raise ConfigError(
            f"shared: expected a folder that can be written to, got {shared} ({error.strerror})"
        ) from error
    try:
        if not profile.is_loopback:
            make_keys(folder)
        yield Place(folder=folder, encrypted=not profile.is_loopback)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _host(profile: Profile) -> str:
    """Return the one address on which the scheduler listens.

    Raises
    ------
    ConfigError
        There is no such interface.
    """
    from distributed.utils import get_ip, get_ip_interface

    if profile.interface is None:
        return str(get_ip())
    try:
        return str(get_ip_interface(profile.interface))
    except ValueError as error:
        raise ConfigError(f"interface: {error}") from error


@contextmanager
def _queue(
    profile: Profile, place: Place, security: "Security | None", submitting: _Submitting
) -> Iterator[Any]:
    """Give a cluster of dask-jobqueue that replaces every job that ends.

    Adapting between equal bounds does that; scaling to a number does not.
    """
    of_kind = cluster_class(profile.kind)
    cluster = of_kind(
        job_cls=_telling(of_kind.job_cls, submitting),
        security=security,
        protocol=place.protocol,
        interface=profile.interface,
        scheduler_options={"host": _host(profile), "dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,
        **job_settings(profile, place),
    )
    with cluster:
        cluster.adapt(minimum_jobs=profile.jobs, maximum_jobs=profile.jobs)
        try:
            yield cluster
        finally:
            submitting.is_ending = True


def _telling(job_class: Any, submitting: _Submitting) -> Any:  # noqa: ANN401  Dask has no types here
    """Return a class of jobs that says why one could not be submitted; Dask only logs it.

    A job that is to replace another is tried again: dask-jobqueue would count it as there for good.
    """

    async def start(self: Any) -> None:  # noqa: ANN401
        from distributed.core import Status

        while True:
            try:
                await job_class.start(self)
            except (RuntimeError, ValueError, OSError) as error:
                submitting.refused.append(_words(error))
                if not submitting.has_begun or submitting.is_ending:
                    self.status = Status.failed
                    raise
            else:
                return
            _LOG.warning("job refused, tried again in %s s: %s", _AGAIN_S, submitting.refused[-1])
            for _ in range(_AGAIN_S):
                if not submitting.is_ending:
                    await asyncio.sleep(1)

    return type(job_class.__name__, (job_class,), {"start": start})


def _words(error: Exception) -> str:
    r"""Return what the command that submits has printed, where dask-jobqueue quotes it.

    >>> _words(RuntimeError("Exit code: 1\nstdout:\n\nstderr:\nqsub: Unknown queue\n"))
    'qsub: Unknown queue'
    """
    words = " ".join(str(error).split())
    return words.rpartition("stderr: ")[2] or words


@contextmanager
def _array(
    profile: Profile,
    place: Place,
    security: "Security | None",
    submitting: _Submitting,  # noqa: ARG001  sbatch has said so before
) -> Iterator[Any]:
    """Give a scheduler whose workers are the jobs of one array, cancelled when it is left."""
    import distributed

    with distributed.LocalCluster(
        n_workers=0,
        host=_host(profile),
        protocol=place.protocol,
        security=security,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"scheduler_file": str(place.scheduler_file)},
        silence_logs=logging.CRITICAL,
    ) as cluster:
        said = run_sbatch("--parsable", str(place.folder / "job.sh"), kind=profile.kind)
        array = said.strip().partition(";")[0]
        _LOG.info("array=%s name=%s", array, JOB_NAME)
        try:
            yield cluster
        finally:
            place.scheduler_file.unlink(missing_ok=True)
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(  # noqa: S603
                    ["scancel", array],  # noqa: S607
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
