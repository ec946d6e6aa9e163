"""Seven real slides, where they are here: what ``tile ../shared/slides`` ends with."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.runs import (
    REAL_SLIDES,
    Command,
    Ended,
    assert_whole,
    manifest,
    process,
    rows_of,
    slides_of,
    with_status,
)
from wsi_pipeline.config import TileConfig
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.stages.verify import verify_run

HE = {"aperio_jpeg_he", "aperio_jpeg2000_he", "biopsy_with_ink", "dicom_jpeg_he", "ome_tiff_he"}
DARK = "hamamatsu_fluorescence"
LABELS = "label_mask_pyramid"
needs_slides = pytest.mark.skipif(
    not REAL_SLIDES.is_dir(), reason=f"the real slides are not here: no {REAL_SLIDES}"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """All real slides cut as the issue asks."""
    run = tmp_path_factory.mktemp("real") / "RUN"
    return run, process("tile", REAL_SLIDES, "-o", run, "--overlap", "0.2")


@needs_slides
def test_every_picture_is_done_and_the_label_mask_and_the_readme_are_not(
    real: tuple[Path, Ended],
) -> None:
    run, ended = real
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "Warning" not in ended.err
    assert_whole(run, done=HE | {DARK})
    assert with_status(run, "failed") == {LABELS}
    assert with_status(run, "skipped") == {"README"}
    reason = slides_of(run)[LABELS]["reason"]
    assert "label mask" in reason
    assert "--tissue DIR" in reason
    assert ended.err.splitlines()[-1].endswith(reason)


@needs_slides
def test_tiles_are_those_of_the_grid_formula_that_hold_tissue(real: tuple[Path, Ended]) -> None:
    run, _ = real
    config = TileConfig()
    stride = config.tile_size - round(config.tile_size * config.overlap)
    assert stride == 819
    for slide_id in HE | {DARK}:
        slide = slides_of(run)[slide_id]
        columns = math.ceil(slide["bounds_width"] / stride)
        rows = math.ceil(slide["bounds_height"] / stride)
        assert slide["tiles_grid"] == columns * rows
        cut = rows_of(run, slide_id)
        assert len(cut) == slide["tiles"] <= slide["tiles_grid"]
        assert cut or "0 tiles: none of 2 has 25% tissue" in slide["reason"]
        assert all(row["tissue"] >= config.min_tissue for row in cut)
        places = [(row["x"] - slide["bounds_x"], row["y"] - slide["bounds_y"]) for row in cut]
        grid = {(x * stride, y * stride) for x in range(columns) for y in range(rows)}
        assert set(places) <= grid
        assert len(set(places)) == len(places)


@needs_slides
def test_all_tiles_are_readable_and_verify_is_content(real: tuple[Path, Ended]) -> None:
    run, _ = real
    assert set(manifest(run)["status"]) == {"ok"}
    assert verify_run(run).findings == ()


@needs_slides
def test_the_fluorescence_slide_is_dark_field_and_the_others_are_not(
    real: tuple[Path, Ended],
) -> None:
    run, _ = real
    rows = slides_of(run)
    assert {slide_id for slide_id in HE | {DARK} if rows[slide_id]["dark_field"]} == {DARK}
    grays = [row["gray_q75"] for row in rows_of(run, DARK)]
    assert min(grays) > 0


@needs_slides
def test_slides_say_what_their_readme_says(real: tuple[Path, Ended]) -> None:
    run, _ = real
    rows = slides_of(run)
    sizes = {slide_id: (row["width"], row["height"]) for slide_id, row in rows.items()}
    assert sizes["aperio_jpeg_he"] == (2220, 2967)
    assert sizes["ome_tiff_he"] == (1101, 1101)
    assert sizes["biopsy_with_ink"] == (5600, 1000)
    mpp = {slide_id: rows[slide_id]["mpp_x"] for slide_id in HE | {DARK}}
    assert mpp["aperio_jpeg_he"] == pytest.approx(0.499, abs=1e-3)
    assert mpp["ome_tiff_he"] == pytest.approx(0.227, abs=1e-3)
    assert mpp[DARK] == pytest.approx(0.228, abs=1e-3)
    assert mpp["dicom_jpeg_he"] == pytest.approx(28.97, abs=0.01)
    assert mpp["aperio_jpeg2000_he"] is None
    assert mpp["biopsy_with_ink"] is None
    assert rows["aperio_jpeg2000_he"]["icc_profile"]


@needs_slides
def test_a_truncated_real_slide_fails_or_marks_every_tile_it_has_lost(
    tmp_path: Path, wsi: Command
) -> None:
    for name in ("aperio_jpeg_he.svs", "aperio_jpeg2000_he.svs", "dicom_jpeg_he.dcm"):
        data = (REAL_SLIDES / name).read_bytes()
        (tmp_path / f"half_{name}").write_bytes(data[: len(data) // 2])
    ended = wsi("tile", tmp_path, "-o", tmp_path / "RUN", "--tile-size", "512")
    rows = slides_of(tmp_path / "RUN")
    assert ended.code == (1 if with_status(tmp_path / "RUN", "failed") else 0)
    assert all(row["status"] == "failed" or row["tiles_unreadable"] for row in rows.values())
    assert all(row["reason"] for row in rows.values())
    assert_whole(tmp_path / "RUN", done=with_status(tmp_path / "RUN", "done"))


@pytest.mark.parametrize(("edge", "tiles"), [("drop", 25), ("shift", 36), ("pad", 49)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_picture_of_2500_px_has_the_tiles_of_the_formula(
    edge: str, tiles: int, suffix: str, tmp_path: Path, wsi: Command
) -> None:
    rgb = np.random.default_rng(11).integers(0, 255, (250, 250, 3), dtype=np.uint8)
    rgb = rgb.repeat(10, axis=0).repeat(10, axis=1)
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(rgb).save(path) if suffix == "png" else write_pyramid(path, rgb, mpp=0.5)
    settings = ("--tile-size", "512", "--overlap", "0.2", "--tissue", "none", "--min-tissue", "0")
    ended = wsi("tile", path, "-o", tmp_path / "RUN", *settings, "--edge", edge, "--store", "none")
    assert ended.code == 0
    slide = slides_of(tmp_path / "RUN")["picture"]
    assert slide["tiles"] == slide["tiles_grid"] == tiles
    rows = rows_of(tmp_path / "RUN", "picture")
    ends = [max(row["x"], row["y"]) + 512 for row in rows]
    assert max(ends) == {"drop": 4 * 410 + 512, "shift": 2500, "pad": 6 * 410 + 512}[edge]
