"""Batches made ahead: in order, within bounds, with further threads only where waiting is worth while."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.loader.ahead import AheadConfig, Made, Turns, read_ahead
from wsi_pipeline.loader.epoch import Planned
from wsi_pipeline.loader.source import Problem, RowNumbers

SIDE = 4


class Clockwork:
    """Tiles that show their own row, after so long; counts who is at work."""

    tile_size = SIDE

    def __init__(self, *, wait_s: float = 0.0, work_s: float = 0.0, bad: int = -1) -> None:
        self.wait_s, self.work_s, self.bad = wait_s, work_s, bad
        self.most_waiting = self.most_working = 0
        self._waiting = self._working = 0
        self._lock = threading.Lock()

    def parts(self, rows: RowNumbers) -> list[RowNumbers]:
        return np.array_split(np.arange(len(rows)), max(1, len(rows) // 2))

    def fetch(self, rows: RowNumbers) -> list[Any]:
        with self._lock:
            self._waiting += 1
            self.most_waiting = max(self.most_waiting, self._waiting)
        time.sleep(self.wait_s)
        with self._lock:
            self._waiting -= 1
        return list(rows.tolist())

    def decode(self, rows: RowNumbers, fetched: list[Any], out: Sequence[Rgb]) -> list[Problem]:
        with self._lock:
            self._working += 1
            self.most_working = max(self.most_working, self._working)
        time.sleep(self.work_s)
        assert fetched == rows.tolist()
        for row, image in zip(fetched, out, strict=True):
            image[:] = row % 256
        with self._lock:
            self._working -= 1
        return [
            (place, TileError(f"row {row}")) for place, row in enumerate(fetched) if row == self.bad
        ]


def plans(batches: int, size: int = 8) -> Iterator[Planned]:
    for number in range(batches):
        yield Planned(
            number=number,
            rows=np.arange(size) + number * size,
            is_tile=np.ones(size, np.bool_),
            turns=np.zeros(size, np.int64),
        )


def config(**given: Any) -> AheadConfig:  # noqa: ANN401
    usual = {"decoding": 2, "waiting": 6, "waits": False, "most_bytes": 8 * 3 * SIDE**2 * 3}
    return AheadConfig(**{**usual, **given})


def made(source: Clockwork, batches: int = 12, **given: Any) -> list[Made]:  # noqa: ANN401
    return list(read_ahead(source, plans(batches), side_px=SIDE, config=config(**given)))


@pytest.mark.parametrize("waits", [False, True])
def test_batches_come_in_order_with_their_own_images(waits: bool) -> None:  # noqa: FBT001
    found = made(Clockwork(wait_s=0.001), waits=waits)
    assert [each.planned.number for each in found] == list(range(12))
    for each in found:
        assert each.images[:, 0, 0, 0].tolist() == (each.planned.rows % 256).tolist()
        assert each.problems == ()


def test_no_more_threads_decode_than_asked_for() -> None:
    source = Clockwork(wait_s=0.002, work_s=0.002)
    made(source, batches=20, waits=True, most_bytes=1 << 20)
    assert source.most_working == 2
    assert source.most_waiting > 2


def free(turns: Turns) -> int:
    """Return how many threads may begin to read, and let none of them."""
    count = 0
    while turns.reading.acquire(blocking=False):
        count += 1
    turns.reading.release(count)
    return count


def test_further_threads_read_only_where_waiting_takes_long() -> None:
    turns = Turns(config(decoding=2, waiting=6))
    for _ in range(1000):
        turns.took(0.4, 1.0)
    assert free(turns) == 2
    turns = Turns(config(decoding=2, waiting=6))
    for part in range(1, 100):
        turns.took(0.6, 1.0)
        assert free(turns) == 2 + min(6, part // 8)
    assert free(Turns(config(decoding=2, waiting=6, waits=True))) == 8


def test_only_so_many_batches_are_begun_as_memory_allows() -> None:
    begun: list[int] = []

    def watched() -> Iterator[Planned]:
        for planned in plans(20):
            begun.append(planned.number)
            yield planned

    ahead = read_ahead(Clockwork(), watched(), side_px=SIDE, config=config())
    for number in range(5):
        assert next(ahead).planned.number == number
        assert max(begun) <= number + 3  # memory for three batches
    ahead.close()


def test_one_batch_is_made_ahead_even_without_memory() -> None:
    assert len(made(Clockwork(), most_bytes=0)) == 12


def test_a_problem_is_told_with_its_place_in_the_batch() -> None:
    found = made(Clockwork(bad=21))
    assert [
        (each.planned.number, [place for place, _ in each.problems])
        for each in found
        if each.problems
    ] == [(2, [5])]


def test_an_error_that_nobody_expects_ends_it_and_its_threads() -> None:
    source = Clockwork()
    source.work_s = -1.0  # time.sleep refuses it
    before = threading.active_count()
    with pytest.raises(ValueError, match="sleep length"):
        made(source)
    assert threading.active_count() == before
    assert made(Clockwork(), batches=0) == []
