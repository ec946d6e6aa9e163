"""In which order a run works: a large slide holds up neither the small ones nor the end."""

import heapq
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.config import TileConfig
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.stages import tiling
from wsi_pipeline.stages.cut import Begun, UnitDone
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord
from wsi_pipeline.stages.stage import SilentObserver
from wsi_pipeline.stages.tiling import TileOptions, Tiling
from wsi_pipeline.stages.units import SlideJob, UnitJob

LARGE, SMALL = 15_000, 100
"""Tiles; a tile takes one second here."""
LARGEST_UNIT = 1024


class Clockwork:
    """A pool of workers on which a call takes as many seconds as it has tiles; nothing is done."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.now_s = 0.0
        self.ended: dict[str, float] = {}
        self._under_way: list[tuple[float, int, Call]] = []
        self._numbers: Iterator[int] = iter(range(1_000_000))

    def submit(self, call: Call) -> None:
        ends_s = self.now_s + seconds(call)
        heapq.heappush(self._under_way, (ends_s, next(self._numbers), call))

    def next_answer(self) -> Answer:
        self.now_s, _, call = heapq.heappop(self._under_way)
        self.ended[call.name] = self.now_s
        return Answer(call=call, value=call.function(call.argument))

    def drop(self) -> None:
        self._under_way.clear()


def seconds(call: Call) -> float:
    if isinstance(call.argument, UnitJob):
        return call.argument.end - call.argument.first
    begins_small = call.name.startswith("begin:small")
    return SMALL if begins_small else 1


def begin(job: SlideJob) -> Begun:
    if job.source.slide_id.startswith("large"):
        return Begun(tiles=LARGE)
    return Begun(tiles=SMALL, record=done(job))


def cut(unit: UnitJob) -> UnitDone:
    return UnitDone(tiles=unit.end - unit.first, stored_bytes=1)


def done(job: SlideJob) -> SlideRecord:
    return SlideRecord(
        slide_id=job.source.slide_id, path="", status="done", values={"stored_bytes": 1}
    )


@pytest.fixture(autouse=True)
def _nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "begin_slide", begin)
    monkeypatch.setattr(tiling, "cut_unit", cut)
    monkeypatch.setattr(tiling, "finish_slide", done)


def driven(folder: Path, names: list[str], *, workers: int) -> Clockwork:
    """Return the pool after slides of these names were cut in this order."""
    pool = Clockwork(workers)
    run = RunDirectory(path=folder)
    work = Tiling(
        run=run,
        config=TileConfig(),
        options=TileOptions(),
        pool=pool,
        observer=SilentObserver(),
    )
    work.take(SlideSource(slide_id=name, path=f"/slides/{name}") for name in names)
    work.drive()
    assert {record.slide_id for record in work.outcome().records} == set(names)
    return pool


SMALLS = [f"small {number:02d}" for number in range(60)]


def test_small_slides_are_cut_beside_a_large_one_that_comes_first(tmp_path: Path) -> None:
    pool = driven(tmp_path, ["large", *SMALLS], workers=2)
    ended = [pool.ended[f"begin:{name}"] for name in SMALLS]
    assert ended[0] < 2 * SMALL
    assert max(ended) < SMALL * len(SMALLS) + 10  # as if they had one worker to themselves
    assert max(ended) < pool.ended["finish:large"]


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("first", [0, 30, 60])
def test_the_workers_end_together_wherever_the_large_slide_stands(
    workers: int, first: int, tmp_path: Path
) -> None:
    names = [*SMALLS[:first], "large", *SMALLS[first:]]
    pool = driven(tmp_path, names, workers=workers)
    ideal_s = (LARGE + SMALL * len(SMALLS)) / workers
    assert pool.now_s < ideal_s + LARGEST_UNIT


def test_a_slide_alone_has_all_workers(tmp_path: Path) -> None:
    pool = driven(tmp_path, ["large"], workers=4)
    assert pool.now_s < 1.05 * LARGE / 4


def test_one_worker_ends_a_slide_before_it_begins_the_next(tmp_path: Path) -> None:
    pool = driven(tmp_path, ["large a", "large b", "small"], workers=1)
    slides = list(dict.fromkeys(name.split(":")[1] for name in pool.ended))
    assert slides == ["large a", "large b", "small"]
    assert pool.ended["finish:large a"] < pool.ended["begin:large b"]


def test_no_more_slides_are_half_done_than_there_are_workers(tmp_path: Path) -> None:
    names = [f"large {number}" for number in range(12)]
    pool = driven(tmp_path, names, workers=4)
    spans = [(pool.ended[f"begin:{name}"], pool.ended[f"finish:{name}"]) for name in names]
    most = max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)
    assert most <= 4
