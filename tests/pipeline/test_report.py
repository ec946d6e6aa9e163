"""The report of whole runs: it shows what there is, names what there is not, and says nothing untrue."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.invented import write_run
from tests.pipeline.runs import Command, Drawn, manifest, tile
from tests.written_runs import WrittenSlide, record_of
from tests.written_runs import write_run as written_run
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.report.settings import ReportConfig
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.stages import columns
from wsi_pipeline.stages.columns import add_columns, words
from wsi_pipeline.stages.report import report_run
from wsi_pipeline.stages.run_directory import RunDirectory, publish_slides_table, write_record
from wsi_pipeline.stages.split import split_run
from wsi_pipeline.stages.split_audit import audit_split

MADE = "2026-01-01T00:00:00+00:00"


@pytest.fixture(scope="module")
def whole(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four slides of three patients and two scanners, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("reported")
    (folder / "broken.svs").write_bytes(b"no slide")
    lines = ["path,slide_id,patient_id,scanner,centre,stain"]
    for number, path in enumerate((drawn.dark, drawn.flat, drawn.he, drawn.plain)):
        lines.append(
            f"{path},{path.stem},P{number // 2},{'AB'[number % 2]},C{number % 2},H&E <{number}>"
        )
    lines.append(f"{folder / 'broken.svs'},broken,P9,A,C0,")
    (folder / "slides.csv").write_text("\n".join(lines))
    tile(folder / "RUN", folder / "slides.csv", config=TileConfig(tile_size=128))
    return folder / "RUN"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole, tmp_path / "RUN")
    return RunDirectory(path=tmp_path / "RUN")


def html_of(run: Path, config: ReportConfig | None = None) -> str:
    return report_run(run, config, made=MADE).path.read_text(encoding="utf-8")


def data_of(html: str, name: str) -> Any:  # noqa: ANN401  JSON
    found = re.search(
        f'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL
    )
    return found and json.loads(found.group(1))


def rows_of(html: str, name: str) -> dict[str, dict[str, Any]]:
    """Return a table's rows by their first cell."""
    data = data_of(html, f"{name}-data")
    labels = [field["label"] for field in data["fields"]]
    return {str(row[0]): dict(zip(labels, row, strict=True)) for row in data["rows"]}


def test_a_run_that_was_only_cut_names_the_commands_that_add_to_it(run: RunDirectory) -> None:
    html = html_of(run.path)
    for command in ("label RUN --annotations DIR", "qc RUN", "split RUN"):
        assert f"<code>wsi-pipeline {command}</code>" in html
    assert "Leakage audit" in html


def test_the_table_of_slides_says_what_the_manifest_says(run: RunDirectory) -> None:
    rows, tiles = rows_of(html_of(run.path), "cohort"), manifest(run.path)
    assert set(rows) == {"broken", "dark", "flat", "he", "plain"}
    for slide_id, own in tiles.groupby("slide_id", observed=True):
        row = rows[str(slide_id)]
        assert row["tiles"] == len(own)
        assert row["median sharpness"] == pytest.approx(own["laplacian_var"].median(), rel=1e-4)
    assert rows["he"]["stain"] == "H&E <2>"
    assert rows["broken"]["status"] == "failed"


def test_a_slide_that_failed_is_named_with_its_reason(run: RunDirectory) -> None:
    html = html_of(run.path)
    row = rows_of(html, "failed-slides")["broken"]
    assert row["reason"]
    assert row["file"].endswith("broken.svs")
    assert "No slide failed" not in html


def test_what_label_and_qc_lost_is_among_the_failures(tmp_path: Path) -> None:
    run = write_run(tmp_path / "RUN", slides=2, tiles=30, later=False)

    def failures() -> str:
        return html_of(run.path).split('id="problems"')[1].split("</section>")[0]

    def nothing(_slide_id: str, table: pa.Table) -> columns.Columns:
        return {"label": words([None] * len(table))}

    def marked(_slide_id: str, table: pa.Table) -> columns.Columns:
        return {"outlier": pa.array([True] * len(table))}

    assert "No slide failed" in failures()
    ids = [path.stem for path in sorted(run.path.glob("manifest/*.parquet"))]
    add_columns(run, "label", nothing, slide_ids=ids, about={"failed": ids[:1]})
    add_columns(run, "qc", marked, slide_ids=ids, about={"slides_without_tiles": ids[1:]})
    assert f"annotations cannot be used: {ids[0]}." in failures()
    assert f"single good tile by qc: {ids[1]}." in failures()
    assert "No slide failed" not in failures()


def test_a_misspelt_group_is_refused(run: RunDirectory) -> None:
    assert html_of(run.path, ReportConfig(groups=["stain"]))
    with pytest.raises(
        ConfigError, match=r"groups: no slide of .* has scaner; slides have .*scanner"
    ):
        report_run(run.path, ReportConfig(groups=["scaner"]))


def test_the_same_run_gives_the_same_bytes(run: RunDirectory) -> None:
    first = html_of(run.path)
    assert html_of(run.path) == first
    later = report_run(run.path, made="2027-02-02T00:00:00+00:00").path.read_text(encoding="utf-8")
    assert later.replace("2027-02-02T00:00:00+00:00", MADE) == first


def test_a_report_changes_nothing_else_in_the_run(run: RunDirectory) -> None:
    def content() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in run.path.rglob("*")
            if path.is_file() and path.name != "report.html"
        }

    before = content()
    report_run(run.path)
    assert content() == before


def add_everything(run: RunDirectory) -> None:
    """Add invented labels, marks and a split in which patient P0 is in both parts."""
    slides = ("dark", "flat", "he", "plain")

    def labelled(_slide_id: str, table: pa.Table) -> columns.Columns:
        return {"label": words(["a" if tile_ % 2 else None for tile_ in range(len(table))])}

    def marked(slide_id: str, table: pa.Table) -> columns.Columns:
        blur = np.arange(len(table)) < (len(table) if slide_id == "dark" else 3)
        none = np.zeros(len(table), np.bool_)
        return {
            "outlier": pa.array(blur),
            "qc_blur": pa.array(blur),
            "qc_pen": pa.array(none),
        }

    def divided(slide_id: str, table: pa.Table) -> columns.Columns:
        return {"split": words(["test" if slide_id == "flat" else "train"] * len(table))}

    add_columns(run, "label", labelled, slide_ids=slides, about={"settings": {"threshold": 0.5}})
    add_columns(run, "qc", marked, slide_ids=slides, about={"problems": ["one of them"]})
    add_columns(run, "split", divided, slide_ids=slides, about={})


def test_labels_marks_and_parts_are_counted(run: RunDirectory) -> None:
    add_everything(run)
    html, tiles = html_of(run.path), manifest(run.path)
    labels, parts = rows_of(html, "label-counts"), rows_of(html, "split-counts")
    assert labels["a"]["tiles"] == (tiles["label"] == "a").sum()
    assert labels["a"]["tiles"] + labels["no label"]["tiles"] == len(tiles)
    assert parts["test"]["tiles"] == (tiles["slide_id"] == "flat").sum()
    assert (parts["train"]["slides"], parts["train"]["patients"]) == (3, 2)
    shares = rows_of(html, "split-label")
    own = tiles[tiles["split"] == "test"]
    assert shares["test"]["a"] == pytest.approx((own["label"] == "a").mean(), rel=1e-4)
    assert rows_of(html, "rules")["blur"]["tiles"] == tiles["qc_blur"].sum()
    assert rows_of(html, "outliers")["he"]["outliers"] == 3
    assert "Left without a single good tile: dark." in html
    assert "Settings of label" in html
    assert "one of them" in html


def test_a_patient_in_two_parts_is_a_leak_that_one_sees(run: RunDirectory) -> None:
    add_everything(run)
    leaks = data_of(html_of(run.path), "leaks-data")["rows"]
    assert any(kind == "patient" and "P0" in text for kind, text in leaks)


def test_a_patient_that_was_corrected_in_the_slide_table_is_audited_as_split_does(
    tmp_path: Path,
) -> None:
    slides = [WrittenSlide(slide_id=f"s{number}", patient_id=f"P{number}") for number in range(4)]
    path = written_run(tmp_path / "RUN", slides)
    split_run(path, SplitConfig(test=1, validation=1))
    assert not data_of(html_of(path), "leaks-data")
    for number, slide in enumerate(slides):
        record = record_of(replace(slide, patient_id="P0"), number, tiles=36)
        write_record(RunDirectory(path=path), record)
    publish_slides_table(RunDirectory(path=path))
    leaks = data_of(html_of(path), "leaks-data")["rows"]
    assert [text for _, text in leaks] == [leak.text for leak in audit_split(path).leaks]
    assert "patient P0 is in train" in leaks[0][1]


def test_slides_are_coloured_by_every_column_that_is_there_or_asked_for(run: RunDirectory) -> None:
    def names(config: ReportConfig | None = None) -> list[str]:
        return [each["name"] for each in data_of(html_of(run.path, config), "maps-data")["columns"]]

    assert names() == ["tissue", "laplacian_var"]
    add_everything(run)
    assert names() == ["tissue", "laplacian_var", "label", "split", "outlier"]
    assert names(ReportConfig(columns=["hue_q50", "qc_pen"])) == ["hue_q50", "qc_pen"]
    with pytest.raises(
        ConfigError, match=r"columns: no slide of .* has colour; there are slide_id, tile"
    ):
        report_run(run.path, ReportConfig(columns=["colour"]))


def test_pictures_have_no_marks_unless_there_are_no_others(run: RunDirectory) -> None:
    html = html_of(run.path)
    assert "marks were kept" not in html
    run.thumbnail("he").unlink()
    run.thumbnail("dark").unlink()
    run.overlay("dark").unlink()
    html = html_of(run.path)
    assert "1 slides were cut before pictures without marks were kept" in html
    pictures = {each["id"]: each["picture"] for each in data_of(html, "maps-data")["slides"]}
    assert pictures["dark"] is None
    assert all(pictures[name] for name in ("flat", "he", "plain"))


def test_scanners_that_hardly_overlap_are_said(run: RunDirectory, tmp_path: Path) -> None:
    far = write_run(tmp_path / "FAR", slides=6, tiles=300)
    html = html_of(far.path)
    pairs = data_of(html, "pairs-sharpness-by-scanner-data")["rows"]
    assert len(pairs) == 3
    assert all(0 <= overlap <= 1 and 0 <= ks <= 1 for _, _, overlap, ks, _ in pairs)
    assert "hardly overlap in laplacian_var" in html
    # Here both columns divide the slides alike, so the second says nothing new.
    assert "centre divides the tiles as scanner does." in html_of(run.path)


def test_a_run_without_pixels_says_so(drawn: Drawn, tmp_path: Path) -> None:
    tile(tmp_path / "RUN", drawn.he, config=TileConfig(tile_size=128, store="none"))
    html = html_of(tmp_path / "RUN")
    assert "This run keeps coordinates and metrics only." in html
    assert 'class="collage"' not in html


def test_a_run_of_which_nothing_is_done_still_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "broken.svs").write_bytes(b"no slide")
    tile(tmp_path / "RUN", tmp_path / "broken.svs")
    html = html_of(tmp_path / "RUN")
    assert "No slide is done." in html
    assert rows_of(html, "failed-slides").keys() == {"broken"}


def test_slides_without_tiles_have_a_page_too(tmp_path: Path) -> None:
    blank = np.full((600, 700, 3), 243, dtype=np.uint8)
    write_pyramid(tmp_path / "blank.tif", blank, mpp=0.5)
    tile(tmp_path / "RUN", tmp_path / "blank.tif")
    html = html_of(tmp_path / "RUN")
    assert rows_of(html, "cohort")["blank"]["tiles"] == 0
    assert "0 tiles" in rows_of(html, "noted-slides")["blank"]["reason"]


def test_a_run_under_way_is_said_to_be(run: RunDirectory) -> None:
    about = json.loads(run.run_json.read_text(encoding="utf-8"))
    run.run_json.write_text(json.dumps({**about, "ended": None}), encoding="utf-8")
    assert "The last tile command has not ended" in html_of(run.path)


def test_extremes_are_the_extremes(run: RunDirectory) -> None:
    html, tiles = html_of(run.path, ReportConfig(extremes=1)), manifest(run.path)
    sharpest = tiles.sort_values("laplacian_var").iloc[-1]
    assert f"{sharpest['slide_id']}, tile {sharpest['tile']}" in html
    assert html.count('class="collage"') == 6
    assert 'class="collage"' not in html_of(run.path, ReportConfig(extremes=0))


def test_a_lost_shard_costs_its_pictures_only(run: RunDirectory) -> None:
    shutil.rmtree(run.array("he"))
    html = html_of(run.path)
    assert 'class="collage"' in html
    assert 'alt="Sharpest: he' not in html


def test_a_page_is_as_small_as_it_is_asked_to_be(tmp_path: Path) -> None:
    run = write_run(tmp_path / "RUN", slides=60, tiles=2000, later=False)
    noisy = ["gray_mean", "red_mean", "green_mean", "blue_mean", "hue_mean", "laplacian_var"]
    outcome = report_run(run.path, ReportConfig(max_mb=0.4, columns=noisy), made=MADE)
    assert outcome.size_bytes <= 400_000
    assert 0 < outcome.slides_pictured < 60
    assert outcome.slides_pictured + outcome.slides_left_out == 60
    html = outcome.path.read_text(encoding="utf-8")
    assert f"{outcome.slides_pictured} slides of 60 are pictured, chosen by lot" in html
    assert len(rows_of(html, "cohort")) == 60
    larger = report_run(run.path, ReportConfig(max_mb=0.5, columns=noisy))
    assert larger.slides_pictured > outcome.slides_pictured


def test_a_change_that_was_cut_off_is_finished_first(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "finish_change", lambda _: None)
    add_everything(run)
    monkeypatch.undo()
    assert "split-counts" in html_of(run.path)


def test_the_command_writes_the_page_and_says_where(run: RunDirectory, wsi: Command) -> None:
    ended = wsi("report", run.path)
    assert ended.code == 0
    assert ended.out.startswith(f"{run.path / 'report.html'}: 5 slides,")
    said = json.loads(wsi("report", run.path, "--json", "--columns", "tissue, hue_mean").out)
    assert said["size_bytes"] == (run.path / "report.html").stat().st_size
    assert said["slides_pictured"] == 4
    assert wsi("report", run.path, "--quiet").out == ""


def test_settings_come_from_a_file_and_unknown_ones_are_refused(
    run: RunDirectory, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "report.yaml").write_text("columns: [gray_mean]\nextremes: 0\n")
    assert wsi("report", run.path, "--config", tmp_path / "report.yaml").code == 0
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert [each["name"] for each in data_of(html, "maps-data")["columns"]] == ["gray_mean"]
    (tmp_path / "report.yaml").write_text("colums: [gray_mean]\n")
    ended = wsi("report", run.path, "--config", tmp_path / "report.yaml")
    assert ended.code == 2
    assert "unknown key colums (did you mean columns?)" in ended.err


def test_what_is_no_run_is_refused(tmp_path: Path, wsi: Command) -> None:
    ended = wsi("report", tmp_path)
    assert ended.code == 2
    assert "expected a run directory, found no run.json in it" in ended.err
    assert list(tmp_path.iterdir()) == []
