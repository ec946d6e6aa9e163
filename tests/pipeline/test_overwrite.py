"""What is done is removed only for what can be made anew: a source out of reach costs nothing."""

from pathlib import Path

import pytest

from tests.pipeline.runs import (
    CONFIG,
    GOOD,
    Command,
    Drawn,
    assert_whole,
    digests,
    good_folder,
    slides_of,
    tile,
)
from wsi_pipeline.calls import Call, SerialPool
from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.stages import cut
from wsi_pipeline.stages.tile import TileOptions, tile_slides
from wsi_pipeline.stages.verify import verify_run

SETTINGS = ("--tile-size", "128")
REDO = TileOptions(overwrite=True)


@pytest.fixture
def table(drawn: Drawn, tmp_path: Path) -> Path:
    """A table of two slides, from which a test takes one away."""
    good_folder(drawn, tmp_path / "slides")
    table = tmp_path / "slides.csv"
    table.write_text("path\nslides/plain.tif\nslides/he.svs\n", encoding="utf-8")
    return table


def test_a_redo_whose_source_is_out_of_reach_leaves_the_old_result_and_is_a_failure(
    table: Path, tmp_path: Path, wsi: Command
) -> None:
    run, slide = tmp_path / "RUN", tmp_path / "slides" / "plain.tif"
    line = ("tile", table, "-o", run, *SETTINGS, "--overwrite")
    assert wsi(*line).code == 0
    before = digests(run)
    slide.rename(tmp_path / "away.tif")
    failed = wsi(*line)
    assert failed.code == 1
    assert "1 slides done, 1 failed" in failed.out
    last = failed.err.splitlines()[-1]
    assert last.startswith("failed: plain (")
    assert last.endswith("; what was done of it before is untouched")
    assert digests(run) == before
    assert_whole(run, done=GOOD)
    assert verify_run(run).findings == ()
    (tmp_path / "away.tif").rename(slide)
    assert wsi(*line).code == 0
    assert digests(run) == before


def test_a_redo_of_a_file_that_is_no_slide_any_more_leaves_the_old_result(
    table: Path, tmp_path: Path, wsi: Command
) -> None:
    line = ("tile", table, "-o", tmp_path / "RUN", *SETTINGS)
    assert wsi(*line).code == 0
    (tmp_path / "slides" / "plain.tif").write_text("no slide", encoding="utf-8")
    assert wsi(*line, "--overwrite").code == 1
    assert_whole(tmp_path / "RUN", done=GOOD)
    assert verify_run(tmp_path / "RUN").findings == ()


def test_a_redo_that_fails_after_it_was_begun_leaves_none_of_the_old_tiles(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "RUN"
    tile(run, drawn.plain, drawn.he)

    def unreadable(_reader: object, _sampling: object, windows: list[object]) -> object:
        return (TileError("a hole in the file") for _ in windows)

    monkeypatch.setattr(cut, "read_tiles", unreadable)
    outcome = tile(run, drawn.plain, options=REDO)
    assert [record.status for record in outcome.records] == ["failed"]
    assert_whole(run, done=["he"])
    assert "a hole in the file" in slides_of(run)["plain"]["reason"]


def test_other_settings_are_refused_as_long_as_a_slide_that_they_replace_is_out_of_reach(
    table: Path, tmp_path: Path, wsi: Command
) -> None:
    run = tmp_path / "RUN"
    assert wsi("tile", table, "-o", run, *SETTINGS).code == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    slide = tmp_path / "slides" / "plain.tif"
    slide.rename(tmp_path / "away.tif")
    other = ("tile", table, "-o", run, "--tile-size", "64", "--overwrite")
    refused = wsi(*other)
    assert refused.code == 2
    assert "cannot be opened, so nothing was changed: plain (" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (tmp_path / "away.tif").rename(slide)
    assert wsi(*other).code == 0
    assert_whole(run, done=GOOD)


class UnreachablePool(SerialPool):
    """A cluster that does not answer the first call."""

    def submit(self, call: Call) -> None:
        raise ConfigError(f"no scheduler answers {call.name}")


def test_a_cluster_that_cannot_be_reached_costs_nothing(drawn: Drawn, tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    tile(run, drawn.plain)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = CONFIG.model_copy(update={"tile_size": 64})
    with pytest.raises(ConfigError, match="no scheduler answers open:plain"):
        tile_slides([str(drawn.plain)], run, other, options=REDO, pool=UnreachablePool())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
