"""Tiles leave a run for other programs: the same bytes, the same places, the same columns."""

import gzip
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely.geometry import shape

from tests.pipeline.images import class_folders, encoded, parquet_of_images, stored_bytes
from tests.pipeline.runs import (
    CONFIG,
    Command,
    Drawn,
    digests,
    leftovers,
    manifest,
    rows_of,
    stored,
    tile,
)
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.schema import METRIC_COLUMNS, TILE_COLUMNS
from wsi_pipeline.stages.columns import add_columns, words
from wsi_pipeline.stages.export import ExportConfig, Exported, Kind, export_run
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles
from wsi_pipeline.stages.run_directory import RunDirectory, read_record, write_record
from wsi_pipeline.stages.verify import verify_run
from wsi_pipeline.store.codec import decode_tile

LABELS = ("tumour", "a/b", None)


@pytest.fixture(scope="module")
def labelled(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two slides with labels, one of which cannot name a folder; never written to."""
    run = tmp_path_factory.mktemp("labelled") / "RUN"
    tile(run, drawn.he, drawn.plain, config=TileConfig(tile_size=128, overlap=0.2, min_tissue=0.0))
    add_columns(
        RunDirectory(path=run),
        "label",
        lambda _, table: {
            "label": words([LABELS[row % 3] for row in range(len(table))]),
            "label_share_tumour": pa.array(np.linspace(0, 1, len(table)).astype(np.float32)),
        },
        slide_ids=["he", "plain"],
        about={},
    )
    return run


def export(run: Path, kind: Kind, folder: Path, **settings: object) -> Exported:
    (done,) = export_run(run, ExportConfig(**settings), {kind: folder})  # type: ignore[arg-type]
    assert leftovers(folder.parent) == []
    return done


def features(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    content = json.loads(data)
    assert content["type"] == "FeatureCollection"
    return list(content["features"])


def box_of(feature: dict[str, Any]) -> tuple[int, int, int, int]:
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    corners = np.array(ring[:4])
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    assert sorted(corners.tolist()) == sorted(
        [[left, top], [right, top], [right, bottom], [left, bottom]]
    )
    return left, top, right - left, bottom - top


def test_rectangles_are_the_boxes_of_the_manifest(labelled: Path, tmp_path: Path) -> None:
    done = export(labelled, "geojson", tmp_path / "Q", colour_by="label")
    assert sorted(path.name for path in (tmp_path / "Q").iterdir()) == [
        "he.geojson",
        "plain.geojson",
    ]
    assert done.tiles == len(manifest(labelled))
    for slide_id in ("he", "plain"):
        rows = rows_of(labelled, slide_id)
        found = features(tmp_path / "Q" / f"{slide_id}.geojson")
        boxes = [(row["x"], row["y"], row["width"], row["height"]) for row in rows]
        assert [box_of(feature) for feature in found] == boxes
        names = [feature["properties"].get("classification", {}).get("name") for feature in found]
        assert names == [row["label"] for row in rows]
        assert {feature["properties"]["objectType"] for feature in found} == {"tile"}


@pytest.mark.parametrize(("origin", "corner"), [("bounds", (100, 40)), ("canvas", (0, 0))])
def test_geojson_counts_from_the_scanned_part_as_qupath_does_or_from_the_canvas(
    origin: Literal["bounds", "canvas"], corner: tuple[int, int], drawn: Drawn, tmp_path: Path
) -> None:
    tile(tmp_path / "RUN", drawn.plain, config=TileConfig(tile_size=128, min_tissue=0.0))
    run = RunDirectory(path=tmp_path / "RUN")
    record = read_record(run, "plain")
    assert record is not None
    bounds = {"bounds_x": 100, "bounds_y": 40, "bounds_width": 700, "bounds_height": 600}
    write_record(run, replace(record, values={**record.values, **bounds}))
    (done,) = export_run(run.path, ExportConfig(origin=origin), {"geojson": str(tmp_path / "out")})
    features = json.loads((tmp_path / "out" / "plain.geojson").read_bytes())["features"]
    found = [shape(each["geometry"]).bounds[:2] for each in features]
    rows = manifest(run.path)
    assert found == list(zip(rows["x"] - corner[0], rows["y"] - corner[1], strict=True))
    assert ["scanned part at 100, 40" in note for note in done.notes] == [True] * (
        origin == "bounds"
    )


def test_a_class_has_one_colour_on_all_slides(labelled: Path, tmp_path: Path) -> None:
    export(labelled, "geojson", tmp_path / "Q", colour_by="label")
    found = {
        (
            each["properties"]["classification"]["name"],
            *each["properties"]["classification"]["color"],
        )
        for path in (tmp_path / "Q").iterdir()
        for each in features(path)
        if "classification" in each["properties"]
    }
    assert len(found) == 2


def test_numbers_are_in_bins_and_stand_in_the_measurements(labelled: Path, tmp_path: Path) -> None:
    export(labelled, "geojson", tmp_path / "Q", colour_by="laplacian_var", objects="annotation")
    for row, feature in zip(
        rows_of(labelled, "he"), features(tmp_path / "Q" / "he.geojson"), strict=True
    ):
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["measurements"] == {"laplacian_var": row["laplacian_var"]}
        assert properties["classification"]["name"].startswith("laplacian_var ")


def test_an_outline_covers_the_tiles_of_a_slide(labelled: Path, tmp_path: Path) -> None:
    export(labelled, "geojson", tmp_path / "Q", colour_by="label", slides=True)
    (feature,) = features(tmp_path / "Q" / "plain.geojson")
    rows = pd.DataFrame(rows_of(labelled, "plain"))
    bounds = shape(feature["geometry"]).bounds
    right, bottom = (rows["x"] + rows["width"]).max(), (rows["y"] + rows["height"]).max()
    assert bounds == (rows["x"].min(), rows["y"].min(), right, bottom)
    assert feature["properties"]["classification"]["name"] in LABELS
    assert feature["properties"]["name"] == "plain"


def test_compressed_geojson_is_the_same_every_time(labelled: Path, tmp_path: Path) -> None:
    for name in ("A", "B"):
        export(labelled, "geojson", tmp_path / name, gz=True)
    assert digests(tmp_path / "A") == digests(tmp_path / "B")
    export(labelled, "geojson", tmp_path / "PLAIN")
    packed, plain = tmp_path / "A" / "he.geojson.gz", tmp_path / "PLAIN" / "he.geojson"
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()


def test_a_folder_holds_the_bytes_of_the_store(labelled: Path, tmp_path: Path) -> None:
    export(labelled, "folder", tmp_path / "F")
    about = pd.read_parquet(tmp_path / "F" / "metadata.parquet")
    assert about["path"].is_unique
    for slide_id in ("he", "plain"):
        paths = about.loc[about["slide_id"] == slide_id, "path"]
        expected = stored_bytes(labelled, slide_id)
        assert [(tmp_path / "F" / path).read_bytes() for path in paths] == expected
    tumour = about[about["label"] == "tumour"]
    assert {Path(path).parts[0] for path in tumour["path"]} == {"tumour"}
    assert {path.name for path in (tmp_path / "F").iterdir() if path.is_dir()} == {
        "tumour",
        "a_b",
        "unlabelled",
    }


def test_out_and_in_again_gives_the_same_tiles_and_columns(labelled: Path, tmp_path: Path) -> None:
    export(labelled, "folder", tmp_path / "F")
    import_tiles(tmp_path / "F", tmp_path / "RUN", ImportConfig(keep_metrics=True))
    assert verify_run(tmp_path / "RUN").findings == ()
    for slide_id in ("he", "plain"):
        assert stored_bytes(tmp_path / "RUN", slide_id) == stored_bytes(labelled, slide_id)
    before, after = manifest(labelled), manifest(tmp_path / "RUN")
    assert set(after) - set(before) == {"source_path"}
    pd.testing.assert_frame_equal(
        after[list(before)].astype({"slide_id": str}), before.astype({"slide_id": str})
    )


def test_metrics_measured_again_are_those_of_the_jpegs(labelled: Path, tmp_path: Path) -> None:
    export(labelled, "folder", tmp_path / "F")
    import_tiles(tmp_path / "F", tmp_path / "RUN", ImportConfig())
    metrics = {column.name for column in METRIC_COLUMNS}
    same = [column.name for column in TILE_COLUMNS if column.name not in metrics]
    before, after = manifest(labelled), manifest(tmp_path / "RUN")
    assert before[same].astype(str).equals(after[same].astype(str))
    assert np.abs(before["gray_mean"] - after["gray_mean"]).max() < 3


def samples(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return the files of every sample by key, as a reader of a WebDataset groups them."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                handle = tar.extractfile(member)
                assert handle is not None
                key, _, ending = member.name.partition(".")
                assert ending not in found.setdefault(key, {})
                found[key][ending] = handle.read()
    return found


def test_a_webdataset_has_a_sample_for_each_tile(labelled: Path, tmp_path: Path) -> None:
    done = export(labelled, "webdataset", tmp_path / "W", shard_size=10)
    rows = manifest(labelled)
    assert len(list((tmp_path / "W").glob("*.tar"))) == -(-len(rows) // 10) == done.files - 1
    found = samples(tmp_path / "W")
    assert len(found) == len(rows)
    numbers = json.loads((tmp_path / "W" / "classes.json").read_text())
    assert numbers == {"a/b": 0, "tumour": 1}
    expected = {slide_id: stored_bytes(labelled, slide_id) for slide_id in ("he", "plain")}
    for sample in found.values():
        about = json.loads(sample["json"])
        assert sample["jpg"] == expected[about["slide_id"]][about["tile"]]
        assert ("cls" in sample) == (about["label"] is not None)
        if about["label"] is not None:
            assert int(sample["cls"]) == numbers[about["label"]]


def test_a_webdataset_is_the_same_every_time(labelled: Path, tmp_path: Path) -> None:
    for name in ("A", "B"):
        export(labelled, "webdataset", tmp_path / name, shard_size=7)
    assert digests(tmp_path / "A") == digests(tmp_path / "B")


def test_numbers_as_labels_are_their_own_classes(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(number) for number in range(3)]
    parquet_of_images(tmp_path / "p.v1.parquet", images, label=[3, 1, 3])
    import_tiles(tmp_path / "p.v1.parquet", tmp_path / "RUN", ImportConfig())
    export(tmp_path / "RUN", "webdataset", tmp_path / "W")
    found = samples(tmp_path / "W")
    assert [int(sample["cls"]) for sample in found.values()] == [3, 1, 3]
    assert list(found) == ["p_v1_0000000", "p_v1_0000001", "p_v1_0000002"]


def test_tiles_of_no_known_place_have_names_of_their_own(tmp_path: Path) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 3})
    import_tiles(tmp_path / "NCT", tmp_path / "RUN", ImportConfig())
    export(tmp_path / "RUN", "folder", tmp_path / "F")
    names = sorted(path.name for path in (tmp_path / "F" / "TUM").iterdir())
    assert names == ["NCT_0000000.jpg", "NCT_0000001.jpg", "NCT_0000002.jpg"]
    done = export(tmp_path / "RUN", "geojson", tmp_path / "Q")
    assert done.notes == ("NCT: all tiles lie at 0, 0: where they were cut is not known",)


def test_a_condition_chooses_tiles(labelled: Path, tmp_path: Path) -> None:
    where = 'label == "tumour" and label_share_tumour > 0.5'
    export(labelled, "folder", tmp_path / "F", where=where)
    rows = manifest(labelled).astype({"slide_id": str, "label": str})
    expected = rows.query(where)
    about = pd.read_parquet(tmp_path / "F" / "metadata.parquet")
    assert about["tile"].tolist() == expected["tile"].tolist()
    assert 0 < len(about) < len(rows)


def test_what_is_not_ok_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "T"
    folder.mkdir()
    for number, data in enumerate([encoded(0), b"bad", encoded(2)]):
        (folder / f"{number}.jpg").write_bytes(data)
    import_tiles(folder, tmp_path / "RUN", ImportConfig(tile_size=48))
    assert export(tmp_path / "RUN", "folder", tmp_path / "F").tiles == 2
    done = export(tmp_path / "RUN", "folder", tmp_path / "ALL", where="tile >= 0")
    assert done.tiles == 2
    assert done.problems == ("T: tile 1: no pixels are stored",)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nothing > 1", "where: no column nothing in the manifest; there are slide_id, tile"),
        ("tissue >", "where: expected an expression such as"),
        ("tile", "where: expected what is true or false of a tile, got 'tile'"),
        ("tile + 1", "expected what is true or false of a tile"),
        ("@__import__('os').getpid() > 0", "where: expected an expression such as"),
        ("__import__('os').getpid() > 0", "where: .* cannot be asked of the manifest"),
        ("label > 3", "where: label > 3 cannot be asked of the manifest"),
        ("tile < 0", "no tile is meant by 'tile < 0'; nothing was written"),
    ],
)
def test_conditions_that_mean_nothing_are_refused(
    where: str, said: str, labelled: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        export(labelled, "geojson", tmp_path / "Q", where=where)
    assert list(tmp_path.iterdir()) == []


def test_other_codecs_are_encoded_again_and_it_is_said(drawn: Drawn, tmp_path: Path) -> None:
    tile(tmp_path / "RUN", drawn.he, config=CONFIG.model_copy(update={"codec": "zstd"}))
    done = export(tmp_path / "RUN", "folder", tmp_path / "F", quality=95)
    assert done.notes == ("tiles are stored as zstd: encoded again as JPEG of quality 95",)
    pixels = stored(tmp_path / "RUN", "he")
    for row, path in enumerate(pd.read_parquet(tmp_path / "F" / "metadata.parquet")["path"]):
        rgb = decode_tile((tmp_path / "F" / path).read_bytes(), "jpeg", tile_size=128)
        assert np.abs(rgb.astype(int) - pixels[row]).mean() < 4


def test_a_run_without_pixels_gives_rectangles_only(drawn: Drawn, tmp_path: Path) -> None:
    tile(tmp_path / "RUN", drawn.he, config=CONFIG.model_copy(update={"store": "none"}))
    with pytest.raises(
        ConfigError, match="folder needs the tiles' pixels, and this run keeps none"
    ):
        export(tmp_path / "RUN", "folder", tmp_path / "F")
    done = export(tmp_path / "RUN", "geojson", tmp_path / "Q")
    assert done.tiles == len(manifest(tmp_path / "RUN"))


def test_damaged_bytes_are_left_out_and_named(labelled: Path, tmp_path: Path, wsi: Command) -> None:
    run = tmp_path / "RUN"
    shutil.copytree(labelled, run)
    shard = run / "tiles.zarr" / "he" / "c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    (run / "tiles.zarr" / "plain" / "c.0.0.0.0").unlink()
    ended = wsi("export", run, "--folder", tmp_path / "F")
    assert ended.code == 1
    assert "left out: he: tile 0: its" in ended.err
    assert "left out: plain: tile 0:" in ended.err
    about = pd.read_parquet(tmp_path / "F" / "metadata.parquet")
    assert not ((about["slide_id"] == "he") & (about["tile"] == 0)).any()
    assert {path.name for path in (tmp_path / "F").rglob("*.jpg")} == {
        Path(path).name for path in about["path"]
    }


def test_a_folder_with_files_in_it_is_not_written_to(
    labelled: Path, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "F").mkdir()
    (tmp_path / "F" / "mine.txt").write_text("keep")
    ended = wsi("export", labelled, "--folder", tmp_path / "F")
    assert ended.code == 2
    assert "expected a new or empty folder" in ended.err
    assert [path.name for path in (tmp_path / "F").iterdir()] == ["mine.txt"]
    (tmp_path / "F" / "mine.txt").unlink()
    assert wsi("export", labelled, "--folder", tmp_path / "F").code == 0


def test_an_export_that_breaks_off_leaves_nothing(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match="disk or the quota is full"):
        export_run(labelled, ExportConfig(), {"folder": tmp_path / "F"})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_goes_with_the_next(labelled: Path, tmp_path: Path) -> None:
    left = tmp_path / f".tmp-{os.uname().nodename}-999999999-00ff"
    left.mkdir()
    (left / "000000.tar").write_bytes(b"half")
    export(labelled, "geojson", tmp_path / "Q")
    assert [path.name for path in tmp_path.iterdir()] == ["Q"]


def test_hostile_names_stay_inside_the_folder(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(number) for number in range(5)]
    labels = ["../../up", "/etc/passwd", "..", "Ünï", "a\0b"]
    parquet_of_images(tmp_path / "p.parquet", images, label=labels)
    import_tiles(tmp_path / "p.parquet", tmp_path / "RUN", ImportConfig())
    export(tmp_path / "RUN", "folder", tmp_path / "out" / "F")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"F"}
    about = pq.read_table(tmp_path / "out" / "F" / "metadata.parquet").to_pylist()
    for row, data in zip(about, images, strict=True):
        path = (tmp_path / "out" / "F" / row["path"]).resolve()
        assert path.is_relative_to(tmp_path / "out" / "F")
        assert path.read_bytes() == data


def test_wrong_calls_say_what_is_expected(labelled: Path, tmp_path: Path, wsi: Command) -> None:
    ended = wsi("export", labelled)
    assert ended.code == 2
    assert "expected --geojson DIR, --webdataset DIR or --folder DIR, got none" in ended.err
    ended = wsi("export", labelled, "--geojson", tmp_path / "Q", "--colour-by", "lable")
    assert ended.code == 2
    assert "colour_by: the manifest has no column 'lable'" in ended.err
    ended = wsi("export", labelled, "--geojson", tmp_path / "X", "--folder", tmp_path / "X")
    assert ended.code == 2
    ended = wsi("export", tmp_path / "gone", "--geojson", tmp_path / "Q")
    assert ended.code == 2
    ended = wsi(
        "export", labelled, "--geojson", tmp_path / "Q", "--folder", tmp_path / "F", "--json"
    )
    assert ended.code == 0
    assert [each["kind"] for each in json.loads(ended.out)["exports"]] == ["geojson", "folder"]
