"""What every worker process does first, also one that replaces another, and when it is given up."""

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker
    from distributed.diagnostics.plugin import WorkerPlugin

DEATHS_ALLOWED = 3
"""A call that has killed this many processes is given up."""

DIED = (
    f"its worker process died {DEATHS_ALLOWED} times (out of memory, or a crash in a decoder); "
    "the other slides went on"
)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of the GNU C library
_KEEP_BYTES, _MAP_BYTES = 1 << 30, 1 << 28


def settle_in(*, threads: int = 1) -> None:
    """Keep OpenCV to one thread, for there is a worker per core, and keep freed memory.

    Else every tile's buffers are mapped and cleared anew, at Dask's settings for 2.5 times the work
    (docs/decisions/0004-keep-freed-memory.md).
    """
    import cv2

    cv2.setNumThreads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, threads)  # those that work at once
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAP_BYTES)


def worker_plugin() -> "WorkerPlugin":
    """Return a Dask plugin by which every worker settles in."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class SettleIn(WorkerPlugin):  # type: ignore[misc]  # Dask's classes have no types here
        name = "wsi-pipeline"

        def setup(self, worker: "Worker") -> None:
            settle_in(threads=worker.state.nthreads)

    return SettleIn()
