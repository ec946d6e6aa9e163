"""Damage that was drawn is found by the rule that is meant for it, recorded, and never deleted."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.pipeline.damaged import TILE_PX, Cohort, draw_damaged
from tests.pipeline.runs import (
    REAL_SLIDES,
    Command,
    assert_whole,
    manifest,
    stored,
    tile,
    untimed,
)
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.quality import RULES
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.manifest import manifest_files
from wsi_pipeline.schema import QC_COLUMNS, TILE_COLUMNS
from wsi_pipeline.stages.columns import read_summary
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.qc import QcOptions, QcOutcome, qc_run
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.verify import verify_run

SETTINGS = TileConfig(tile_size=TILE_PX, overlap=0.0)
FEW = make_config(QcConfig, {"clusters": 4, "collage_tiles": 4})
QUICK = QcOptions(pictures=False)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return draw_damaged(tmp_path_factory.mktemp("damaged"))


@pytest.fixture(scope="module")
def whole(cohort: Cohort) -> Path:
    """A run of all eight slides that no test writes to."""
    tile(cohort.table.parent / "RUN", cohort.table, config=SETTINGS)
    return cohort.table.parent / "RUN"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "RUN")
    return tmp_path / "RUN"


@pytest.fixture(scope="module")
def judged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QcOutcome]:
    """The run after qc, with collages; no test writes to it."""
    run = tmp_path_factory.mktemp("judged") / "RUN"
    shutil.copytree(whole, run)
    return run, qc_run(run, FEW)


def where(rows: pd.DataFrame, cohort: Cohort) -> "pd.Series[Any]":
    """Return what was drawn on every tile, None for nothing."""
    places = zip(rows["slide_id"].astype(str), rows["x"], rows["y"], strict=True)
    return pd.Series([cohort.damaged.get(place) for place in places], rows.index, dtype=object)


def test_every_damage_is_found_by_its_rule(judged: tuple[Path, QcOutcome], cohort: Cohort) -> None:
    rows = manifest(judged[0])
    drawn = where(rows, cohort)
    assert drawn.value_counts().eq(2).all()
    assert set(drawn.dropna()) == {"blur", "black", "white", "fold", "gray"} | {
        f"pen {ink}" for ink in ("green", "blue", "black", "red")
    }
    for damage, tiles in rows.groupby(drawn):
        rule, _, ink = str(damage).partition(" ")
        assert tiles[f"qc_{rule}"].all(), damage
        assert not ink or (tiles["qc_ink"] == ink).all()
        assert (tiles["status"] == "outlier").all()
        assert tiles["outlier_reason"].astype(str).str.contains(rule).all()


def test_whole_tiles_of_two_scanners_of_different_sharpness_are_not_marked(
    judged: tuple[Path, QcOutcome], cohort: Cohort
) -> None:
    rows = manifest(judged[0])
    clean = rows[where(rows, cohort).isna() & (rows["slide_id"] != cohort.unfocused)]
    medians = clean.groupby("scanner", observed=True)["qc_sharpness"].median()
    assert medians["sharp"] - medians["soft"] > 0.5  # decades
    assert len(clean) > 400
    assert clean["outlier"].mean() <= 0.01


def test_tumour_is_not_mistaken_for_folds_or_ink(
    judged: tuple[Path, QcOutcome], cohort: Cohort
) -> None:
    rows = manifest(judged[0])
    places = zip(rows["slide_id"].astype(str), rows["x"], rows["y"], strict=True)
    tumour = rows[[place in cohort.tumours for place in places]]
    tumour = tumour[tumour["slide_id"] != cohort.unfocused]
    assert len(tumour) >= 10
    assert not tumour["outlier"].any()


def test_a_slide_out_of_focus_is_named_with_its_number_and_has_no_tile_left(
    judged: tuple[Path, QcOutcome], cohort: Cohort
) -> None:
    run, outcome = judged
    assert outcome.empty == (cohort.unfocused,)
    found = {slide.slide_id: slide for slide in outcome.slides}[cohort.unfocused]
    assert (found.left, found.marks["unfocused"]) == (0, found.tiles)
    assert found.unfocused_z is not None
    assert found.unfocused_z < -FEW.unfocused_z
    summary = read_summary(RunDirectory(path=run), "qc")
    assert summary is not None
    assert summary["slides_without_tiles"] == [cohort.unfocused]


def test_tables_say_the_same_as_the_manifest(judged: tuple[Path, QcOutcome]) -> None:
    run, outcome = judged
    rows = manifest(run)
    summary = json.loads((run / "qc.json").read_text("utf-8"))
    assert summary["config"] == FEW.model_dump(mode="json")
    assert summary["config_digest"] == FEW.digest()
    assert "scikit-learn" in summary["versions"]
    by_slide = pd.read_parquet(run / "qc" / "slides.parquet").set_index("slide_id")
    for rule in RULES:
        assert summary["marks"][rule.name] == rows[f"qc_{rule.name}"].sum()
    counted = rows.groupby("slide_id", observed=True)
    assert by_slide["outliers"].equals(counted["outlier"].sum().reindex(by_slide.index))
    assert (by_slide["tiles"] == by_slide["outliers"] + by_slide["left"]).all()
    assert summary["outliers"] == rows["outlier"].sum() == (rows["status"] == "outlier").sum()
    assert [each.tiles for each in outcome.clusters] == rows["cluster"].value_counts(
        sort=False
    ).sort_index().tolist()


def test_columns_have_the_types_of_the_schema_and_tilings_stay_where_they_were(
    judged: tuple[Path, QcOutcome],
) -> None:
    own = [column.name for column in TILE_COLUMNS]
    for path in manifest_files(judged[0]).values():
        schema = pq.read_schema(path)
        names = ["patient_id", "scanner", "centre", *(column.name for column in QC_COLUMNS)]
        assert schema.names == [*own, *names]
        for column in (*TILE_COLUMNS, *QC_COLUMNS):
            assert schema.field(column.name).type == column.type, column.name


def test_nothing_is_lost_and_verify_tile_and_status_go_on(
    judged: tuple[Path, QcOutcome], whole: Path, cohort: Cohort, tmp_path: Path, wsi: Command
) -> None:
    run = tmp_path / "RUN"
    shutil.copytree(judged[0], run)
    assert verify_run(run).findings == ()
    assert_whole(run, done={path.stem for path in (whole / "manifest").iterdir()})
    before = {name: path.read_bytes() for name, path in manifest_files(run).items()}
    again = tile(run, cohort.table, config=SETTINGS)
    assert not again.with_status("failed")
    assert {name: path.read_bytes() for name, path in manifest_files(run).items()} == before
    pd.testing.assert_frame_equal(untimed(run), untimed(whole))
    assert wsi("status", run).code == 0
    columns = [column.name for column in TILE_COLUMNS if column.name not in ("status", "reason")]
    pd.testing.assert_frame_equal(manifest(run)[columns], manifest(whole)[columns])


def test_with_other_limits_tiles_become_ok_again(run: Path) -> None:
    off = {rule.name: False for rule in RULES}
    qc_run(run, FEW, options=QUICK)
    assert (manifest(run)["status"] == "outlier").any()
    qc_run(run, make_config(QcConfig, {**off, "clusters": 0}), options=QUICK)
    rows = manifest(run)
    assert (rows["status"] == "ok").all()
    assert rows["reason"].isna().all()
    assert rows["outlier_reason"].isna().all()
    assert rows["cluster"].isna().all()


def test_the_same_call_again_changes_no_byte_of_the_manifest(run: Path) -> None:
    qc_run(run, FEW, options=QUICK)
    before = {name: path.read_bytes() for name, path in manifest_files(run).items()}
    kept = (run / "qc" / "clusters.json").read_bytes()
    qc_run(run, FEW, options=QUICK)
    qc_run(run, FEW, options=QcOptions(pictures=False, refit=True))
    assert {name: path.read_bytes() for name, path in manifest_files(run).items()} == before
    assert (run / "qc" / "clusters.json").read_bytes() == kept


def test_marking_clusters_marks_their_tiles_and_numbers_nothing_anew(run: Path) -> None:
    qc_run(run, FEW, options=QUICK)
    before = manifest(run)
    marked = make_config(QcConfig, {**FEW.model_dump(), "mark_clusters": "1,3"})
    outcome = qc_run(run, marked, options=QUICK)
    rows = manifest(run)
    assert rows["cluster"].equals(before["cluster"])
    assert (rows["outlier"] == (before["outlier"] | rows["cluster"].isin([1, 3]))).all()
    only = rows[~before["outlier"] & (rows["cluster"] == 3)]
    assert (only["outlier_reason"] == "cluster 3").all()
    assert (only["reason"] == "cluster 3").all()
    assert [each.cluster for each in outcome.clusters if each.marked] == [1, 3]
    qc_run(run, FEW, options=QUICK)
    pd.testing.assert_frame_equal(manifest(run), before)


def test_slides_that_come_later_do_not_renumber_clusters(cohort: Cohort, tmp_path: Path) -> None:
    first, second = (cohort.table.parent / f"{name}.tif" for name in ("sharp_0", "soft_0"))
    tile(tmp_path / "RUN", first, config=SETTINGS)
    qc_run(tmp_path / "RUN", FEW, options=QUICK)
    before = manifest(tmp_path / "RUN").set_index(["slide_id", "tile"])["cluster"]
    tile(tmp_path / "RUN", second, config=SETTINGS)
    qc_run(tmp_path / "RUN", FEW, options=QUICK)
    after = manifest(tmp_path / "RUN").set_index(["slide_id", "tile"])["cluster"]
    assert after.loc["sharp_0"].tolist() == before.loc["sharp_0"].tolist()
    assert len(after) > len(before)


def test_clusters_fitted_anew_beside_marks_are_said(run: Path) -> None:
    qc_run(run, FEW, options=QUICK)
    other = make_config(QcConfig, {"clusters": 5, "mark_clusters": "2"})
    (problem,) = qc_run(run, other, options=QUICK).problems
    assert "numbered anew (clusters: was 4, now 5)" in problem


def test_every_cluster_and_rule_has_a_collage_of_its_tiles(
    judged: tuple[Path, QcOutcome], whole: Path, tmp_path: Path
) -> None:
    run, outcome = judged
    names = {path.name for path in (run / "qc").glob("*.jpg")}
    marked = {rule.name for rule in RULES if manifest(run)[f"qc_{rule.name}"].any()}
    assert names == {f"rule_{name}.jpg" for name in marked} | {
        f"cluster_{each.cluster:02d}.jpg" for each in outcome.clusters
    }
    page = (run / "qc" / "index.html").read_text("utf-8")
    assert all(f'src="{name}"' in page for name in names)
    shutil.copytree(whole, tmp_path / "AGAIN")
    qc_run(tmp_path / "AGAIN", FEW)
    for name in names:
        assert (tmp_path / "AGAIN" / "qc" / name).read_bytes() == (run / "qc" / name).read_bytes()


def test_collages_that_are_out_of_date_go(run: Path) -> None:
    qc_run(run, FEW)
    qc_run(run, make_config(QcConfig, {"clusters": 2, "collage_tiles": 2, "pen": False}))
    names = {path.name for path in (run / "qc").glob("*.jpg")}
    assert {"cluster_01.jpg", "rule_blur.jpg"} <= names
    assert not {"cluster_03.jpg", "rule_pen.jpg"} & names


def test_a_run_without_pixels_is_judged_and_says_that_there_is_nothing_to_show(
    cohort: Cohort, tmp_path: Path
) -> None:
    config = TileConfig(tile_size=TILE_PX, overlap=0.0, store="none")
    slides = [cohort.table.parent / f"soft_{number}.tif" for number in (0, 1, 2)]
    tile(tmp_path / "RUN", *slides, config=config)
    outcome = qc_run(tmp_path / "RUN", FEW)
    assert "no collages: this run keeps no pixels (--store none)" in outcome.problems
    assert sum(slide.outliers for slide in outcome.slides) >= 9
    assert not list((tmp_path / "RUN" / "qc").glob("*.jpg"))


def test_a_lost_shard_costs_its_collages_and_nothing_else(run: Path) -> None:
    for shard in (run / "tiles.zarr").glob("*/c.*"):
        shard.write_bytes(shard.read_bytes()[:1000])
    outcome = qc_run(run, FEW)
    assert any("its index is damaged" in problem for problem in outcome.problems)
    assert (manifest(run)["status"] == "outlier").any()


def test_tiles_that_could_not_be_read_stay_unreadable(run: Path) -> None:
    path = run / "manifest" / "sharp_0.parquet"
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    metrics = {column.name for column in TILE_COLUMNS[TILE_COLUMNS.index(_first_metric()) :]}
    rows[4] |= dict.fromkeys(metrics) | {"status": "unreadable", "reason": "a reason"}
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    outcome = qc_run(run, FEW)
    after = pq.read_table(path, partitioning=None).to_pylist()
    assert (after[4]["status"], after[4]["reason"]) == ("unreadable", "a reason")
    assert (after[4]["outlier"], after[4]["cluster"], after[4]["qc_sharpness"]) == (
        False,
        None,
        None,
    )
    found = {slide.slide_id: slide for slide in outcome.slides}["sharp_0"]
    assert (found.unreadable, found.left) == (1, found.tiles - 1 - found.outliers)


def _first_metric() -> Any:  # noqa: ANN401
    return next(column for column in TILE_COLUMNS if column.name == "laplacian_var")


def test_slides_without_tiles_and_scanners_with_numbers_for_names_are_no_trouble(
    cohort: Cohort, tmp_path: Path
) -> None:
    for name in ("glass", "more"):
        Image.fromarray(np.full((400, 500, 3), 243, np.uint8)).save(tmp_path / f"{name}.png")
    lines = ["path,slide_id,scanner", "glass.png,glass,7", "more.png,more,"]
    (tmp_path / "slides.csv").write_text("\n".join(lines))
    tile(tmp_path / "RUN", tmp_path / "slides.csv", config=SETTINGS)
    empty = qc_run(tmp_path / "RUN", FEW)
    assert [slide.tiles for slide in empty.slides] == [0, 0]
    assert (empty.empty, empty.clusters) == ((), ())
    lines.append(f"{cohort.table.parent / 'soft_0.tif'},soft_0,7")
    (tmp_path / "slides.csv").write_text("\n".join(lines))
    tile(tmp_path / "RUN", tmp_path / "slides.csv", config=SETTINGS)
    outcome = qc_run(tmp_path / "RUN", FEW)
    assert [(slide.scanner, slide.tiles > 0) for slide in outcome.slides] == [
        ("7", False),
        (None, False),
        ("7", True),
    ]
    assert len(outcome.clusters) == 4
    assert set(manifest(tmp_path / "RUN")["slide_id"]) == {"soft_0"}


def test_the_command_shows_the_table_and_leaves_with_1_for_a_slide_without_tiles(
    run: Path, cohort: Cohort, wsi: Command
) -> None:
    ended = wsi("qc", run, "--clusters", "3")
    assert ended.code == 1
    assert f"failed: {cohort.unfocused}: no tile of it is left" in ended.err
    assert "unfocused" in ended.out
    assert "nothing is deleted" in ended.out
    ended = wsi("qc", run, "--without", "unfocused", "--without", "blur", "--json", "--no-pictures")
    assert ended.code == 0
    said = json.loads(ended.out)
    assert said["marks"]["unfocused"] == said["marks"]["blur"] == 0
    assert said["slides_without_tiles"] == []


def test_a_dry_run_says_the_same_and_writes_nothing(run: Path, wsi: Command) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    dry = json.loads(wsi("qc", run, "--dry-run", "--json").out)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    done = json.loads(wsi("qc", run, "--no-pictures", "--json").out)
    assert dry == done


def test_settings_come_from_a_file_and_flags_win(run: Path, wsi: Command, tmp_path: Path) -> None:
    settings = tmp_path / "qc.yaml"
    settings.write_text("clusters: 5\ncluster_metrics: [laplacian_var, red_mean]\npen: false\n")
    ended = wsi("qc", run, "--config", settings, "--clusters", "2", "--json", "--no-pictures")
    assert len(json.loads(ended.out)["clusters"]) == 2
    summary = json.loads((run / "qc.json").read_text("utf-8"))
    assert summary["config"]["cluster_metrics"] == ["laplacian_var", "red_mean"]
    assert not summary["config"]["pen"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mark-clusters", "x"), "mark_clusters: expected numbers of clusters"),
        (("--clusters", "3", "--mark-clusters", "3"), "mark_clusters: expected numbers below 3"),
        (("--without", "ink"), "unknown rule ink"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], said: str, whole: Path, wsi: Command
) -> None:
    ended = wsi("qc", whole, *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not (whole / "qc.json").exists()


def test_a_run_that_is_not_there_or_in_use_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found no run\.json"):
        qc_run(tmp_path / "nothing", FEW)
    with (
        sole_use(RunDirectory(path=run), part=1, parts=1),
        pytest.raises(ConfigError, match="another run is working there"),
    ):
        qc_run(run, FEW, options=QUICK)


@pytest.mark.skipif(not REAL_SLIDES.exists(), reason="no ../shared/slides here")
def test_the_ink_and_the_lost_corners_of_real_slides_are_found(tmp_path: Path) -> None:
    names = ("aperio_jpeg_he.svs", "aperio_jpeg2000_he.svs", "ome_tiff_he.ome.tif")
    slides = [REAL_SLIDES / name for name in (*names, "biopsy_with_ink.jpeg")]
    tile(tmp_path / "RUN", *slides, config=TileConfig(tile_size=256))
    qc_run(tmp_path / "RUN", QcConfig())
    rows = manifest(tmp_path / "RUN")
    inked = rows[rows["qc_pen"]]
    assert set(inked["slide_id"]) == {"biopsy_with_ink"}
    assert (inked["qc_ink"] == "blue").all()
    assert inked["x"].between(3400, 4200).all()
    for rgb in stored(tmp_path / "RUN", "biopsy_with_ink")[inked["tile"].to_numpy()]:
        red, green, blue = np.moveaxis(rgb, 2, 0)
        assert ((blue > 100) & (red < green)).mean() > 0.1
    white = rows[rows["qc_white"]]
    assert set(white["slide_id"]) == {"biopsy_with_ink", "aperio_jpeg2000_he"}
    others = rows[~rows["qc_pen"] & ~rows["qc_white"]]
    assert others["outlier"].mean() < 0.01
