"""One process of ``scale``: cuts slides without pixels, or reads what was written. Prints figures as JSON."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tests.benchmarks.stubs import CONFIG, StubbedPool
from wsi_pipeline.compute.cluster import Cluster, open_pool
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord
from wsi_pipeline.stages.stage import SilentObserver
from wsi_pipeline.stages.tile import tile_slides

WORKERS = 2
COLUMNS = ["slide_id", "tile", "x", "y", "laplacian_var", "background"]
"""What a person asks of every tile: where it is, and whether it is sharp and tissue."""

_KIB = 1024
_QUARTERS = (25, 50, 75, 100)


class MemorySampler(SilentObserver):
    """Notes this process's memory when a quarter, a half, three quarters and all of the slides are done."""

    def __init__(self) -> None:
        self.resident_bytes: dict[int, int] = {}
        self._slides = self._ended = 0

    def slides_found(self, count: int) -> None:
        """Keep how many there are."""
        self._slides = count

    def slide_ended(self, record: SlideRecord) -> None:
        """Count a slide."""
        if record.status != "done":
            raise RuntimeError(f"{record.slide_id}: {record.reason}")
        self._ended += 1
        for percent in _QUARTERS:
            if self._ended * 100 >= percent * self._slides:
                self.resident_bytes.setdefault(percent, _resident_bytes())


def cut_all(slides: Path, run: Path, *, where: str) -> dict[str, float]:
    """Return tasks, seconds and memory of a whole run."""
    memory = MemorySampler()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    preload = ["wsi_pipeline.run", "tests.benchmarks.stubs"]
    with open_pool(Cluster(workers=WORKERS, where=where), preload=preload) as inner:
        pool = StubbedPool(inner)
        outcome = tile_slides([str(slides)], run, CONFIG, pool=pool, observer=memory)
        wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)  # they have ended
    table = pd.read_parquet(RunDirectory(path=run).slides_table)
    return {
        "slides": len(outcome.records),
        "tiles": outcome.tiles,
        "begun": pool.begun,
        "units": pool.cut,
        "tasks": pool.begun + pool.cut + pool.finished,
        "wall_s": wall_s,
        "client_cpu_s": cpu_s,
        "workers_cpu_s": workers.ru_utime + workers.ru_stime,
        **{
            f"{step}_s": float(table[f"seconds_{step}"].sum()) for step in ("open", "mask", "write")
        },
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
        **{f"resident_{at}": value for at, value in memory.resident_bytes.items()},
    }


def read_all(run: Path) -> dict[str, float]:
    """Return seconds of reading six columns of every tile, and of one slide by both ways."""
    manifests = RunDirectory(path=run).manifests
    one = sorted(manifests.glob("*.parquet"))[len(list(manifests.iterdir())) // 2]
    only = [("slide_id", "==", one.stem)]
    pd.read_parquet(one, columns=COLUMNS)  # so that nothing has to be imported any more
    file_s, of_file = _timed(lambda: pd.read_parquet(one, columns=COLUMNS))
    filtered_s, filtered = _timed(lambda: pd.read_parquet(manifests, columns=COLUMNS, filters=only))
    all_s, everything = _timed(lambda: pd.read_parquet(manifests, columns=COLUMNS))
    return {
        "file_s": file_s,
        "filtered_s": filtered_s,
        "all_s": all_s,
        "file_rows": len(of_file),
        "filtered_rows": len(filtered),
        "rows": len(everything),
        "bytes": sum(path.stat().st_size for path in manifests.iterdir()),
    }


def _timed(read: Callable[[], pd.DataFrame]) -> tuple[float, pd.DataFrame]:
    start_s = time.perf_counter()
    frame = read()
    return time.perf_counter() - start_s, frame


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print figures."""
    what, *words = sys.argv[1:]
    paths = [Path(word) for word in words[:2]]
    figures = read_all(*paths) if what == "read" else cut_all(*paths, where=words[2])
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
