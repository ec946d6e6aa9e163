"""Tiles that exist already become a run: their bytes, their labels, and what cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.pipeline.images import (
    SIDE,
    class_folders,
    encoded,
    histoprep_slide,
    parquet_of_images,
    pixels,
    stored_bytes,
)
from tests.pipeline.runs import REPOSITORY, Command, leftovers, manifest, rows_of, slides_of, stored
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.schema import METRIC_COLUMNS, SLIDE_WORDS, TILE_COLUMNS
from wsi_pipeline.stages.columns import add_columns, read_summary
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles, plan_import
from wsi_pipeline.stages.qc import QcOptions, qc_run
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.verify import verify_run
from wsi_pipeline.store.codec import decode_tile
from wsi_pipeline.tiles.arrays import image_arrays
from wsi_pipeline.tiles.metrics import tile_metrics

PCAM = REPOSITORY.parent / "shared" / "pcam" / "pcam.parquet"


def import_(source: Path, run: Path, **settings: object) -> None:
    outcome = import_tiles(source, run, ImportConfig(**settings))  # type: ignore[arg-type]
    assert outcome.tiling.with_status("failed") == ()
    assert verify_run(run).findings == ()
    assert leftovers(run) == []


def table_of(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tiles.csv").write_text(text, encoding="utf-8")
    return folder / "tiles.csv"


def test_class_folders_become_labels_and_bytes_stay(tmp_path: Path) -> None:
    written = class_folders(tmp_path / "NCT", {"TUM": 70, "STR": 3})
    import_(tmp_path / "NCT", tmp_path / "RUN")
    rows = manifest(tmp_path / "RUN")
    assert rows["label"].value_counts().to_dict() == {"TUM": 70, "STR": 3}
    assert rows["source_path"].tolist() == list(written)
    assert stored_bytes(tmp_path / "RUN", "NCT") == list(written.values())
    assert rows["mpp"].isna().all()
    assert rows["tissue"].isna().all()
    assert (rows[["x", "y", "width", "height"]] == [0, 0, SIDE, SIDE]).all().all()


def test_metrics_are_those_of_the_stored_pixels(tmp_path: Path) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 5})
    import_(tmp_path / "NCT", tmp_path / "RUN", threshold=200)
    rows = rows_of(tmp_path / "RUN", "NCT")
    for row, data in zip(rows, stored_bytes(tmp_path / "RUN", "NCT"), strict=True):
        assert data is not None
        rgb = decode_tile(data, "jpeg:90", tile_size=SIDE)
        for name, value in tile_metrics(rgb, threshold=200).items():
            assert row[name] == np.float32(value)
    assert slides_of(tmp_path / "RUN")["NCT"]["tissue_threshold"] == 200


def test_columns_stand_where_tiling_and_the_stages_put_them(tmp_path: Path) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2})
    import_(tmp_path / "NCT", tmp_path / "RUN")
    tiling = [column.name for column in TILE_COLUMNS]
    assert list(manifest(tmp_path / "RUN")) == [*tiling, "source_path", *SLIDE_WORDS, "label"]


@pytest.mark.parametrize("csv", [False, True])
def test_a_histoprep_folder(*, csv: bool, tmp_path: Path) -> None:
    written = {
        name: histoprep_slide(tmp_path / "HP" / name, tiles=count, csv=csv)
        for name, count in {"slide_1": 5, "s2": 70}.items()
    }
    import_(tmp_path / "HP", tmp_path / "RUN")
    for name, tiles in written.items():
        assert stored_bytes(tmp_path / "RUN", name) == tiles
    rows = rows_of(tmp_path / "RUN", "s2")
    assert [(row["x"], row["y"]) for row in rows[:4]] == [(0, 0), (80, 0), (160, 0), (0, 80)]
    assert {(row["width"], row["height"], row["level"]) for row in rows} == {(96, 96, 1)}
    assert {row["laplacian_std"] for row in rows} == {3.5}
    assert {row["gray_mean"] for row in rows} != {1.0}, "metrics are measured, not copied"
    made_anew = (read_summary(RunDirectory(path=tmp_path / "RUN"), "import") or {})["sources"][0]
    assert made_anew["columns_made_anew"] == ["background", "gray_mean"]


def test_one_slide_of_histoprep_alone(tmp_path: Path) -> None:
    written = histoprep_slide(tmp_path / "only", tiles=3)
    import_(tmp_path / "only", tmp_path / "RUN")
    assert stored_bytes(tmp_path / "RUN", "only") == written


def test_metrics_of_the_source_are_taken_where_that_is_asked_for(tmp_path: Path) -> None:
    histoprep_slide(tmp_path / "HP", tiles=3)
    outcome = import_tiles(tmp_path / "HP", tmp_path / "RUN", ImportConfig(keep_metrics=True))
    assert outcome.plan.catalog.measured_again == ()
    rows = rows_of(tmp_path / "RUN", "HP")
    assert {row["background"] for row in rows} == {0.25}
    assert all(row["laplacian_var"] is not None for row in rows), "what it lacks is measured"


def test_a_table_names_slides_patients_and_places(tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(encoded(number, "PNG"))
    table = table_of(
        folder,
        "path,slide_id,patient_id,centre,x,y,mpp,label,stain\n"
        "0.png,s1,007,NA,0,0,0.5,0,HE\n1.png,s2,008,B,48,0,0.25,1,HE\n"
        f"2.png,s1,007,NA,48,0,0.5,1,IHC\n{folder}/3.png,s2,008,B,0,0,0.25,,\n",
    )
    import_(table, tmp_path / "RUN", codec="zstd")
    first = rows_of(tmp_path / "RUN", "s1")
    assert [(row["x"], row["label"], row["stain"]) for row in first] == [
        (0, "0", "HE"),
        (48, "1", "IHC"),
    ]
    assert np.array_equal(stored(tmp_path / "RUN", "s1"), [pixels(0), pixels(2)])
    assert [row["label"] for row in rows_of(tmp_path / "RUN", "s2")] == ["1", None]
    known = slides_of(tmp_path / "RUN")
    assert (known["s1"]["patient_id"], known["s1"]["centre"]) == ("007", "NA")
    assert {row["patient_id"] for row in first} == {"007"}
    assert (known["s1"]["mpp"], known["s2"]["mpp"]) == (0.5, 0.25)


def test_lost_data_is_found_in_imported_tiles_though_their_slide_has_no_size(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiles").mkdir()
    for number in range(12):
        rgb = pixels(number).copy()
        rgb[: SIDE // 2 * (number < 3)] = 255
        Image.fromarray(rgb).save(tmp_path / "tiles" / f"{number:02d}.png")
    import_(tmp_path / "tiles", tmp_path / "RUN")
    path = tmp_path / "RUN" / "manifest" / "tiles.parquet"
    lost = pq.read_table(path, partitioning=None).to_pandas()["white_pixels"] > 0
    qc_run(tmp_path / "RUN", QcConfig(clusters=0), options=QcOptions(pictures=False))
    judged = pq.read_table(path, partitioning=None).to_pandas()
    assert lost.sum() == 3
    assert (judged["qc_white_excess"] > 0).equals(lost)


def test_what_a_later_stage_adds_keeps_patients_and_labels(tmp_path: Path) -> None:
    (tmp_path / "T").mkdir()
    for number in range(6):
        (tmp_path / "T" / f"{number}.jpg").write_bytes(encoded(number))
    lines = [f"{number}.jpg,P{number % 2},{number % 3}" for number in range(6)]
    import_(
        table_of(tmp_path / "T", "\n".join(["path,patient_id,label", *lines])), tmp_path / "RUN"
    )
    before = manifest(tmp_path / "RUN")
    run = RunDirectory(path=tmp_path / "RUN")
    names = sorted(slides_of(tmp_path / "RUN"))
    assert names == ["tiles_P0", "tiles_P1"], "an array has one patient"
    add_columns(
        run,
        "split",
        lambda _, table: {"split": pa.array(["train"] * len(table))},
        slide_ids=names,
        about={},
    )
    after = manifest(tmp_path / "RUN")
    pd.testing.assert_frame_equal(after[list(before)], before)


@pytest.mark.parametrize("form", ["bytes", "struct", "large"])
def test_a_parquet_column_of_images(form: str, tmp_path: Path) -> None:
    images = [encoded(number) for number in range(20)]
    column: Any = pa.array(images, type=pa.large_binary() if form == "large" else pa.binary())
    if form == "struct":
        names = pa.array([f"{number}.jpg" for number in range(20)])
        column = pa.StructArray.from_arrays([column, names], ["bytes", "path"])
    splits = pa.array([["train", "test"][number % 2] for number in range(20)])
    table = pa.table({"image": column, "split": splits, "label": pa.array(range(20), pa.int8())})
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=6)
    import_(tmp_path / "set.parquet", tmp_path / "RUN")
    assert stored_bytes(tmp_path / "RUN", "set_train") == images[::2]
    rows = rows_of(tmp_path / "RUN", "set_test")
    assert [row["label"] for row in rows] == [str(number) for number in range(1, 20, 2)]
    assert {row["split"] for row in rows} == {"test"}
    if form == "struct":
        assert rows[0]["source_path"] == "1.jpg"


def test_long_sources_share_numbered_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(image_arrays.__kwdefaults__ or {}, "most", 65)
    images: list[bytes | None] = [encoded(number) for number in range(150)]
    parquet_of_images(tmp_path / "many.parquet", images)
    import_(tmp_path / "many.parquet", tmp_path / "RUN")
    names = ["many_0000", "many_0001", "many_0002"]
    together = [data for name in names for data in stored_bytes(tmp_path / "RUN", name)]
    assert together == images


def test_gray_jpegs_are_kept_and_pngs_are_encoded(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    given = {
        "gray.jpg": encoded(1, mode="L"),
        "inks.jpg": encoded(2, mode="CMYK"),
        "loss.png": encoded(3, "PNG"),
    }
    for name, data in given.items():
        (folder / name).write_bytes(data)
    outcome = import_tiles(folder, tmp_path / "RUN", ImportConfig())
    assert (outcome.count("tiles_kept"), outcome.count("tiles_encoded")) == (1, 2)
    assert stored_bytes(tmp_path / "RUN", "mixed")[0] == given["gray.jpg"]
    assert verify_run(tmp_path / "RUN").findings == ()


def test_bad_images_cost_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, data in {
        "0_good.jpg": encoded(0),
        "1_empty.jpg": b"",
        "2_cut.jpg": encoded(2)[:-300],
        "3_text.png": b"hello",
        "4_large.jpg": encoded(4, side=64),
        "5_good.jpg": encoded(5),
        "6_Ünïcode 名.jpg": encoded(6),
        "7_wide.jpg": encoded(7, side=64),
    }.items():
        (folder / name).write_bytes(data)
    lines = [path.name for path in sorted(folder.iterdir())]
    table = table_of(folder, "\n".join(["path", *lines, "8_gone.jpg", "../elsewhere/9.jpg"]))
    import_(table, tmp_path / "RUN", tile_size=SIDE)
    rows = rows_of(tmp_path / "RUN", "tiles")
    assert [row["status"] == "ok" for row in rows] == [
        name in {"0_good.jpg", "5_good.jpg", "6_Ünïcode 名.jpg"}
        for name in [*lines, "8_gone.jpg", "9"]
    ]
    reasons = {row["source_path"]: row["reason"] for row in rows if row["status"] != "ok"}
    assert reasons["1_empty.jpg"] == "expected a picture, got 0 bytes"
    assert "it is 64 x 64 px, the tiles of this run are 48 x 48" in reasons["4_large.jpg"]
    assert "No such file" in reasons["8_gone.jpg"]
    bad = [row for row in rows if row["status"] != "ok"]
    assert all(row["crc32c"] is None for row in bad)
    assert all(row[column.name] is None for row in bad for column in METRIC_COLUMNS)
    record = slides_of(tmp_path / "RUN")["tiles"]
    assert record["tiles_unreadable"] == len(bad)
    assert "7 of 10 tiles unreadable" in record["reason"]


def test_two_rows_of_one_file_are_two_tiles(tmp_path: Path) -> None:
    (tmp_path / "T").mkdir()
    (tmp_path / "T" / "a.jpg").write_bytes(encoded(1))
    import_(table_of(tmp_path / "T", "path\na.jpg\na.jpg\n"), tmp_path / "RUN")
    assert stored_bytes(tmp_path / "RUN", "tiles") == [encoded(1)] * 2


def test_an_array_of_bad_images_fails_and_the_others_are_done(tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "T").mkdir()
    for number, data in enumerate([encoded(0), b"bad", encoded(2)]):
        (tmp_path / "T" / f"{number}.jpg").write_bytes(data)
    table = table_of(tmp_path / "T", "path,slide_id\n0.jpg,a\n1.jpg,b\n2.jpg,c\n")
    ended = wsi("import", table, "-o", tmp_path / "RUN")
    assert ended.code == 1
    assert "failed: b: none of its 1 tiles can be read" in ended.err
    assert {name: row["status"] for name, row in slides_of(tmp_path / "RUN").items()} == {
        "a": "done",
        "b": "failed",
        "c": "done",
    }
    assert verify_run(tmp_path / "RUN").findings == ()


def refused(source: Path, said: str, **settings: object) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_import(source, ImportConfig(**settings))  # type: ignore[arg-type]


def test_sources_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "F"
    folder.mkdir()
    refused(folder, "expected images, found none")
    (folder / "wide.png").write_bytes(encoded(1, "PNG"))
    (folder / "tall.png").write_bytes(encoded(1, "PNG", side=64))
    refused(folder, r"expected images of one size, got 64 x 64 \(tall.png\), 48 x 48 \(wide.png\)")
    (folder / "slide.svs").write_bytes(b"")
    refused(folder / "slide.svs", "for a slide use wsi-pipeline tile")
    refused(tmp_path / "gone", "no such file or folder")
    refused(table_of(tmp_path / "A", "file\na.jpg\n"), "name it with --column path=NAME")
    refused(table_of(tmp_path / "B", ""), "expected a CSV table, got an empty file")
    refused(table_of(tmp_path / "C", "path,x\na.jpg,left\n"), "column x: expected int32")
    refused(table_of(tmp_path / "D", "path\na.jpg\n"), "none of its first 1 images can be read")
    refused(table_of(tmp_path / "E", "path,n\na.jpg,1\n,2\n"), "row 2: expected a path, got none")
    refused(
        table_of(tmp_path / "G", "path\na.jpg\n"), "no column 'wsi'", columns={"slide_id": "wsi"}
    )
    (tmp_path / "deep" / "train" / "TUM").mkdir(parents=True)
    (tmp_path / "deep" / "train" / "TUM" / "a.jpg").write_bytes(encoded(1))
    refused(tmp_path / "deep", "expected label/IMAGE, got train/TUM/a.jpg; say with --folders")
    parquet_of_images(tmp_path / "two.parquet", [encoded(1)], other=[b"1"])
    refused(tmp_path / "two.parquet", "expected one column of images, got other, jpeg")


def test_tiles_that_are_no_squares_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    Image.fromarray(pixels(1)[:20]).save(folder / "a.png")
    refused(folder, "expected square tiles, got 48 x 20 px")


def test_folders_mean_what_is_said(tmp_path: Path) -> None:
    for name in ("train/TUM", "test/STR"):
        (tmp_path / "S" / name).mkdir(parents=True)
        (tmp_path / "S" / name / "a.jpg").write_bytes(encoded(1))
    import_(tmp_path / "S", tmp_path / "RUN", folders="split/label")
    rows = manifest(tmp_path / "RUN")
    assert set(zip(rows["split"], rows["label"], strict=True)) == {
        ("train", "TUM"),
        ("test", "STR"),
    }
    import_(tmp_path / "S", tmp_path / "PLAIN", folders="none")
    assert "label" not in manifest(tmp_path / "PLAIN")


def test_folders_that_lead_back_to_themselves_are_entered_once(tmp_path: Path) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2})
    (tmp_path / "NCT" / "TUM" / "again").symlink_to(tmp_path / "NCT")
    plan = plan_import(tmp_path / "NCT", ImportConfig(folders="label"))
    assert len(plan.catalog.images) == 2


def test_a_run_is_no_source(tmp_path: Path) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2})
    import_(tmp_path / "NCT", tmp_path / "RUN")
    with pytest.raises(ConfigError, match="is a run already; wsi-pipeline export --folder"):
        plan_import(tmp_path / "RUN", ImportConfig())


def test_a_dry_run_writes_nothing(tmp_path: Path, wsi: Command) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2, "STR": 1})
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN", "--dry-run")
    assert ended.code == 0
    assert "would import 3 images of 48 x 48 px from a folder into 1 arrays" in ended.out
    assert not (tmp_path / "RUN").exists()


@pytest.mark.skipif(not PCAM.exists(), reason="needs ../shared/pcam/pcam.parquet")
def test_the_first_tiles_of_pcam(tmp_path: Path) -> None:
    table = pq.ParquetFile(PCAM).read_row_group(0).slice(0, 100)
    pq.write_table(table, tmp_path / "pcam.parquet")
    import_(tmp_path / "pcam.parquet", tmp_path / "RUN", mpp=0.97)
    assert stored_bytes(tmp_path / "RUN", "pcam_train") == table.column("jpeg").to_pylist()
    rows = manifest(tmp_path / "RUN")
    assert rows["label"].astype(int).tolist() == table.column("label").to_pylist()
    assert rows["name"].tolist() == table.column("name").to_pylist()
    assert set(rows["mpp"]) == {np.float32(0.97)}
