"""Dask workers: on this machine, or a scheduler that is running already."""

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from wsi_pipeline.compute.pool import DaskPool
from wsi_pipeline.compute.worker import worker_plugin
from wsi_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

_SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,  # a call whose worker died three times is given up
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.target": False,  # results are a few bytes: nothing to spill
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.85,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.admin.tick.limit": "1h",  # a busy decoder is no reason for a warning
    # Dask has workers give freed memory back at once, and every tile's buffers are then mapped and
    # cleared anew: 2.5 times the work (docs/decisions/0004-keep-freed-memory.md).
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 28,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which workers to use."""

    workers: int
    """Cores used on this machine; with an address, as many calls are kept under way at once."""
    address: str | None = None
    """``tcp://HOST:PORT`` of a scheduler, or None for workers of one's own."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")


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
        if cluster.address is None:
            with _interrupts_held():
                local = distributed.LocalCluster(
                    n_workers=cluster.workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            client = distributed.Client(opened.enter_context(local))
        else:
            client = _connected(cluster.address)
        opened.enter_context(client)
        client.register_plugin(worker_plugin())
        yield client


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from the threads and processes that are started inside, and from them for good.

    A terminal sends it to workers too; this process alone answers it, and ends them.
    """
    resource_tracker.ensure_running()  # it lets SIGINT through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connected(address: str) -> "Client":
    import distributed

    try:
        return distributed.Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"cluster {address}: no scheduler answers ({error}); is it running, and reachable?"
        ) from error
