"""``label``: shares and labels in the manifest, from every kind of source, and all said that matters."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.pipeline.annotating import labelled, rectangle, write_asap, write_geojson
from tests.pipeline.runs import Command, Drawn, manifest
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.stages.columns import read_summary
from wsi_pipeline.stages.label import label_run
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.verify import verify_run

SLIDES = ("dark", "flat", "he", "plain")


def left_half(
    rows: pd.DataFrame, *, edge: float = 450.0, canvas: tuple[int, int] = (900, 700)
) -> "pd.Series[float]":
    """Return each row's share of what is left of an edge and on the slide."""
    across = ((rows["x"] + rows["width"]).clip(upper=edge) - rows["x"]).clip(lower=0)
    down = (rows["y"] + rows["height"]).clip(upper=canvas[1]) - rows["y"]
    return across * down / (rows["width"] * rows["height"])


def test_every_kind_of_annotation_gives_the_same_shares(
    run: Path, drawings: Path, wsi: Command
) -> None:
    write_geojson(drawings / "dark.geojson.gz", [rectangle("tumor", 0, 0, 450, 700)])
    write_asap(drawings / "flat.xml", "tumor", [(0, 0), (450, 0), (450, 700), (0, 700)])
    mask = np.zeros((350, 450), dtype=np.uint8)
    mask[:, :225] = 5
    Image.fromarray(mask).save(drawings / "he_mask.png")
    Image.fromarray(mask[::5, ::5]).save(drawings / "plain-labels.tif")
    settings = drawings.parent / "label.yaml"
    settings.write_text("mask_values: {tumor: 5}\nunlabelled: rest\nmixed: border\n")
    ended = wsi("label", run, "--annotations", drawings, "--config", settings)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    rows = manifest(run)
    assert set(rows["slide_id"]) == set(SLIDES)
    np.testing.assert_allclose(rows["label_share_tumor"], left_half(rows), atol=1e-6)
    share = rows["label_share_tumor"]
    expected = np.where(share >= 0.5, "tumor", np.where(share == 0, "rest", "border"))
    assert rows["label"].tolist() == expected.tolist()
    assert {"tumor", "rest", "border"} == set(expected)
    assert list(rows.columns[-5:]) == [
        "patient_id",
        "scanner",
        "centre",
        "label",
        "label_share_tumor",
    ]
    assert verify_run(run).findings == ()
    assert "tumor" in ended.out
    assert "all" in ended.out.splitlines()[-1]


def test_label_json_says_what_was_done(run: Path, drawings: Path, wsi: Command) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 450, 700)])
    assert wsi("label", run, "--annotations", drawings, "--threshold", "0.9").code == 0
    said = read_summary(RunDirectory(path=run), "label")
    assert said is not None
    assert said["config"]["threshold"] == 0.9
    assert said["config_digest"] == LabelConfig(annotations=str(drawings), threshold=0.9).digest()
    assert said["classes"] == ["tumor"]
    assert said["versions"].keys() >= {"shapely", "geos", "wsi-pipeline"}
    slides = {each["slide_id"]: each for each in said["slides"]}
    assert slides["he"]["annotation"] == str(drawings / "he.geojson")
    assert slides["he"]["shapes"] == 1
    assert slides["he"]["labels"] == {"tumor": int((manifest(run)["label"] == "tumor").sum())}
    assert slides["plain"]["annotation"] is None
    assert said["lists"] == {"slides without an annotation": ["dark", "flat", "plain"]}


def test_a_slide_without_an_annotation_is_unknown_and_not_negative(
    run: Path, drawings: Path, wsi: Command
) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 450, 700)])
    ended = wsi("label", run, "--annotations", drawings, "--unlabelled", "benign")
    assert ended.code == 0
    assert "note: slides without an annotation: 3 (dark, flat, plain)" in ended.err
    assert labelled(run, "plain")[["label", "label_share_tumor"]].isna().to_numpy().all()
    assert labelled(run, "he")["label"].isin(["tumor", "benign"]).any()
    ended = wsi(
        "label",
        run,
        "--annotations",
        drawings,
        "--unlabelled",
        "benign",
        "--no-annotation",
        "nothing",
    )
    assert set(labelled(run, "plain")["label"]) == {"benign"}
    assert set(labelled(run, "plain")["label_share_tumor"]) == {0.0}


def test_everything_odd_is_named_and_counted(run: Path, drawings: Path, wsi: Command) -> None:
    bow = rectangle("tumor", 0, 0, 100, 100)
    bow["geometry"]["coordinates"] = [[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]]
    point = rectangle("tumor", 0, 0, 1, 1)
    point["geometry"] = {"type": "Point", "coordinates": [3, 4]}
    features = [
        bow,
        point,
        rectangle("tumor", 50, 50, 200, 200),
        rectangle("stroma", 100, 100, 200, 200),
        rectangle("Ignore*", 0, 0, 9, 9),
        rectangle(None, 0, 0, 9, 9),
        rectangle("stroma", 800, 600, 200, 200),
        rectangle("stroma", 5000, 600, 200, 200),
    ]
    write_geojson(drawings / "he.geojson", features)
    write_geojson(drawings / "nobody.geojson", [])
    write_geojson(drawings / "plain.geojson", [])
    ended = wsi("label", run, "--annotations", drawings, "--classes", "tumor,stroma,fat", "--json")
    assert ended.code == 0
    said = json.loads(ended.out)
    found = {
        (each["kind"], each["name"]): each["count"]
        for slide in said["slides"]
        for each in slide["findings"]
    }
    assert found == {
        ("without area", "Point"): 1,
        ("without class", ""): 1,
        ("unknown class", "Ignore*"): 1,
        ("repaired", "tumor"): 1,
        ("outside", "stroma"): 2,
        ("overlap", "tumor"): 1,
        ("overlap of classes", "stroma, tumor"): 1,
    }
    assert said["lists"] == {
        "annotations without a slide in this run": ["nobody.geojson"],
        "slides without an annotation": ["dark", "flat"],
        "classes of the configuration that no annotation holds": ["fat"],
    }
    assert "note: he: shapes of the unknown class 'Ignore*': 1 left out" in ended.err
    assert "2, 1 of them wholly outside, the furthest by 4300 px" in ended.err
    shares = labelled(run, "he")
    assert (shares["label_share_fat"] == 0).all()
    assert "label_share_Ignore*" not in shares


def test_classes_that_differ_only_in_capitals_are_said(
    run: Path, drawings: Path, wsi: Command
) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("Tumor", 0, 0, 300, 300)])
    write_geojson(drawings / "plain.geojson", [rectangle("tumor", 0, 0, 300, 300)])
    settings = drawings.parent / "label.yaml"
    settings.write_text("rename: {Tumor: tumor}\n")
    ended = wsi("label", run, "--annotations", drawings)
    assert "only in capitals (rename makes them one): 2 (Tumor, tumor)" in ended.err
    ended = wsi("label", run, "--annotations", drawings, "--config", settings)
    assert "capitals" not in ended.err
    assert set(manifest(run)["label"].dropna()) == {"tumor"}


def test_a_slide_without_a_tile_gets_its_columns(
    drawn: Drawn, drawings: Path, tmp_path: Path, wsi: Command
) -> None:
    Image.fromarray(np.full((700, 900, 3), 245, dtype=np.uint8)).save(tmp_path / "glass.png")
    run = tmp_path / "RUN"
    assert wsi("tile", tmp_path / "glass.png", drawn.he, "-o", run, "--tile-size", "128").code == 0
    Image.fromarray(np.ones((70, 90), dtype=np.uint8)).save(drawings / "glass.png")
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 900, 700)])
    settings = drawings.parent / "label.yaml"
    settings.write_text("mask_values: {tumor: 1}\n")
    ended = wsi("label", run, "--annotations", drawings, "--config", settings)
    assert ended.code == 0, ended.err
    assert len(labelled(run, "glass")) == 0
    assert labelled(run, "he")["label_share_tumor"].max() == 1
    write_geojson(drawings / "he.geojson", [])
    (drawings / "glass.png").unlink()
    assert wsi("label", run, "--annotations", drawings, "--unlabelled", "benign").code == 0
    assert set(manifest(run)["label"]) == {"benign"}


def test_holes_and_priorities_of_the_configuration_hold(run: Path, drawings: Path) -> None:
    features = [
        rectangle("tumor", 0, 0, 900, 700),
        rectangle("stroma", 0, 0, 900, 700),
        rectangle("Exclude", 0, 0, 450, 700),
    ]
    write_geojson(drawings / "he.geojson", features)
    config = LabelConfig(annotations=str(drawings), holes=("Exclude",), priority=("tumor",))
    label_run(run, config)
    rows = labelled(run, "he")
    whole = left_half(rows, edge=900)
    np.testing.assert_allclose(rows["label_share_stroma"], whole - left_half(rows), atol=1e-6)
    assert set(rows["label"].dropna()) == {"tumor"}


def test_a_slide_label_is_taken_by_every_tile(run: Path, wsi: Command) -> None:
    ended = wsi("label", run, "--slide-label", "grade")
    assert ended.code == 0
    assert "note: slides without a value in grade: 1 (flat)" in ended.err
    rows = manifest(run).drop_duplicates("slide_id").set_index("slide_id")
    assert rows["label"].replace({np.nan: None}).to_dict() == {
        "dark": "0",
        "flat": None,
        "he": "2",
        "plain": "3",
    }
    assert rows["label_value"].replace({np.nan: None}).to_dict() == {
        "dark": 0,
        "flat": None,
        "he": 2,
        "plain": 3,
    }
    assert wsi("label", run, "--slide-label", "group").code == 0
    rows = manifest(run)
    assert (rows["label"] == "g" + rows["slide_id"].astype(str)).all()
    assert rows["label_value"].isna().all()


def test_a_slide_label_is_the_rest_of_an_annotated_slide(run: Path, drawings: Path) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 450, 700)])
    label_run(run, LabelConfig(annotations=str(drawings), slide_label="group"))
    rows = manifest(run)
    he = rows["slide_id"] == "he"
    expected = np.where(rows.loc[he, "label_share_tumor"] >= 0.5, "tumor", "ghe")
    assert rows.loc[he, "label"].tolist() == expected.tolist()
    assert (rows.loc[~he, "label"] == "g" + rows.loc[~he, "slide_id"].astype(str)).all()


def test_labels_given_again_replace_the_earlier_ones(run: Path, drawings: Path) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 450, 700)])
    label_run(run, LabelConfig(annotations=str(drawings)))
    once = (run / "manifest" / "he.parquet").read_bytes()
    label_run(run, LabelConfig(slide_label="grade"))
    assert "label_share_tumor" not in manifest(run)
    label_run(run, LabelConfig(annotations=str(drawings)))
    assert "label_value" not in manifest(run)
    assert (run / "manifest" / "he.parquet").read_bytes() == once


def test_a_dry_run_writes_nothing(run: Path, drawings: Path, wsi: Command) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 450, 700)])
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    ended = wsi("label", run, "--annotations", drawings, "--dry-run")
    assert ended.code == 0
    assert "nothing was written" in ended.out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_table_names_annotations_relative_to_itself(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "study" / "outlines").mkdir(parents=True)
    write_geojson(
        tmp_path / "study" / "outlines" / "first.json", [rectangle("tumor", 0, 0, 450, 700)]
    )
    write_geojson(tmp_path / "study" / "plain.geojson", [rectangle("fat", 0, 0, 900, 700)])
    write_geojson(tmp_path / "study" / "he.geojson", [rectangle("stroma", 0, 0, 900, 700)])
    table = tmp_path / "study" / "slides.csv"
    lines = [f"{drawn.he},outlines/first.json", f"{drawn.plain},", f"{drawn.flat},lost.json"]
    table.write_text("\n".join(["path,annotation", *lines]))
    run = tmp_path / "RUN"
    assert wsi("tile", table, "-o", run, "--tile-size", "128").code == 0
    ended = wsi("label", run)
    assert ended.code == 1
    assert "failed: flat: annotation: the slide table names " in ended.err
    assert "lost.json, and there is no such file" in ended.err
    assert labelled(run, "flat")["label_share_tumor"].isna().all()
    assert labelled(run, "he")["label_share_tumor"].max() == 1
    ended = wsi("label", run, "--annotations", tmp_path / "study")
    assert "note: annotations without a slide in this run: 1 (he.geojson)" in ended.err
    assert labelled(run, "plain")["label_share_fat"].max() == 1


def test_a_run_that_somebody_works_on_is_left_alone(run: Path, wsi: Command) -> None:
    with sole_use(RunDirectory(path=run), part=1, parts=1):
        ended = wsi("label", run, "--slide-label", "grade")
    assert ended.code == 2
    assert "another run is working there" in ended.err


def test_the_function_says_what_the_command_says(run: Path, drawings: Path) -> None:
    write_geojson(drawings / "he.geojson", [rectangle("tumor", 0, 0, 450, 700)])
    outcome = label_run(run, LabelConfig(annotations=str(drawings)), dry_run=True)
    assert outcome.classes == ("tumor",)
    assert outcome.failed == ()
    assert outcome.notes == ("slides without an annotation: 3 (dark, flat, plain)",)
    with pytest.raises(ConfigError, match="expected a run directory"):
        label_run(drawings, LabelConfig(slide_label="grade"))
