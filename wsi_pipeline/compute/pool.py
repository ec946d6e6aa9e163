"""Calls on Dask workers: bounded in flight, each result read and released, failures as answers."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.compute.worker import DIED
from wsi_pipeline.errors import PipelineError, SlideError

if TYPE_CHECKING:
    from distributed import Client, as_completed

IN_FLIGHT_PER_SLOT = 2
"""One call running and one waiting on each slot: no worker idles while its answer travels."""

_COUNT_EVERY_S = 10.0
_NO_SCHEDULER = (
    "cluster: the connection to the scheduler was lost; what is finished is kept, "
    "and the same command goes on"
)
_NO_WORKERS = (
    "the cluster has had no workers for too long; have all its jobs ended? What is finished is kept, "
    "and the same command goes on"
)


class DaskPool:
    """A pool (``calls.Pool``) over a Dask client, which is connected when the first call comes."""

    def __init__(
        self,
        connect: Callable[[], "Client"],
        *,
        slots: int,
        disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        """Take how to connect, how many threads to expect, and how to let go again."""
        self._slots = slots
        self._counted_s = -_COUNT_EVERY_S
        self._manned_s = time.monotonic()
        self._connect, self._disconnect = connect, disconnect
        self._client: Client | None = None
        self._completed: as_completed | None = None
        self._calls: dict[str, Call] = {}
        self._suspects: deque[Call] = deque()
        self._number = 0

    @property
    def window(self) -> int:
        """How many calls are worth having under way: more where more threads have come than expected."""
        if self._client is not None:
            self._count_workers(self._client)
        return IN_FLIGHT_PER_SLOT * self._slots

    def _count_workers(self, client: "Client") -> None:
        """Look now and then who works, and end the run where nobody has for too long.

        Somebody else's scheduler would wait for ever: its own settings say so.
        """
        now_s = time.monotonic()
        if now_s - self._counted_s < _COUNT_EVERY_S:
            return
        self._counted_s = now_s
        try:
            threads = sum(client.nthreads().values())
        except (OSError, TimeoutError):  # if the scheduler is lost, the calls under way will say so
            return
        self._slots = max(self._slots, threads)
        if threads or not self._calls:
            self._manned_s = now_s
        elif now_s - self._manned_s > _patience_s():
            raise PipelineError(_NO_WORKERS)

    def submit(self, call: Call) -> None:
        """Send a call to the scheduler."""
        client, completed = self._started()
        self._number += 1
        key = f"{call.name}-{self._number}"
        self._calls[key] = call
        completed.add(client.submit(call.function, call.argument, key=key, pure=False))

    def drop(self) -> None:
        """Let go of the scheduler: what waits is dropped, and what runs on workers started for this run.

        A unit that runs on a worker of somebody else's scheduler runs on to its end: nothing can stop it.
        """
        self._calls.clear()
        self._suspects.clear()
        self._disconnect()

    def _started(self) -> tuple["Client", "as_completed"]:
        if self._client is None or self._completed is None:
            from distributed import as_completed

            self._client, self._completed = self._connect(), as_completed()
        return self._client, self._completed

    def next_answer(self) -> Answer:
        """Wait for the next call to end and let its result go.

        A worker that dies takes along the calls that waited on it. Each of them is tried once more,
        alone, so that only the one that kills its worker is blamed.

        Raises
        ------
        PipelineError
            There have been no workers for so long that none is expected.
        """
        from distributed.scheduler import KilledWorker, NoWorkerError

        client, completed = self._started()
        while True:
            alone = not self._calls
            if alone:
                self.submit(self._suspects.popleft())
            self._wait(client, completed)
            future = next(completed)
            call = self._calls.pop(future.key)
            try:
                return Answer(call=call, value=future.result())
            except KilledWorker:
                if alone:
                    return Answer(call=call, error=SlideError(DIED))
                self._suspects.append(call)
            except CancelledError as error:
                raise PipelineError(_NO_SCHEDULER) from error
            except NoWorkerError as error:
                raise PipelineError(_NO_WORKERS) from error
            except Exception as error:  # noqa: BLE001  an error is an answer, as in every pool
                return Answer(call=call, error=error)
            finally:
                future.release()

    def _wait(self, client: "Client", completed: "as_completed") -> None:
        while not completed.has_ready():
            self._count_workers(client)
            with completed.thread_condition:  # as as_completed itself waits
                completed.thread_condition.wait(timeout=0.1)


def _patience_s() -> float:
    """Return for how long a run may have no workers: the time that schedulers of our own are given."""
    import dask.config
    from dask.utils import parse_timedelta

    return float(parse_timedelta(dask.config.get("distributed.scheduler.no-workers-timeout")))
