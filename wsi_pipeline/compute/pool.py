"""Calls on Dask workers: bounded in flight, each result read and released, failures as answers."""

from typing import TYPE_CHECKING

from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.errors import SlideError

if TYPE_CHECKING:
    from distributed import Client

IN_FLIGHT_PER_SLOT = 2
"""One call running and one waiting on each slot: no worker idles while its answer travels."""


class DaskPool:
    """A pool (``calls.Pool``) over a Dask client."""

    def __init__(self, client: "Client", *, slots: int) -> None:
        from distributed import as_completed

        self.window = IN_FLIGHT_PER_SLOT * slots
        self._client = client
        self._calls: dict[str, Call] = {}
        self._completed = as_completed()
        self._number = 0

    def submit(self, call: Call) -> None:
        """Send a call to the scheduler."""
        self._number += 1
        key = f"{call.name}-{self._number}"
        self._calls[key] = call
        future = self._client.submit(call.function, call.argument, key=key, pure=False)
        self._completed.add(future)

    def next_answer(self) -> Answer:
        """Wait for the next call to end and let its result go."""
        from distributed.scheduler import KilledWorker

        future = next(self._completed)
        call = self._calls.pop(future.key)
        try:
            return Answer(call=call, value=future.result())
        except KilledWorker:
            error = SlideError(
                "its worker process died three times (out of memory, or a crash in a decoder); "
                "the other slides went on"
            )
            return Answer(call=call, error=error)
        except Exception as error:  # noqa: BLE001  an error is an answer, as in every pool
            return Answer(call=call, error=error)
        finally:
            future.release()
