"""Which workers carry a run out: processes here, Dask workers here, or those of a running scheduler."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsi_pipeline.calls import Pool, SerialPool
from wsi_pipeline.compute.pool import DaskPool
from wsi_pipeline.compute.processes import interrupts_held, process_pool, start_server
from wsi_pipeline.compute.worker import DEATHS_ALLOWED, settle_in, worker_plugin
from wsi_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

PROCESSES, LOCAL = "processes", "local"

_SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS_ALLOWED - 1,
    "distributed.scheduler.work-stealing": False,
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
    """Cores used on this machine; with an address, as many calls are kept under way at once."""
    where: str = PROCESSES
    """``processes`` of this machine (one is this process itself), ``local`` for Dask workers on it, or a
    scheduler's ``tcp://HOST:PORT``."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")


def usable_cores() -> int:
    """Return how many cores this process may use, which on a cluster node is less than it has."""
    return len(os.sched_getaffinity(0))


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

    Workers of one's own listen on the loopback interface only.

    Raises
    ------
    ConfigError
        At the first call: no scheduler answers at the address.
    """
    with ExitStack() as started:
        yield DaskPool(lambda: started.enter_context(_client(cluster)), slots=cluster.workers)


@contextmanager
def _client(cluster: Cluster) -> Iterator["Client"]:
    import dask
    import distributed

    with dask.config.set(_SETTINGS), ExitStack() as opened:
        if cluster.where == LOCAL:
            with interrupts_held():
                local = distributed.LocalCluster(
                    n_workers=cluster.workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            client = distributed.Client(opened.enter_context(local))
        else:
            client = _connected(cluster.where)
        opened.enter_context(client)
        client.register_plugin(worker_plugin())
        yield client


def _connected(address: str) -> "Client":
    import distributed

    try:
        return distributed.Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"cluster {address}: no scheduler answers ({error}); is it running, and reachable?"
        ) from error
