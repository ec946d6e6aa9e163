"""One side of the loader benchmark in a process of its own: ``python -m tests.benchmarks.loading SIDE …``.

Prints its figures as JSON.
"""

import importlib
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np

from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.pixels import decode_jpeg

BATCH = 64
CORES = len(os.sched_getaffinity(0))


def main(side: str, place: Path, *numbers: int) -> dict[str, float]:
    """Return a side's figures."""
    cv2.setNumThreads(1)
    match side:
        case "roofline":
            return _bare(place, imagecodecs.jpeg8_decode, *numbers)
        case "own_roofline":
            return _bare(place, decode_jpeg, *numbers)
        case "ours":
            return _ours(place, *numbers)
        case "start":
            return _start(place)
        case "rate":
            return _rate(place, *numbers)
        case "epochs":
            return _epochs(place)
        case _:
            raise ValueError(
                f"side: expected roofline, own_roofline, ours, start, rate or epochs, got {side}"
            )


def _bare(place: Path, decode: Callable[[bytes], object], image_px: int) -> dict[str, float]:
    """Return what decoding alone takes: a process a core, every file's bytes in memory, nothing kept."""
    stored = [path.read_bytes() for path in sorted((place / "images" / "0").iterdir())]
    ready = multiprocessing.Barrier(CORES + 1)
    done = multiprocessing.Barrier(CORES + 1)
    workers = [
        multiprocessing.Process(
            target=_decode_all, args=(stored[part::CORES], decode, image_px, ready, done)
        )
        for part in range(CORES)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    done.wait()
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    return {"tiles_per_s": len(stored) / seconds, "cpu_ms": 1e3 * cpu / len(stored)}


def _decode_all(
    stored: list[bytes],
    decode: Callable[[bytes], object],
    image_px: int,
    ready: "multiprocessing.synchronize.Barrier",
    done: "multiprocessing.synchronize.Barrier",
) -> None:
    for data in stored[:4]:
        decode(data)
    ready.wait()
    for data in stored:
        rgb = decode(data)
        if image_px:
            cv2.resize(rgb, (image_px, image_px), interpolation=cv2.INTER_AREA)
    done.wait()


def _loader(place: Path, image_px: int, shrink: int = 1) -> TileLoader:
    run = place / "RUN" if (place / "RUN").exists() else place
    return TileLoader(run, batch_size=BATCH, image_px=image_px or None, shrink=shrink)


def _ours(place: Path, image_px: int, shrink: int) -> dict[str, float]:
    loader = _loader(place, image_px, shrink)
    _pass(loader)
    start, cpu = time.perf_counter(), time.process_time()
    tiles = _pass(loader)
    seconds = time.perf_counter() - start
    return {"tiles_per_s": tiles / seconds, "cpu_ms": 1e3 * (time.process_time() - cpu) / tiles}


def _pass(loader: TileLoader) -> int:
    return sum(int(np.count_nonzero(batch.weights)) for batch in loader)


def _start(place: Path) -> dict[str, float]:
    """Return seconds to the first batch, and memory of choosing and ordering, before any tile is read."""
    start, cpu = time.perf_counter(), time.process_time()
    importlib.import_module("pandas")  # comes with the first words that are asked; its time counts
    before = _resident_bytes()
    loader = TileLoader(place, where="split == 'train'", target="label", batch_size=256)
    epoch = loader._epoch(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    batches = iter(loader)
    next(batches)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    arrays = [loader.rows.array, loader.rows.tile, epoch.order, loader.rows.columns["label"].values]
    kept = sum(array.nbytes for array in arrays)
    return {
        "seconds": seconds,
        "cpu_s": cpu,
        "tiles": len(loader.rows),
        "order_mb": kept / 1e6,
        "peak_mb": (peak - before) / 1e6,
    }


def _rate(place: Path, tiles: int) -> dict[str, float]:
    """Return the rate of the first tiles of an epoch, after as many that are not counted."""
    loader = _loader(place, 0)
    batches = iter(loader)
    for _ in range(tiles // BATCH):
        next(batches)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(tiles // BATCH):
        next(batches)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"tiles_per_s": tiles / seconds, "cpu_ms": 1e3 * cpu / tiles}


def _epochs(place: Path) -> dict[str, float]:
    """Return resident memory after two epochs and after ten."""
    loader = _loader(place, 0)
    resident = []
    for _ in range(10):
        _pass(loader)
        resident.append(_resident_bytes())
    return {"second_mb": resident[1] / 1e6, "tenth_mb": resident[9] / 1e6}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))))  # noqa: T201
