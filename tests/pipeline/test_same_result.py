"""The result does not depend on workers, on parts, or on the order of arrival."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.runs import (
    CONFIG,
    GOOD,
    Drawn,
    assert_same_run,
    assert_whole,
    good_folder,
    process,
    slides_of,
    tile,
)
from wsi_pipeline.calls import Answer, Call, Pool, SerialPool
from wsi_pipeline.compute.cluster import LOCAL, PROCESSES, Cluster, open_pool
from wsi_pipeline.config import make_config
from wsi_pipeline.slides.find import find_slides
from wsi_pipeline.stages import units
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.stage import SilentObserver
from wsi_pipeline.stages.tile import TileConfig, tile_slides
from wsi_pipeline.stages.tiling import TileOptions, Tiling

MANY = {"tile_size": 64, "overlap": 0.25, "min_tissue": 0}
FLAGS = ("--tile-size", "64", "--overlap", "0.25", "--min-tissue", "0")
DONE = ("he", "plain", "dark", "flat")


@pytest.fixture(scope="module")
def serial(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All drawn slides in this process; every slide is of more than one unit."""
    run = tmp_path_factory.mktemp("serial") / "RUN"
    outcome = tile(run, drawn.folder, config=make_config(TileConfig, MANY))
    assert all(record.tiles > units.UNIT_TILES for record in outcome.records)
    return run


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_worker_and_several_give_the_same_bytes(
    workers: str, drawn: Drawn, serial: Path, tmp_path: Path
) -> None:
    ended = process("tile", drawn.folder, "-o", tmp_path / "RUN", *FLAGS, "--workers", workers)
    assert ended.code == 0, ended.err
    assert_whole(tmp_path / "RUN", done=DONE)
    assert_same_run(tmp_path / "RUN", serial)


def test_parts_together_give_the_same_files_as_one_run(
    drawn: Drawn, serial: Path, tmp_path: Path
) -> None:
    config, run = make_config(TileConfig, MANY), tmp_path / "RUN"
    taken = []
    for part in (3, 1, 2):
        outcome = tile(run, drawn.folder, config=config, options=TileOptions(part=part, parts=3))
        taken += [record.slide_id for record in outcome.records]
    assert sorted(taken) == sorted(DONE)
    assert_whole(run, done=DONE)
    assert_same_run(run, serial)


def test_parts_in_real_processes_at_the_same_time(
    drawn: Drawn, serial: Path, tmp_path: Path
) -> None:

    def one(part: int) -> int:
        flags = (*FLAGS, "--workers", "1", "--part", f"{part}/2")
        return process("tile", drawn.folder, "-o", tmp_path / "RUN", *flags).code

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(one, (1, 2))) == [0, 0]
    assert_whole(tmp_path / "RUN", done=DONE)
    assert_same_run(tmp_path / "RUN", serial)


def test_two_jobs_that_cut_the_same_slides_do_each_other_no_harm(
    drawn: Drawn, serial: Path, tmp_path: Path
) -> None:

    def one(_: int) -> str:
        ended = process("tile", drawn.folder, "-o", tmp_path / "RUN", *FLAGS, "--workers", "1")
        return ended.err

    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(one, (1, 2)))
    assert not any("Traceback" in each for each in said)
    tile(tmp_path / "RUN", drawn.folder, config=make_config(TileConfig, MANY))
    assert_whole(tmp_path / "RUN", done=DONE)
    assert_same_run(tmp_path / "RUN", serial)


class ShufflingPool:
    """Runs calls of a window in an order of chance."""

    window = 7

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._waiting: list[Call] = []

    def submit(self, call: Call) -> None:
        self._waiting.append(call)

    def next_answer(self) -> Answer:
        call = self._waiting.pop(int(self._random.integers(len(self._waiting))))
        return Answer(call=call, value=call.function(call.argument))

    def drop(self) -> None:
        self._waiting.clear()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_arrival_changes_nothing(
    seed: int, drawn: Drawn, serial: Path, tmp_path: Path
) -> None:
    config = make_config(TileConfig, MANY)
    tile_slides([str(drawn.folder)], tmp_path / "RUN", config, pool=ShufflingPool(seed))
    assert_same_run(tmp_path / "RUN", serial)


@pytest.mark.parametrize("unit_tiles", [64, 1024])
def test_the_size_of_a_unit_changes_nothing(
    unit_tiles: int,
    drawn: Drawn,
    serial: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units, "UNIT_TILES", unit_tiles)
    tile(tmp_path / "RUN", drawn.folder, config=make_config(TileConfig, MANY))
    assert_same_run(tmp_path / "RUN", serial)


class KillingPool:
    """A pool in which one slide kills the process that opens it."""

    def __init__(self, pool: Pool, slide_id: str) -> None:
        self._pool = pool
        self._slide_id = slide_id
        self._calls: dict[str, Call] = {}
        self.window = pool.window

    def submit(self, call: Call) -> None:
        self._calls[call.name] = call
        if call.argument.source.slide_id == self._slide_id:
            call = replace(call, function=os._exit, argument=9)
        self._pool.submit(call)

    def next_answer(self) -> Answer:
        answer = self._pool.next_answer()
        return replace(answer, call=self._calls[answer.call.name])

    def drop(self) -> None:
        self._pool.drop()


class OvertakenPool(SerialPool):
    """Has another command finish the slide while this one cuts it, and finds its work tidied away."""

    def __init__(self, run: Path, slide: Path, config: TileConfig) -> None:
        super().__init__()
        self._other = (RunDirectory(path=run), slide, config)

    def next_answer(self) -> Answer:
        if not self._waiting[0].name.startswith("cut"):
            return super().next_answer()
        run, slide, config = self._other
        other = Tiling(
            run=run,
            config=config,
            options=TileOptions(),
            pool=SerialPool(),
            observer=SilentObserver(),
        )
        other.take(find_slides([str(slide)]))
        other.drive()
        return super().next_answer()


def test_a_slide_that_another_command_has_finished_is_left_alone(
    drawn: Drawn, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    config = make_config(TileConfig, MANY)
    run = tmp_path / "RUN"
    pool = OvertakenPool(run, drawn.plain, config)
    outcome = tile_slides([str(drawn.plain)], run, config, pool=pool)
    assert [record.slide_id for record in outcome.with_status("done")] == ["plain"]
    for name in ("manifest/plain.parquet", "tiles.zarr/plain/c.0.0.0.0", "overlays/plain.jpg"):
        assert (run / name).read_bytes() == (serial / name).read_bytes()


class DoublingPool(SerialPool):
    """Makes every call twice, as when a worker has died before it could say that it was done."""

    def next_answer(self) -> Answer:
        call = self._waiting[0]
        call.function(call.argument)
        return super().next_answer()


@pytest.mark.parametrize("unit_tiles", [64, 1024])
def test_every_call_can_be_made_twice(
    unit_tiles: int,
    drawn: Drawn,
    serial: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units, "UNIT_TILES", unit_tiles)
    config = make_config(TileConfig, MANY)
    outcome = tile_slides([str(drawn.folder)], tmp_path / "RUN", config, pool=DoublingPool())
    assert outcome.with_status("failed") == ()
    assert_same_run(tmp_path / "RUN", serial)


@pytest.mark.parametrize("where", [PROCESSES, LOCAL])
@pytest.mark.parametrize("deadly", ["a deadly one", "i am deadly"])
def test_a_slide_that_kills_its_worker_fails_alone(
    where: str, deadly: str, drawn: Drawn, tmp_path: Path
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / f"{deadly}.svs").write_bytes(drawn.he.read_bytes())
    with open_pool(Cluster(workers=2, where=where)) as pool:
        outcome = tile_slides(
            [str(folder)], tmp_path / "RUN", CONFIG, pool=KillingPool(pool, deadly)
        )
    assert [record.slide_id for record in outcome.with_status("failed")] == [deadly]
    assert_whole(tmp_path / "RUN", done=GOOD)
    reason = slides_of(tmp_path / "RUN")[deadly]["reason"]
    assert "worker process died" in reason
    assert tile(tmp_path / "RUN", folder).with_status("failed") == ()
    assert_whole(tmp_path / "RUN", done=[*GOOD, deadly])
