"""Stages add columns to every slide's manifest or to none, also when they are killed in between."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.runs import Drawn, assert_whole, manifest, tile
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.manifest import manifest_files, read_manifest
from wsi_pipeline.schema import TILE_COLUMNS
from wsi_pipeline.stages import columns
from wsi_pipeline.stages.columns import Columns, add_columns, finish_change, read_summary, words
from wsi_pipeline.stages.qc import QcOptions, qc_run
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.verify import verify_run

SLIDES = ("dark", "flat", "he", "plain")


@pytest.fixture(scope="module")
def whole(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four slides whose table names a patient."""
    folder = tmp_path_factory.mktemp("whole")
    paths = (drawn.dark, drawn.flat, drawn.he, drawn.plain)
    lines = [f"{path},{path.stem},P{path.stem}" for path in paths]
    (folder / "slides.csv").write_text("\n".join(["path,slide_id,patient_id", *lines]))
    tile(folder / "RUN", folder / "slides.csv", config=TileConfig(tile_size=128))
    return folder / "RUN"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole, tmp_path / "RUN")
    return RunDirectory(path=tmp_path / "RUN")


def numbered(_slide_id: str, table: pa.Table) -> Columns:
    return {"split_number": pa.array(np.arange(len(table)))}


def test_every_slide_gets_the_columns_and_what_is_known_of_it(run: RunDirectory) -> None:
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={"seed": 1})
    add_columns(
        run,
        "label",
        lambda _, table: {"label": words(["a"] * len(table))},
        slide_ids=SLIDES,
        about={},
    )
    rows = manifest(run.path)
    own = [column.name for column in TILE_COLUMNS]
    assert list(rows) == [*own, "patient_id", "scanner", "centre", "label", "split_number"]
    assert (rows["patient_id"] == "P" + rows["slide_id"].astype(str)).all()
    assert (rows["split_number"] == rows["tile"]).all()
    assert read_summary(run, "split") == {"seed": 1}
    assert read_summary(run, "qc") is None
    assert verify_run(run.path).findings == ()
    assert_whole(run.path, done=SLIDES)


def test_a_stage_takes_its_earlier_columns_away(run: RunDirectory) -> None:
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={})
    add_columns(run, "split", lambda *_: {}, slide_ids=SLIDES, about={})
    assert "split_number" not in manifest(run.path)


def test_the_order_of_stages_does_not_show(run: RunDirectory, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "OTHER")
    other = RunDirectory(path=tmp_path / "OTHER")
    both: dict[str, Callable[[str, pa.Table], Columns]] = {
        "split": numbered,
        "label": lambda _, table: {"label": words(["a", None] * len(table))[: len(table)]},
    }
    for target, order in ((run, ("split", "label")), (other, ("label", "split"))):
        for stage in order:
            add_columns(target, stage, both[stage], slide_ids=SLIDES, about={})
    for name, path in manifest_files(run.path).items():
        assert path.read_bytes() == manifest_files(other.path)[name].read_bytes()


def test_columns_of_another_stage_are_refused(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="label: expected columns of its own, got split_number"):
        add_columns(run, "label", numbered, slide_ids=SLIDES, about={})


def outliers(_slide_id: str, table: pa.Table) -> Columns:
    return {
        "outlier": pa.array([True] * len(table)),
        "reason": words(["blur"] * len(table)),
        "status": words(["outlier"] * len(table)),
    }


def test_status_and_reason_are_changed_where_they_stand(run: RunDirectory) -> None:
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={})
    before = manifest(run.path)
    add_columns(run, "qc", outliers, slide_ids=SLIDES, about={})
    rows = manifest(run.path)
    assert list(rows) == [*list(before)[:-1], "outlier", "split_number"]
    assert (rows["status"] == "outlier").all()
    assert (rows["reason"] == "blur").all()
    for name in set(before) - {"status", "reason"}:
        assert rows[name].equals(before[name])
    for path in manifest_files(run.path).values():
        schema = pq.read_schema(path)
        assert [schema.field(column.name).type for column in TILE_COLUMNS] == [
            column.type for column in TILE_COLUMNS
        ]
    assert verify_run(run.path).findings == ()


def test_only_the_stage_that_may_changes_status_and_no_other_column(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="split: expected columns of its own, got outlier, reason"):
        add_columns(run, "split", outliers, slide_ids=SLIDES, about={})
    with pytest.raises(ValueError, match="qc: expected columns of its own, got x"):
        add_columns(
            run,
            "qc",
            lambda _, table: {"x": table.column("y").combine_chunks()},
            slide_ids=SLIDES,
            about={},
        )


class KilledError(Exception):
    """What stands for SIGKILL between two files."""


@pytest.mark.parametrize("moves", [0, 1, 3, 4])
def test_a_change_that_is_cut_off_happens_wholly_with_the_next_command(
    moves: int, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = columns._move
    moved: list[Path] = []

    def killed_after(path: Path, target: Path) -> None:
        if len(moved) == moves:
            raise KilledError
        moved.append(target)
        move(path, target)

    monkeypatch.setattr(columns, "_move", killed_after)
    if moves == len(SLIDES):
        monkeypatch.setattr(columns, "remove_file", killed_after_all)
    with pytest.raises(KilledError):
        add_columns(run, "split", numbered, slide_ids=SLIDES, about={"seed": 1})
    monkeypatch.undo()
    finish_change(run)
    assert not read_manifest(run.path, columns=["split_number"]).column(0).null_count
    assert read_summary(run, "split") == {"seed": 1}
    assert_whole(run.path, done=SLIDES)


@pytest.mark.parametrize("moves", [0, 1, 3])
def test_parts_that_begin_together_may_both_finish_a_change(
    moves: int, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "finish_change", lambda _: None)
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={"seed": 1})
    monkeypatch.undo()
    move = columns._move
    moved: list[Path] = []

    def other_goes_first(path: Path, target: Path) -> None:
        moved.append(target)
        if len(moved) == moves + 1:
            finish_change(run)
        move(path, target)

    monkeypatch.setattr(columns, "_move", other_goes_first)
    finish_change(run)
    assert not read_manifest(run.path, columns=["split_number"]).column(0).null_count
    assert read_summary(run, "split") == {"seed": 1}
    assert_whole(run.path, done=SLIDES)


@pytest.mark.parametrize("file", ["whole.json", "he.parquet", "clusters.json", "slides.parquet"])
def test_clusters_and_columns_are_of_the_same_qc_wherever_it_is_killed(
    file: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clustered(clusters: int) -> None:
        config = make_config(QcConfig, {"clusters": clusters})
        qc_run(run.path, config, options=QcOptions(pictures=False))

    def until(do: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        def doing(path: Path, other: object) -> None:
            if path.name == file:
                raise KilledError
            do(path, other)

        return doing

    clustered(4)
    monkeypatch.setattr(columns, "publish_bytes", until(publish_bytes))
    monkeypatch.setattr(columns, "_move", until(columns._move))
    with pytest.raises(KilledError):
        clustered(3)
    monkeypatch.undo()
    finish_change(run)
    fitted = json.loads((run.path / "qc" / "clusters.json").read_bytes())["settings"]["clusters"]
    rows, said = manifest(run.path), read_summary(run, "qc")
    assert rows["cluster"].nunique() == fitted == (4 if file == "whole.json" else 3)
    assert said is not None
    assert said["config"]["clusters"] == fitted
    by_slide = pd.read_parquet(run.path / "qc" / "slides.parquet").set_index("slide_id")
    counts = rows.groupby("slide_id", observed=True)["outlier"].sum()
    assert by_slide["outliers"].to_dict() == counts.to_dict()


def test_a_change_whose_place_is_gone_is_kept(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "finish_change", lambda _: None)
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={"seed": 1})
    monkeypatch.undo()
    run.manifests.rename(run.path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        finish_change(run)
    (run.path / "elsewhere").rename(run.manifests)
    finish_change(run)
    assert "split_number" in manifest(run.path)


def killed_after_all(_path: Path) -> None:
    raise KilledError


def test_a_change_that_was_never_whole_does_not_happen(run: RunDirectory) -> None:
    before = manifest(run.path)

    def fails_at_last(slide_id: str, table: pa.Table) -> Columns:
        if slide_id == SLIDES[-1]:
            raise KilledError
        return numbered(slide_id, table)

    with pytest.raises(KilledError):
        add_columns(run, "split", fails_at_last, slide_ids=SLIDES, about={})
    finish_change(run)
    assert manifest(run.path).equals(before)


def test_tile_finishes_a_change_that_was_cut_off(
    run: RunDirectory, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "finish_change", lambda _: None)
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={})
    monkeypatch.undo()
    assert "split_number" not in manifest(run.path)
    tile(run.path, drawn.plain, config=TileConfig(tile_size=128))
    assert "split_number" in manifest(run.path)


def test_a_column_that_some_slides_lack_is_null_there(run: RunDirectory) -> None:
    add_columns(run, "split", numbered, slide_ids=["plain"], about={})
    rows = read_manifest(run.path, columns=["slide_id", "split_number"]).to_pandas()
    assert set(rows.dropna()["slide_id"]) == {"plain"}
    assert set(rows["slide_id"]) == set(SLIDES)


def test_one_slide_is_read_from_its_own_file(run: RunDirectory) -> None:
    run.manifest("dark").write_bytes(b"not a table")
    assert (
        read_manifest(run.path, slide_ids=["he"]).num_rows
        == pq.read_table(run.manifest("he"), partitioning=None).num_rows
    )


def test_what_is_not_there_is_said(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no slide nobody is done in this run"):
        read_manifest(run.path, slide_ids=["nobody"])
    with pytest.raises(ConfigError, match=r"no column label; label, qc and split add theirs"):
        read_manifest(run.path, columns=["tile", "label"])
    with pytest.raises(ConfigError, match="expected a run with tiles"):
        read_manifest(tmp_path / "nothing")


def test_a_slide_that_is_cut_later_has_the_columns_too_and_hides_no_others(
    run: RunDirectory, drawn: Drawn, tmp_path: Path
) -> None:
    add_columns(run, "split", numbered, slide_ids=SLIDES, about={})
    first = tmp_path / "a first one.tif"
    shutil.copy(drawn.plain, first)
    tile(run.path, first, config=TileConfig(tile_size=128))
    rows = manifest(run.path)
    assert rows["slide_id"].iloc[0] == "a first one"
    new = rows["slide_id"] == "a first one"
    assert rows.loc[~new, "split_number"].notna().all()
    assert rows.loc[new, "split_number"].isna().all()
    assert verify_run(run.path).findings == ()
    numbers = pq.read_schema(run.manifest("a first one")).names
    assert numbers == pq.read_schema(run.manifest("he")).names
