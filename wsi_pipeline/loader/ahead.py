"""Batches made ready ahead by threads: some wait for bytes while as many as there are cores decode."""

import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import TileError
from wsi_pipeline.loader.buffers import Allocate, Buffers, new_memory
from wsi_pipeline.loader.epoch import Planned
from wsi_pipeline.loader.source import Problem, RowNumbers, Source

MOST_AHEAD = 16
"""Batches; more even out nothing that a network would notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AheadConfig:
    """How many threads and how much memory there are."""

    decoding: int
    """Threads that decode at the same time."""
    waiting: int
    """Further threads, for others to read meanwhile."""
    most_bytes: int
    """Of batches that are ready or being made; one is at least."""
    allocate: Allocate = new_memory
    reuse: bool = True
    """Memory of batches is used again; not where another process may still look at it."""

    def depth(self, batch_bytes: int) -> int:
        """Return how many batches are made ahead."""
        return max(1, min(MOST_AHEAD, self.most_bytes // max(1, batch_bytes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A batch's images, and those that could not be made."""

    planned: Planned
    images: NDArray[np.uint8] = field(repr=False)
    """``(batch, side, side, 3)``."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    planned: Planned
    images: NDArray[np.uint8]
    parts: list[RowNumbers]
    futures: list[Future[list[Problem]]]


def read_ahead(
    source: Source, plans: Iterator[Planned], *, side_px: int, config: AheadConfig
) -> Generator[Made]:
    """Yield the images of planned batches, in order; ends its threads when it is closed."""
    first = next(plans, None)
    if first is None:
        return
    depth = config.depth(len(first.rows) * side_px**2 * 3)
    buffers = Buffers(most=depth + 2 if config.reuse else 0, allocate=config.allocate)
    slots = threading.Semaphore(config.decoding)
    threads = ThreadPoolExecutor(config.decoding + config.waiting, "tiles")

    def begin(planned: Planned) -> _Begun:
        images = buffers.take((len(planned.rows), side_px, side_px, 3))
        parts = source.parts(planned.rows)
        futures = [
            threads.submit(_fill, source, slots, planned.rows[part], images, part) for part in parts
        ]
        return _Begun(planned=planned, images=images, parts=parts, futures=futures)

    try:
        under_way = deque([begin(first)])
        while under_way:
            while len(under_way) <= depth and (planned := next(plans, None)) is not None:
                under_way.append(begin(planned))
            yield _made(under_way.popleft())
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _fill(
    source: Source,
    slots: threading.Semaphore,
    rows: RowNumbers,
    images: NDArray[np.uint8],
    places: RowNumbers,
) -> list[Problem]:
    fetched = source.fetch(rows)
    with slots:
        return source.decode(rows, fetched, [images[place] for place in places.tolist()])


def _made(begun: _Begun) -> Made:
    problems: list[tuple[int, TileError]] = []
    for part, future in zip(begun.parts, begun.futures, strict=True):
        problems.extend((int(part[place]), error) for place, error in future.result())
    return Made(
        planned=begun.planned, images=begun.images, problems=tuple(sorted(problems, key=_place))
    )


def _place(problem: Problem) -> int:
    return problem[0]
