"""How far a run on S3 is, asked from any machine while it works and after it died."""

import json
import time
from pathlib import Path

import pytest

from tests.pipeline.remote import s3
from tests.pipeline.runs import (
    Command,
    Drawn,
    InterruptedRunError,
    InterruptingPool,
    good_folder,
)
from wsi_pipeline.calls import Answer, SerialPool
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.remote import place
from wsi_pipeline.stages import units
from wsi_pipeline.stages.remote_lease import remote_lease
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.status import RunStatus, missing_parts, run_status
from wsi_pipeline.stages.tile import tile_slides

pytestmark = pytest.mark.filterwarnings("default")
MANY = make_config(TileConfig, {"tile_size": 64, "overlap": 0.25, "min_tissue": 0})


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of one shard, so that a small slide has several."""
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    monkeypatch.setattr(units, "_UNIT_ROWS", 0)


class AskingPool(SerialPool):
    """A serial pool that asks how far the run is after some answers."""

    def __init__(self, run: str, after: int) -> None:
        super().__init__()
        self._run, self._after = run, after
        self.seen: list[RunStatus] = []

    def next_answer(self) -> Answer:
        answer = super().next_answer()
        self._after -= 1
        if self._after == 0:
            self.seen.append(run_status(self._run))
        return answer


@pytest.mark.usefixtures("small_units")
def test_while_a_remote_run_works_it_is_told_what_is_done_under_way_and_left(
    drawn: Drawn, bucket: str
) -> None:
    pool = AskingPool(f"{bucket}/RUN", after=3)
    tile_slides([str(drawn.folder)], f"{bucket}/RUN", MANY, pool=pool)
    (middle,) = pool.seen
    states = {slide.slide_id: slide.state for slide in middle.slides}
    assert states == {"dark": "running", "flat": "left", "he": "left", "plain": "left"}
    dark, (command,) = middle.slides[0], middle.commands
    assert dark.tiles == 128
    assert dark.tiles_planned is not None
    assert dark.tiles_planned > 128
    assert dark.stored_bytes > 0
    assert command.alive
    assert command.where == dark.where
    assert command.since == dark.since
    after = run_status(f"{bucket}/RUN")
    assert (after.count("done"), after.commands) == (4, ())


@pytest.mark.usefixtures("small_units")
def test_after_an_interrupt_a_remote_slide_is_interrupted_and_the_others_left(
    drawn: Drawn, bucket: str, wsi: Command
) -> None:
    with pytest.raises(InterruptedRunError):
        tile_slides([str(drawn.folder)], f"{bucket}/RUN", MANY, pool=InterruptingPool(3))
    status = run_status(f"{bucket}/RUN")
    assert (status.count("interrupted"), status.count("left")) == (1, 3)
    assert (status.tiles, status.commands, status.tiles_per_s) == (128, (), None)
    assert missing_parts(f"{bucket}/RUN", parts=2) == [1, 2]
    said = wsi("status", f"{bucket}/RUN")
    assert said.code == 0
    assert "4 slides: 0 done, 1 interrupted, 3 left; 128 tiles" in said.out


def test_failures_parts_and_the_dead_are_told_of_a_remote_run(
    drawn: Drawn, bucket: str, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "broken.svs").touch()
    run = f"{bucket}/RUN"
    line = ("tile", folder, "-o", run, "--tile-size", "128")
    assert wsi(*line, "--part", "1/2").code == 1
    assert wsi("missing", run, "--parts", "2").out == "2\n"
    lease = {"owner": "node-7-1a2b3c4d-4711", "time": time.time() - 999, "since": "2026-01-01"}
    leases = f"{run}/.state/leases"
    s3.file_system(bucket).pipe_file(f"{leases}/1-of-2.json", json.dumps(lease).encode())
    s3.file_system(bucket).pipe_file(f"{leases}/what.json", b"is this")
    said = wsi("status", run)
    assert "node-7:4711 has died on part 1/2, since 2026-01-01" in said.out
    assert "3 slides: 1 done, 1 failed, 1 left" in said.out
    assert wsi(*line, "--part", "2/2").code == 0
    assert wsi("missing", run, "--parts", "2").out == ""


@pytest.mark.parametrize("command", [("status",), ("missing", "--parts", "3")])
def test_what_is_no_remote_run_is_refused(
    command: tuple[str, ...], bucket: str, wsi: Command
) -> None:
    said = wsi(*command, f"{bucket}/NONE")
    assert said.code == 2
    assert "expected a run directory, found no .state/asked.json" in said.err
    nowhere = wsi(*command, "s3://none-such/RUN")
    assert nowhere.code == 2
    assert "there is no bucket 'none-such'" in nowhere.err


def test_a_remote_part_that_ends_is_not_waited_for_and_one_that_works_is(bucket: str) -> None:
    run = RunDirectory(path=place(f"{bucket}/RUN"))
    with remote_lease(run, part=1, parts=2) as one, remote_lease(run, part=2, parts=2) as two:
        assert one.others_at_work(run)
        two.end_soon()
        assert not one.others_at_work(run)
    assert not s3.file_system(bucket).find(f"{bucket}/RUN/.state/leases")
