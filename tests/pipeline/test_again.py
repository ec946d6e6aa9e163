"""The same command again: done work is left alone, changed sources are refused, repaired ones are cut."""

import os
import shutil
from pathlib import Path

import pytest

from tests.pipeline.runs import (
    CONFIG,
    GOOD,
    Command,
    Drawn,
    InterruptedRunError,
    InterruptingPool,
    assert_same_run,
    assert_whole,
    digests,
    good_folder,
    slides_of,
    tile,
    with_status,
)
from wsi_pipeline.config import make_config
from wsi_pipeline.stages import units
from wsi_pipeline.stages.tile import TileConfig, TileOptions, tile_slides
from wsi_pipeline.stages.verify import verify_run

SETTINGS = ("--tile-size", "128")
MANY = {"tile_size": 64, "overlap": 0.25, "min_tissue": 0}


def times(run: Path) -> dict[str, int]:
    """Return when each file below tiles.zarr, manifest and overlays was written."""
    return {
        str(path.relative_to(run)): path.stat().st_mtime_ns
        for name in ("tiles.zarr", "manifest", "overlays")
        for path in (run / name).rglob("*")
        if path.is_file()
    }


def test_done_slides_are_skipped_and_their_files_left_alone(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    line = ("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 0
    before = times(tmp_path / "RUN")
    again = wsi(*line)
    assert again.code == 0
    assert "2 slides done (2 before), 0 failed" in again.out
    assert times(tmp_path / "RUN") == before


def test_a_new_slide_is_added_to_those_that_are_done(
    drawn: Drawn, undisturbed: Path, tmp_path: Path
) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    before = times(tmp_path / "RUN")
    tile(tmp_path / "RUN", drawn.folder)
    assert_whole(tmp_path / "RUN", done=["he", "plain", "dark", "flat"])
    assert before.items() <= times(tmp_path / "RUN").items()
    assert_same_run(tmp_path / "RUN", undisturbed)


def test_slides_of_an_earlier_call_stay_in_the_table(drawn: Drawn, tmp_path: Path) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    tile(tmp_path / "RUN", drawn.he)
    assert_whole(tmp_path / "RUN", done=GOOD)


def test_a_changed_source_is_refused_with_its_tiles_untouched(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    line = ("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 0
    before = times(tmp_path / "RUN")
    shutil.copy(drawn.dark, folder / "plain.tif")
    again = wsi(*line)
    assert again.code == 1
    assert times(tmp_path / "RUN") == before
    said = [line for line in again.err.splitlines() if line.startswith("failed: plain")]
    assert len(said) == 1
    assert "its tiles are untouched: --overwrite redoes it" in said[0]
    assert verify_run(tmp_path / "RUN").findings == ()
    assert wsi(*line, "--overwrite").code == 0
    assert_whole(tmp_path / "RUN", done=GOOD)
    assert slides_of(tmp_path / "RUN")["plain"]["dark_field"] is True


def test_a_change_of_as_many_bytes_is_noticed(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    line = ("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 0
    size = (folder / "plain.tif").stat().st_size
    with (folder / "plain.tif").open("r+b") as handle:
        handle.seek(size // 3)
        handle.write(b"changed")
    again = wsi(*line)
    assert again.code == 1
    assert "failed: plain" in again.err


def test_a_source_that_is_gone_is_named_and_its_tiles_stay(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    table = tmp_path / "slides.csv"
    table.write_text("path\nslides/plain.tif\nslides/he.svs\n", encoding="utf-8")
    line = ("tile", table, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 0
    before = times(tmp_path / "RUN")
    (folder / "plain.tif").unlink()
    again = wsi(*line)
    assert again.code == 1
    assert "No such file" in again.err
    assert times(tmp_path / "RUN") == before


def test_another_time_of_the_same_bytes_redoes_nothing(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    line = ("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 0
    before = times(tmp_path / "RUN")
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    again = wsi(*line)
    assert (again.code, times(tmp_path / "RUN")) == (0, before)
    assert "(2 before)" in again.out


def test_a_failed_slide_is_tried_again_once_its_file_is_repaired(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "broken.svs").touch()
    line = ("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 1
    assert wsi(*line).code == 1
    before = times(tmp_path / "RUN")
    shutil.copy(drawn.he, folder / "broken.svs")
    again = wsi(*line)
    assert again.code == 0
    assert "3 slides done (2 before), 0 failed" in again.out
    assert_whole(tmp_path / "RUN", done=[*GOOD, "broken"])
    assert before.items() <= times(tmp_path / "RUN").items()
    assert slides_of(tmp_path / "RUN")["broken"]["reason"] is None


def test_overwrite_redoes_a_slide_to_the_same_bytes(drawn: Drawn, tmp_path: Path) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    before, then = digests(tmp_path / "RUN"), times(tmp_path / "RUN")
    outcome = tile(tmp_path / "RUN", drawn.plain, options=TileOptions(overwrite=True))
    assert outcome.already_done == frozenset()
    assert digests(tmp_path / "RUN") == before
    redone = times(tmp_path / "RUN")
    group = "tiles.zarr/zarr.json"
    assert all(redone[name] > then[name] for name in then if name != group)


def test_stopping_on_an_error_begins_no_further_slide_and_the_same_command_goes_on(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "a first.svs").touch()
    line = ("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    stopped = wsi(*line, "--on-error", "stop")
    assert stopped.code == 1
    assert_whole(tmp_path / "RUN", done=[])
    assert with_status(tmp_path / "RUN", "failed") == {"a first"}
    assert wsi(*line).code == 1
    assert_whole(tmp_path / "RUN", done=GOOD)


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of one shard, so that a small slide has several."""
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    monkeypatch.setattr(units, "_UNIT_ROWS", 0)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("answers", [1, 2, 4])
def test_units_that_are_finished_are_used_again(answers: int, drawn: Drawn, tmp_path: Path) -> None:
    config = make_config(TileConfig, MANY)
    tile(tmp_path / "WHOLE", drawn.plain, config=config)
    run = tmp_path / "RUN"
    with pytest.raises(InterruptedRunError):
        tile_slides([str(drawn.plain)], run, config, pool=InterruptingPool(answers))
    work = run / ".state" / "work" / "plain"
    parts = sorted(work.glob("tiles-*.parquet"))
    assert len(parts) == answers - 1  # the first answer is the plan
    assert not (run / "manifest" / "plain.parquet").exists()
    assert slides_of(run) == {}
    before = times(run)
    assert len(before) == answers  # a shard per part, and the group
    tile(run, drawn.plain, config=config)
    assert before.items() <= times(run).items()
    assert_whole(run, done=["plain"])
    assert_same_run(run, tmp_path / "WHOLE")


@pytest.mark.usefixtures("small_units")
def test_an_interrupted_slide_begins_anew_when_its_file_has_changed(
    drawn: Drawn, tmp_path: Path
) -> None:
    config = make_config(TileConfig, MANY)
    (tmp_path / "slides").mkdir()
    slide = tmp_path / "slides" / "a.tif"
    shutil.copy(drawn.plain, slide)
    run = tmp_path / "RUN"
    with pytest.raises(InterruptedRunError):
        tile_slides([str(slide)], run, config, pool=InterruptingPool(3))
    shutil.copy(drawn.dark, slide)
    tile(run, slide, config=config)
    tile(tmp_path / "WHOLE", slide, config=config)
    assert_whole(run, done=["a"])
    assert_same_run(run, tmp_path / "WHOLE")


@pytest.mark.usefixtures("small_units")
def test_an_interrupted_run_of_other_settings_is_refused_and_overwritten_whole(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    run = tmp_path / "RUN"
    with pytest.raises(InterruptedRunError):
        tile_slides(
            [str(drawn.plain)], run, make_config(TileConfig, MANY), pool=InterruptingPool(3)
        )
    assert wsi("tile", drawn.plain, "-o", run, *SETTINGS).code == 2
    assert wsi("tile", drawn.plain, "-o", run, *SETTINGS, "--overwrite").code == 0
    tile(tmp_path / "WHOLE", drawn.plain, config=CONFIG)
    assert_whole(run, done=["plain"])
    assert_same_run(run, tmp_path / "WHOLE")
