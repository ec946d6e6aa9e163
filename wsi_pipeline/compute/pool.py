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
        self._connect, self._disconnect = connect, disconnect
        self._client: Client | None = None
        self._completed: as_completed | None = None
        self._calls: dict[str, Call] = {}
        self._suspects: deque[Call] = deque()
        self._number = 0

    @property
    def window(self) -> int:
        """How many calls are worth having under way: more where more threads have come than expected."""
        now_s = time.monotonic()
        if self._client is not None and now_s - self._counted_s > _COUNT_EVERY_S:
            self._counted_s = now_s
            self._slots = max(self._slots, sum(self._client.nthreads().values()))
        return IN_FLIGHT_PER_SLOT * self._slots

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

        _, completed = self._started()
        while True:
            alone = not self._calls
            if alone:
                self.submit(self._suspects.popleft())
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
