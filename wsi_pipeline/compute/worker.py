"""What every worker process is told when it starts, also one that replaces another."""

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker
    from distributed.diagnostics.plugin import WorkerPlugin


def worker_plugin() -> "WorkerPlugin":
    """Return a plugin that keeps a worker to one thread and leaves Ctrl-C to the process that drives it."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class OneThread(WorkerPlugin):  # type: ignore[misc]  # Dask's classes have no types here
        name = "wsi-pipeline"

        def setup(self, worker: "Worker") -> None:  # noqa: ARG002  Dask calls it so
            import cv2

            cv2.setNumThreads(1)
            with suppress(ValueError):  # only the main thread of a process may say so
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return OneThread()
