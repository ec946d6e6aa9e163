"""Calls that come late, or twice, after others have gone on: they neither clear nor write."""

import pickle
from pathlib import Path

import pytest

from tests.pipeline.runs import CONFIG, Drawn, InterruptedRunError, assert_same_run, digests, tile
from wsi_pipeline.calls import Answer, Call, SerialPool
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import LateError, OutputError
from wsi_pipeline.files import read_bytes
from wsi_pipeline.stages import cut, units
from wsi_pipeline.stages.lease import leases
from wsi_pipeline.stages.run_directory import RunDirectory, read_record
from wsi_pipeline.stages.tile import TileOptions, tile_slides
from wsi_pipeline.stages.verify import verify_run
from wsi_pipeline.store.codec import encode_tile

MANY = make_config(TileConfig, {"tile_size": 64, "overlap": 0.25, "min_tissue": 0})
REDO = TileOptions(overwrite=True)


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of one shard, so that a small slide has several."""
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    monkeypatch.setattr(units, "_UNIT_ROWS", 0)


class CopyingPool(SerialPool):
    """A serial pool that keeps a copy of every call, as a scheduler that has lost sight of a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def submit(self, call: Call) -> None:
        self.calls.append(pickle.loads(pickle.dumps(call)))
        super().submit(call)


def times(run: Path) -> dict[Path, tuple[int, int]]:
    """Return which file each path names, and when it was written."""
    files = (path for path in run.rglob("*") if path.is_file())
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("options", [TileOptions(), REDO], ids=["first", "redo"])
@pytest.mark.parametrize("config", [MANY, CONFIG], ids=["units", "at once"])
def test_copies_of_calls_that_come_when_all_is_done_change_nothing(
    config: TileConfig, options: TileOptions, drawn: Drawn, tmp_path: Path
) -> None:
    run, pool = tmp_path / "RUN", CopyingPool()
    if options.overwrite:
        tile(run, drawn.plain, config=config)
    tile_slides([str(drawn.plain)], run, config, options=options, pool=pool)
    before = times(run)
    for call in pool.calls:
        if call.name.startswith("cut"):
            with pytest.raises(LateError, match="plain: another command has finished it"):
                call.function(call.argument)
        else:
            call.function(call.argument)
    assert times(run) == before


@pytest.mark.parametrize("redo", [False, True], ids=["first", "redo"])
@pytest.mark.parametrize("stopped_in", ["plan_slide", "planned_columns"])
def test_a_begin_that_was_stopped_does_not_clear_what_its_copy_has_cut(
    stopped_in: str, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, redo: bool
) -> None:
    run = tmp_path / "RUN"
    if redo:
        tile(run, drawn.plain, config=MANY)
    (begin,) = first_calls(run, drawn.plain, redo=redo)
    real = getattr(cut, stopped_in)
    cut_meanwhile: list[dict[Path, tuple[int, int]]] = []

    def stopped(*arguments: object) -> object:
        monkeypatch.setattr(cut, stopped_in, real)
        begun = begin.function(begin.argument)
        for unit in units.units_of(begin.argument, begun.tiles)[:2]:
            cut.cut_unit(unit)
        cut_meanwhile.append(times(run))
        return real(*arguments)

    monkeypatch.setattr(cut, stopped_in, stopped)
    answer = begin.function(begin.argument)
    assert cut_meanwhile[0] == times(run)
    assert answer.tiles > 2 * 64
    assert answer.record is None


def test_a_unit_of_old_settings_that_comes_late_writes_nothing(
    drawn: Drawn, tmp_path: Path
) -> None:
    run, old = tmp_path / "RUN", CopyingPool()
    tile_slides([str(drawn.plain)], run, MANY, pool=old)
    late = next(call for call in old.calls if call.name == "cut:plain:64")
    other = CONFIG.model_copy(update={"tile_size": 48, "min_tissue": 0})

    class Waking(SerialPool):
        """A worker of the old command wakes after each call of the new one."""

        woken = 0

        def next_answer(self) -> Answer:
            answer = super().next_answer()
            self.woken += 1
            with pytest.raises(LateError):
                late.function(late.argument)
            return answer

    pool = Waking()
    tile_slides([str(drawn.plain)], run, other, options=REDO, pool=pool)
    assert pool.woken > 3
    tile(tmp_path / "ALONE", drawn.plain, config=other)
    assert_same_run(run, tmp_path / "ALONE")
    assert verify_run(run).findings == ()


def test_a_unit_that_is_stopped_while_its_slide_is_redone_writes_no_further_shard(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = tmp_path / "RUN", encode_tile
    other = CONFIG.model_copy(update={"tile_size": 48, "min_tissue": 0})

    def stopped(*arguments: object) -> bytes:
        monkeypatch.setattr(cut, "encode_tile", real)
        tile(tmp_path / "ALONE", drawn.plain, config=other)
        (begin,) = first_calls(run, drawn.plain, config=other, redo=True)
        begun = begin.function(begin.argument)
        for unit in units.units_of(begin.argument, begun.tiles):
            cut.cut_unit(unit)
        cut.finish_slide(begin.argument)
        return real(*arguments)  # type: ignore[arg-type]

    begin, *_ = first_calls(run, drawn.plain)
    begun = begin.function(begin.argument)
    first, *_ = units.units_of(begin.argument, begun.tiles)
    monkeypatch.setattr(cut, "encode_tile", stopped)
    with pytest.raises(LateError):
        cut.cut_unit(first)
    ours, alone = digests(run), digests(tmp_path / "ALONE")
    assert {name: ours[name] for name in alone if "plain" in name} == {
        name: digest for name, digest in alone.items() if "plain" in name
    }
    record = read_record(RunDirectory(path=run), "plain")
    assert record is not None
    assert record.status == "done"


def test_a_redo_that_lost_its_worker_goes_on_where_it_was(drawn: Drawn, tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    tile(run, drawn.plain, config=MANY)
    (begin,) = first_calls(run, drawn.plain, redo=True)
    begun = begin.function(begin.argument)
    plan = run / ".state" / "work" / "plain" / "begun.json"
    before = read_bytes(plan), plan.stat().st_mtime_ns
    assert begin.function(begin.argument) == begun
    assert (read_bytes(plan), plan.stat().st_mtime_ns) == before


def test_a_slide_without_tiles_that_was_interrupted_is_finished(
    drawn: Drawn, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"min_tissue": 1.0, "tile_size": 512, "edge": "pad"})
    run = tmp_path / "RUN"
    (begin,) = first_calls(run, drawn.plain, config=config)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cut, "finish_slide", interrupted)
        with pytest.raises(InterruptedRunError):
            begin.function(begin.argument)
    outcome = tile(run, drawn.plain, config=config)
    assert [(record.status, record.tiles) for record in outcome.records] == [("done", 0)]


class WatchedPool(SerialPool):
    """Breaks off at the second answer, and looks who holds the run when it is told to drop its work."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run, self._answers = run, 0
        self.held_while_dropped: list[int] = []

    def next_answer(self) -> Answer:
        self._answers += 1
        if self._answers == 2:
            raise OutputError("the disk is full")
        return super().next_answer()

    def drop(self) -> None:
        super().drop()
        self.held_while_dropped.append(len(leases(self._run)))


def test_a_run_that_breaks_off_ends_its_workers_before_it_gives_its_lease_back(
    drawn: Drawn, tmp_path: Path
) -> None:
    run = RunDirectory(path=tmp_path / "RUN")
    pool = WatchedPool(run)
    with pytest.raises(OutputError, match="the disk is full"):
        tile_slides([str(drawn.plain)], run.path, MANY, pool=pool)
    assert pool.held_while_dropped == [1]
    assert leases(run) == []


def interrupted(*_: object) -> None:
    raise InterruptedRunError


def first_calls(
    run: Path, slide: Path, *, config: TileConfig = MANY, redo: bool = False
) -> list[Call]:
    """Return the first call that a command makes for a slide; nothing of it is carried out."""

    class Refusing(CopyingPool):
        def next_answer(self) -> Answer:
            if self.calls[-1].name.startswith("open"):
                return super().next_answer()
            raise InterruptedRunError

    pool = Refusing()
    options = TileOptions(overwrite=redo)
    with pytest.raises(InterruptedRunError):
        tile_slides([str(slide)], run, config, options=options, pool=pool)
    return [call for call in pool.calls if not call.name.startswith("open")]
