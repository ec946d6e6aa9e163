"""A real mask image goes all the way: label, qc, split and report of one cohort."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.pipeline.runs import REPOSITORY, Command, Drawn, manifest
from wsi_pipeline.geometry import Size
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid

MASK = REPOSITORY.parent / "shared" / "slides" / "label_mask_pyramid.tif"


@pytest.mark.skipif(not MASK.exists(), reason="needs ../shared/slides/label_mask_pyramid.tif")
def test_a_real_mask_goes_from_labels_to_the_report(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    classes = tifffile.imread(MASK, level=0)
    height, width = classes.shape[:2]
    slide = draw_slide(Size(width=width, height=height), seed=11)
    write_pyramid(tmp_path / "real.tif", slide.rgb, mpp=0.5)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "real.tif").symlink_to(MASK)
    lines = [f"real.tif,P1,{tmp_path}", f"{drawn.he},P2,x", f"{drawn.plain},P3,x"]
    (tmp_path / "slides.csv").write_text("\n".join(["path,patient_id,note", *lines]))
    (tmp_path / "label.yaml").write_text("mask_values: {first: 1, others: [2, 3, 4]}\n")
    run = tmp_path / "RUN"
    cut = ("--tile-size", "256", "--tissue", "none", "--min-tissue", "0", "--quiet")
    assert wsi("tile", tmp_path / "slides.csv", "-o", run, *cut).code == 0
    masks = ("--annotations", tmp_path / "masks", "--config", tmp_path / "label.yaml")
    assert wsi("label", run, *masks).code == 0
    assert wsi("qc", run, "--clusters", "0").code == 0
    assert wsi("split", run, "--test", "1", "--validation", "1").code == 0
    assert wsi("split", run, "--check").code == 0
    assert wsi("report", run).code == 0
    rows = manifest(run).query("slide_id == 'real'")
    frame = rows[["x", "y", "width", "height"]].to_numpy(np.int64).tolist()
    shares = [
        np.isin(classes[y : y + high, x : x + wide], [2, 3, 4]).sum() / (wide * high)
        for x, y, wide, high in frame
    ]
    np.testing.assert_allclose(rows["label_share_others"], shares, atol=0.01)
    assert rows["label_share_others"].max() > 0.1
    assert rows["split"].nunique() == 1
