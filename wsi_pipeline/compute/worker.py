"""What every worker process is told when it starts, also one that replaces another."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker
    from distributed.diagnostics.plugin import WorkerPlugin


def worker_plugin() -> "WorkerPlugin":
    """Return a plugin that keeps OpenCV to the worker's one thread: there is a worker per core already."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class OneThread(WorkerPlugin):  # type: ignore[misc]  # Dask's classes have no types here
        name = "wsi-pipeline"

        def setup(self, worker: "Worker") -> None:  # noqa: ARG002  Dask calls it so
            import cv2

            cv2.setNumThreads(1)

    return OneThread()
