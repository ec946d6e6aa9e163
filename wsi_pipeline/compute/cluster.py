"""Which workers carry a run out: processes here, Dask workers here, or those of a running scheduler."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_pipeline.calls import Pool, SerialPool
from wsi_pipeline.compute.pool import DaskPool
from wsi_pipeline.compute.processes import interrupts_held, process_pool, start_server
from wsi_pipeline.compute.worker import DEATHS_ALLOWED, settle_in, worker_plugin
from wsi_pipeline.config import BATCH_KINDS
from wsi_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

PROCESSES, LOCAL = "processes", "local"

_LOG = logging.getLogger(__name__)
_WORKER_WAIT_S = 300
"""How long a running scheduler may be without any worker."""
_NO_WORKERS_MINUTES = 30
"""The same once the work has begun: all workers of a batch system may be waiting to be replaced."""

_NO_PAGES = "has no pages without bokeh: pip install 'wsi-pipeline[dashboard]'"

_SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS_ALLOWED - 1,
    "distributed.scheduler.no-workers-timeout": f"{_NO_WORKERS_MINUTES}m",
    "distributed.scheduler.work-stealing": False,  # calls are alike and wait on no other
    "distributed.scheduler.worker-saturation": 1.1,
    "distributed.worker.memory.target": False,  # results are a few bytes: nothing to spill
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.85,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.admin.tick.limit": "1h",  # a busy decoder is no reason for a warning
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which workers to use."""

    workers: int
    """Cores used, on this machine or in jobs; a running scheduler's are all used."""
    where: str = PROCESSES
    """``processes`` of this machine (one is this process itself), ``local`` for Dask workers on it, a
    scheduler's ``tcp://HOST:PORT`` or the JSON file that it writes, a batch system or a YAML profile."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")


def usable_cores() -> int:
    """Return how many cores this process may use, which on a cluster node is less than it has."""
    return len(os.sched_getaffinity(0))


def _is_batch(where: str) -> bool:
    """Return whether this names a batch system or a file that does."""
    return where in BATCH_KINDS or where.endswith((".yaml", ".yml"))


def cluster_of(where: str, *, workers: int | None = None) -> Cluster:
    """Return the workers that a person asks for; how many, if not said, follows from where.

    Raises
    ------
    ConfigError
        A profile cannot be read or holds what is not expected.
    """
    if not _is_batch(where):
        return Cluster(workers=workers or usable_cores(), where=where)
    from wsi_pipeline.compute.profile import read_profile

    profile = read_profile(where, slots=workers)
    return Cluster(workers=profile.jobs * profile.cores, where=where)


def open_pool(cluster: Cluster, *, preload: Sequence[str] = ()) -> AbstractContextManager[Pool]:
    """Return a pool of the cluster's workers, to be entered; they are started with the first call.

    Parameters
    ----------
    cluster
        Which workers to use.
    preload
        Modules that processes of this machine import once for all of them.
    """
    if cluster.where != PROCESSES:
        return dask_pool(cluster)
    if cluster.workers == 1:
        return this_process()
    return process_pool(cluster.workers, preload=preload)


def warm_up(cluster: Cluster, *, preload: Sequence[str]) -> None:
    """Have the processes of a cluster that is used soon import what they need while this one does."""
    if cluster.where == PROCESSES and cluster.workers > 1:
        start_server(preload)


@contextmanager
def this_process() -> Iterator[SerialPool]:
    """Give a pool that works in this process: nothing to start, and a crash ends it."""
    import cv2

    threads = cv2.getNumThreads()
    settle_in()
    try:
        yield SerialPool()
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def dask_pool(cluster: Cluster) -> Iterator[DaskPool]:
    """Give a pool of Dask workers, started with the first call; what was started here is closed.

    Workers of one's own listen on the loopback interface only, or talk encrypted.

    Raises
    ------
    ConfigError
        At the first call: no scheduler answers, or no worker comes.
    """
    with ExitStack() as started:
        yield DaskPool(
            lambda: started.enter_context(_client(cluster)),
            slots=cluster.workers,
            disconnect=started.close,
        )


@contextmanager
def _client(cluster: Cluster) -> Iterator["Client"]:
    import dask

    with dask.config.set(_SETTINGS), ExitStack() as opened:
        opened_here = cluster.where == LOCAL or _is_batch(cluster.where)
        if cluster.where == LOCAL:
            client = opened.enter_context(_local_client(cluster.workers))
        elif _is_batch(cluster.where):
            client = opened.enter_context(_batch_client(cluster))
        else:
            client = opened.enter_context(_connected(cluster.where))
        _LOG.info("dashboard=%s", _dashboard(client, is_ours=opened_here))
        _settle_workers(client, cluster.where)
        yield client


@contextmanager
def _local_client(workers: int) -> Iterator["Client"]:
    import distributed

    with interrupts_held():
        local = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    with local, distributed.Client(local) as client:
        yield client


def _dashboard(client: "Client", *, is_ours: bool) -> str:
    """Return the address of the dashboard; one that was started here listens on loopback only."""
    services = client.scheduler_info()["services"]
    if not is_ours or "dashboard" not in services:
        return str(client.dashboard_link)
    hint = "" if find_spec("bokeh") else f" ({_NO_PAGES})"
    return f"http://127.0.0.1:{services['dashboard']}/status{hint}"


@contextmanager
def _batch_client(cluster: Cluster) -> Iterator["Client"]:
    import dask

    from wsi_pipeline.compute.batch import batch_client
    from wsi_pipeline.compute.profile import read_profile

    profile = read_profile(cluster.where, slots=cluster.workers)
    minutes = max(_NO_WORKERS_MINUTES, profile.wait_minutes)
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": f"{minutes}m"}),
        batch_client(profile) as client,
    ):
        yield client


def _settle_workers(client: "Client", where: str) -> None:
    try:
        client.register_plugin(worker_plugin())
    except ImportError as error:
        raise ConfigError(
            f"cluster {where}: expected workers with this package, got {error}; "
            "install the same version for them"
        ) from error


@contextmanager
def _connected(where: str) -> Iterator["Client"]:
    from wsi_pipeline.compute.batch import wait_for_worker

    try:
        client = _answered_client(_address(where))
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise ConfigError(
            f"cluster {where}: no scheduler answers ({error}); is it running, and reachable?"
        ) from error
    with client:
        hint = "start some with: dask worker"
        wait_for_worker(client, seconds=_WORKER_WAIT_S, name=where, hint=hint)
        yield client


def _answered_client(address: str) -> "Client":
    """Return a client that its scheduler has answered; one that got no answer leaves nothing behind.

    distributed leaves a client open whose start has failed. Its finalizer takes the lock that every
    start of an event loop holds, so if it is collected while the next client starts, that one waits
    for itself.
    """
    import distributed

    class _ClosedOnFailure(distributed.Client):  # type: ignore[misc]
        def start(self, **options: object) -> None:
            try:
                super().start(**options)
            except BaseException:
                self.close()
                self._loop_runner.stop()
                raise

    return _ClosedOnFailure(address, timeout=10)


def _address(where: str) -> str:
    """Return a scheduler's address, as it is given or from the file that the scheduler has written."""
    if not where.endswith(".json"):
        return where
    try:
        return str(json.loads(Path(where).expanduser().read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"cluster {where}: expected the file that 'dask scheduler --scheduler-file' writes, "
            f"got {type(error).__name__} ({error}); is the scheduler running?"
        ) from error
