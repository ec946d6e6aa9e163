"""Batches made ready ahead by threads: some wait for bytes while as many as there are cores decode."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import TileError
from wsi_pipeline.loader.buffers import Buffers
from wsi_pipeline.loader.epoch import Planned
from wsi_pipeline.loader.source import Problem, RowNumbers, Source

_Work = TypeVar("_Work")

_JUDGED_PARTS = 8
"""Parts after which it is judged whether waiting takes long."""

MOST_AHEAD = 16
"""Batches; more even out nothing that a network would notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AheadConfig:
    """How many threads and how much memory there are."""

    decoding: int
    """Threads that decode at the same time."""
    waiting: int
    """Further threads at the most, for others to read meanwhile."""
    waits: bool
    """They all begin at once, as for an object store; else one by one, while waiting for bytes takes long."""
    most_bytes: int
    """Of batches that are ready or being made; one is at least."""
    buffers: Buffers = field(default_factory=Buffers)
    """Memory of batches that is used again."""
    reuse: bool = True
    """Not where another process may still look at it."""

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


class Turns:
    """How many threads read, and how many of them decode, at the same time.

    From the page cache a thread has its bytes at once, and further threads only get in the way of those that
    decode: a fifth of the rate at 256 px. They are let in once waiting takes half as long as decoding.
    """

    def __init__(self, config: AheadConfig) -> None:
        begin = config.decoding + (config.waiting if config.waits else 0)
        self.reading = threading.Semaphore(begin)
        self.decoding = threading.Semaphore(config.decoding)
        self._further = config.decoding + config.waiting - begin
        self._parts = 0
        self._waited_s = self._decoded_s = 0.0

    def took(self, waited_s: float, decoded_s: float) -> None:
        """Count what a part took, and let in another thread where that is worth while."""
        self._parts += 1
        self._waited_s += waited_s
        self._decoded_s += decoded_s
        if self._further and self._parts >= _JUDGED_PARTS and 2 * self._waited_s > self._decoded_s:
            self._further -= 1
            self._parts, self._waited_s, self._decoded_s = 0, 0.0, 0.0
            self.reading.release()


def read_ahead(
    source: Source, plans: Iterator[Planned], *, side_px: int, config: AheadConfig
) -> Generator[Made]:
    """Yield the images of planned batches, in order; ends its threads when it is closed."""
    first = next(plans, None)
    if first is None:
        return
    depth = config.depth(len(first.rows) * side_px**2 * 3)
    most = depth + 2 if config.reuse else 0
    turns = Turns(config)
    threads = ThreadPoolExecutor(config.decoding + config.waiting, "tiles")

    def begin(planned: Planned) -> _Begun:
        shape = (len(planned.rows), side_px, side_px, 3)
        images = config.buffers.take(shape, most=most)
        parts = source.parts(planned.rows)
        futures = [
            threads.submit(_fill, source, turns, planned.rows[part], images, part) for part in parts
        ]
        return _Begun(planned=planned, images=images, parts=parts, futures=futures)

    try:
        for begun in begun_ahead(chain([first], plans), begin, depth=depth):
            yield _made(begun)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def begun_ahead(
    plans: Iterator[Planned], begin: Callable[[Planned], _Work], *, depth: int
) -> Iterator[_Work]:
    """Yield what is begun of each plan, in order, when ``depth`` further ones have begun."""
    under_way: deque[_Work] = deque()
    for planned in plans:
        under_way.append(begin(planned))
        if len(under_way) > depth:
            yield under_way.popleft()
    while under_way:
        yield under_way.popleft()


def _fill(
    source: Source,
    turns: Turns,
    rows: RowNumbers,
    images: NDArray[np.uint8],
    places: RowNumbers,
) -> list[Problem]:
    with turns.reading:
        begun_s = time.perf_counter()
        fetched = source.fetch(rows)
        waited_s = time.perf_counter() - begun_s
        with turns.decoding:
            begun_s = time.perf_counter()
            problems = source.decode(rows, fetched, [images[place] for place in places.tolist()])
            turns.took(waited_s, time.perf_counter() - begun_s)
    return problems


def _made(begun: _Begun) -> Made:
    problems: list[tuple[int, TileError]] = []
    for part, future in zip(begun.parts, begun.futures, strict=True):
        problems.extend((int(part[place]), error) for place, error in future.result())
    return Made(
        planned=begun.planned, images=begun.images, problems=tuple(sorted(problems, key=_place))
    )


def _place(problem: Problem) -> int:
    return problem[0]
