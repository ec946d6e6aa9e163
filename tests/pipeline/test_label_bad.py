"""``label`` on annotations that cannot be used: they cost their slide, with the reason, and no other."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.pipeline.annotating import labelled, rectangle, write_geojson
from tests.pipeline.runs import Command, Drawn, digests, manifest, process
from wsi_pipeline.config import TileConfig
from wsi_pipeline.labels import annotated
from wsi_pipeline.stages.run_directory import RunDirectory, read_record, write_record
from wsi_pipeline.stages.tile import tile_slides

WHOLE = [rectangle("tumor", 0, 0, 900, 700)]
MASKS = {"mask_values": {"tumor": 1}}


def settings(folder: Path, values: object) -> Path:
    """Return a file for ``--config``; JSON is YAML."""
    path = folder.parent / "label.yaml"
    path.write_text(json.dumps(values))
    return path


def broken(path: Path) -> None:
    path.with_suffix(".geojson").write_text('{"type": "FeatureCollection", "features": [')


def empty(path: Path) -> None:
    path.with_suffix(".geojson").touch()


def a_text(path: Path) -> None:
    path.with_suffix(".xml").write_text("<html></html>")


def a_cut_off_archive(path: Path) -> None:
    path.with_suffix(".geojson").write_bytes(b"\x1f\x8b\x08")


def of_another_shape(path: Path) -> None:
    Image.fromarray(np.ones((90, 70), dtype=np.uint8)).save(path.with_suffix(".png"))


def a_photo(path: Path) -> None:
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(
        path.with_suffix(".png")
    )


def a_jpeg_in_tiff(path: Path) -> None:
    tifffile.imwrite(
        path.with_suffix(".tif"), np.ones((350, 450), np.uint8), compression="jpeg", tile=(64, 64)
    )


def twice(path: Path) -> None:
    write_geojson(path.with_suffix(".geojson"), WHOLE)
    write_geojson(path.with_suffix(".geojson.gz"), WHOLE)


def too_many_classes(path: Path) -> None:
    write_geojson(
        path.with_suffix(".geojson"), [rectangle(f"c{number}", 0, 0, 9, 9) for number in range(200)]
    )


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (broken, r"annotation he.geojson: expected GeoJSON, got Expecting value"),
        (empty, r"annotation he.geojson: expected GeoJSON"),
        (a_text, r"annotation he.xml: expected ASAP's XML, got <html>"),
        (a_cut_off_archive, r"annotation he.geojson: cannot be read"),
        (
            of_another_shape,
            "expected the shape of the slide, 900 x 700 px, at any scale, got 70 x 90 px",
        ),
        (a_photo, "expected one number a pixel, got colours"),
        (a_jpeg_in_tiff, "which changes them; save it with"),
        (twice, r"expected one file, got he.geojson and he.geojson.gz"),
        (too_many_classes, "expected at most 100 classes, got 200 names"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_annotation_costs_its_slide_alone(
    run: Path, drawings: Path, wsi: Command, write: Callable[[Path], None], reason: str
) -> None:
    write(drawings / "he")
    write_geojson(drawings / "plain.geojson", WHOLE)
    ended = wsi("label", run, "--annotations", drawings, "--config", settings(drawings, MASKS))
    assert ended.code == 1
    failure = ended.err.splitlines()[-1]
    assert failure.startswith("failed: he: ")
    assert reason.replace("\\", "") in failure
    assert labelled(run, "he")[["label", "label_share_tumor"]].isna().to_numpy().all()
    assert labelled(run, "plain")["label_share_tumor"].max() == 1
    said = json.loads((run / "label.json").read_text())
    assert said["failed"] == ["he"]


def test_a_folder_in_which_nothing_is_of_use_costs_no_labels(
    run: Path, drawings: Path, tmp_path: Path, wsi: Command
) -> None:
    write_geojson(drawings / "plain.geojson", WHOLE)
    assert wsi("label", run, "--annotations", drawings).code == 0
    before = digests(run)
    (tmp_path / "WRONG").mkdir()
    (tmp_path / "WRONG" / "plain.geojson").write_text("not one")
    ended = wsi("label", run, "--annotations", tmp_path / "WRONG")
    assert ended.code == 2
    assert "the labels that the run has are kept" in ended.err
    assert digests(run) == before


def test_a_failed_slide_does_not_take_its_slide_label(
    run: Path, drawings: Path, wsi: Command
) -> None:
    broken(drawings / "he")
    ended = wsi("label", run, "--annotations", drawings, "--slide-label", "grade")
    assert ended.code == 1
    assert labelled(run, "he")[["label", "label_value"]].isna().to_numpy().all()
    assert set(labelled(run, "plain")["label"]) == {"3"}


def test_an_error_nobody_thought_of_costs_one_slide_too(
    run: Path, drawings: Path, wsi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_library(_data: bytes) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(annotated, "read_geojson", broken_library)
    write_geojson(drawings / "he.geojson", WHOLE)
    ended = wsi("label", run, "--annotations", drawings)
    assert ended.code == 1
    assert (
        "failed: he: annotation he.geojson: could not be used (ZeroDivisionError: inside)"
        in ended.err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to label from: give --annotations DIR"),
        (["--annotations", "{drawings}/none"], "annotations: expected a folder, got"),
        (
            ["--annotations", "{drawings}"],
            "bears the name of a slide of this run; looked for SLIDE_ID",
        ),
        (
            ["--slide-label", "stage"],
            "slide_label: expected a column of the slide table, got 'stage'",
        ),
        (["--slide-label", "grade", "--unlabelled", "x"], "leave one out"),
        (["--slide-label", "grade", "--threshold", "2"], "threshold: expected a share above 0"),
        (["--slide-label", "grade", "--config", "{drawings}/none.yaml"], "expected a YAML file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    run: Path, drawings: Path, wsi: Command, arguments: list[str], message: str
) -> None:
    before = digests(run)
    ended = wsi("label", run, *[each.format(drawings=drawings) for each in arguments])
    assert ended.code == 2
    assert message in ended.err
    assert digests(run) == before


def test_masks_need_their_values_named(run: Path, drawings: Path, wsi: Command) -> None:
    Image.fromarray(np.ones((70, 90), dtype=np.uint8)).save(drawings / "he.png")
    ended = wsi("label", run, "--annotations", drawings)
    assert ended.code == 2
    assert "mask_values: 1 annotations are mask images (he.png), and nothing says what" in ended.err


def test_a_run_without_a_slide_has_nothing_to_label(tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "bad.svs").touch()
    assert wsi("tile", tmp_path / "bad.svs", "-o", tmp_path / "RUN").code == 1
    ended = wsi("label", tmp_path / "RUN", "--no-annotation", "nothing")
    assert ended.code == 2
    assert "no slide is done in this run" in ended.err


def test_an_annotation_of_a_slide_that_failed_is_named(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "bad.svs").touch()
    folder = tmp_path / "drawings"
    folder.mkdir()
    for name in ("he", "bad"):
        write_geojson(folder / f"{name}.geojson", WHOLE)
    config = TileConfig(tile_size=128)
    tile_slides([str(tmp_path / "bad.svs"), str(drawn.he)], tmp_path / "RUN", config)
    ended = wsi("label", tmp_path / "RUN", "--annotations", folder)
    assert ended.code == 0
    assert "annotations of slides that are not done: 1 (bad.geojson (bad))" in ended.err


def cropped(run: Path, slide_id: str) -> None:
    """Have a slide say that its scanned part begins at 100, 50."""
    directory = RunDirectory(path=run)
    record = read_record(directory, slide_id)
    assert record is not None
    bounds = {"bounds_x": 100, "bounds_y": 50, "bounds_width": 800, "bounds_height": 650}
    write_record(directory, dataclasses.replace(record, values={**record.values, **bounds}))


def test_the_corner_of_a_cropped_slide_is_asked_for_and_not_guessed(
    run: Path, drawings: Path, wsi: Command
) -> None:
    cropped(run, "he")
    for name in ("he", "plain"):
        write_geojson(drawings / f"{name}.geojson", [rectangle("tumor", 28, 50, 100, 100)])
    ended = wsi("label", run, "--annotations", drawings)
    assert ended.code == 1
    assert "failed: he: annotation: the scanned part of the slide begins at 100, 50 px" in ended.err
    corners = {"canvas": (28, 50), "bounds": (128, 100)}
    for origin, (x, y) in corners.items():
        assert wsi("label", run, "--annotations", drawings, "--origin", origin).code == 0
        rows = labelled(run, "he")
        across = np.minimum(rows["x"] + 128, x + 100) - np.maximum(rows["x"], x)
        down = np.minimum(rows["y"] + 128, y + 100) - np.maximum(rows["y"], y)
        expected = np.clip(across, 0, None) * np.clip(down, 0, None) / 128**2
        np.testing.assert_allclose(rows["label_share_tumor"], expected, atol=1e-6)


def test_a_mask_of_the_scanned_part_is_laid_over_it(
    run: Path, drawings: Path, wsi: Command
) -> None:
    cropped(run, "he")
    Image.fromarray(np.ones((65, 80), dtype=np.uint8)).save(drawings / "he.png")
    asked = ("--annotations", drawings, "--config", settings(drawings, MASKS))
    refused = wsi("label", run, *asked)
    assert "expected the shape of the slide, 900 x 700 px" in refused.err
    assert wsi("label", run, *asked, "--origin", "bounds").code == 0
    rows = labelled(run, "he")
    assert rows.query("x < 100 and y == 0 and x + 128 > 100")["label_share_tumor"].iloc[0] < 0.5


def test_masks_as_peso_and_panda_have_them(run: Path, drawings: Path, wsi: Command) -> None:
    rng = np.random.default_rng(8)
    peso = np.kron(rng.integers(1, 3, (14, 18), dtype=np.uint8), np.ones((25, 25), dtype=np.uint8))
    panda = np.kron(rng.integers(0, 6, (7, 9), dtype=np.uint8), np.ones((100, 100), dtype=np.uint8))
    red = np.stack([panda, panda * 0, panda * 0], axis=2)
    with tifffile.TiffWriter(drawings / "he-labels.tif") as writer:
        writer.write(peso, tile=(256, 256), compression="lzw", metadata=None)
    with tifffile.TiffWriter(drawings / "plain_mask.tiff") as writer:
        for step in (1, 4):
            writer.write(
                red[::step, ::step],
                tile=(256, 256),
                compression="deflate",
                photometric="rgb",
                metadata=None,
                subfiletype=int(step > 1),
            )
    values: dict[str, list[int]] = {"stroma": [1], "benign": [2], "cancer": [3, 4]}
    ended = wsi(
        "label",
        run,
        "--annotations",
        drawings,
        "--config",
        settings(drawings, {"mask_values": values}),
    )
    assert ended.code == 0
    assert (
        f"pixels of the value 5, which mask_values does not name: {(panda == 5).sum()} left out"
        in ended.err
    )
    whole = {"he": np.kron(peso, np.ones((2, 2), dtype=np.uint8)), "plain": panda}
    rows = manifest(run)
    for slide_id, classes in whole.items():
        for row in rows[rows["slide_id"] == slide_id].to_dict("records"):
            part = classes[row["y"] : row["y"] + 128, row["x"] : row["x"] + 128]
            for name, wanted in values.items():
                assert row[f"label_share_{name}"] == pytest.approx(
                    np.isin(part, wanted).sum() / 128**2, abs=1e-6
                )


def test_workers_do_not_show(run: Path, drawings: Path, wsi: Command) -> None:
    for number, name in enumerate(("dark", "flat", "he", "plain")):
        write_geojson(drawings / f"{name}.geojson", [rectangle("tumor", 10 * number, 5, 300, 300)])
    assert wsi("label", run, "--annotations", drawings).code == 0
    alone = {path.name: path.read_bytes() for path in (run / "manifest").iterdir()}
    ended = process("label", run, "--annotations", drawings, "--workers", "2", "--threshold", "0.6")
    assert ended.code == 0, ended.err
    assert {path.name: path.read_bytes() for path in (run / "manifest").iterdir()} != alone
    assert process("label", run, "--annotations", drawings, "--workers", "2").code == 0
    assert {path.name: path.read_bytes() for path in (run / "manifest").iterdir()} == alone


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"thresholds": {"tumour": 0.1}}, "thresholds: no annotation of this run holds tumour"),
        ({"priority": ["stroma", "tumour"]}, "priority: no annotation of this run holds tumour"),
    ],
)
def test_a_rule_for_a_class_that_nobody_has_outlined_is_most_likely_misspelt(
    asked: dict[str, object], told: str, run: Path, drawings: Path, wsi: Command
) -> None:
    write_geojson(drawings / "he.geojson", WHOLE)
    write_geojson(drawings / "flat.geojson", [rectangle("stroma", 0, 0, 450, 700)])
    before = digests(run)
    line = ("label", run, "--annotations", drawings, "--config", settings(drawings, asked))
    for flags in ((), ("--dry-run",)):
        ended = wsi(*line, *flags)
        assert ended.code == 2
        assert f"{told} (did you mean tumor?); there are stroma, tumor" in ended.err
        assert digests(run) == before
    ended = wsi(*line, "--classes", "stroma,tumor,tumour")  # so it is right: the cohort has none
    assert ended.code == 0
    assert "classes of the configuration that no annotation holds: 1 (tumour)" in ended.err


def test_a_class_that_only_an_unread_annotation_may_hold_is_not_called_misspelt(
    run: Path, drawings: Path, wsi: Command
) -> None:
    write_geojson(drawings / "he.geojson", WHOLE)
    broken(drawings / "flat")
    path = settings(drawings, {"thresholds": {"stroma": 0.1}})
    ended = wsi("label", run, "--annotations", drawings, "--config", path)
    assert ended.code == 1
    assert "no annotation holds: 1 (stroma)" in ended.err
    assert "failed: flat: annotation flat.geojson" in ended.err
