"""Tissue masks that the user gives."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.runs import SIZE, Command, Drawn, assert_whole, process, rows_of, slides_of

LEFT_HALF = np.zeros((SIZE.height, SIZE.width), dtype=np.uint8)
LEFT_HALF[:, : SIZE.width // 2] = 255


def masks(folder: Path, **of_slides: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    folder.mkdir()
    for slide_id, mask in of_slides.items():
        Image.fromarray(mask).save(folder / f"{slide_id}.png")
    return folder


@pytest.mark.parametrize("step", [1, 4, 10])
def test_tiles_are_where_the_mask_is_white(
    step: int, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = masks(tmp_path / "masks", plain=LEFT_HALF[::step, ::step])
    settings = ("--tile-size", "128", "--tissue", str(folder), "--min-tissue", "0.5")
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["plain"])
    rows = rows_of(tmp_path / "RUN", "plain")
    assert {row["x"] for row in rows} == {0, 102, 204, 306}
    assert {row["tissue"] for row in rows if row["y"] == 0 and row["x"] < 306} == {1.0}


def test_a_slide_without_its_mask_fails_and_the_others_are_finished(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = masks(tmp_path / "masks", plain=LEFT_HALF)
    settings = ("--tile-size", "128", "--tissue", str(folder))
    ended = wsi("tile", drawn.plain, drawn.he, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=["plain"])
    reason = slides_of(tmp_path / "RUN")["he"]["reason"]
    assert f"expected one file he.png or .tif in {folder}, got none" in reason
    assert reason in ended.err


def test_a_mask_of_another_shape_fails_its_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = masks(tmp_path / "masks", plain=LEFT_HALF.T, he=LEFT_HALF)
    settings = ("--tile-size", "128", "--tissue", str(folder))
    ended = wsi("tile", drawn.plain, drawn.he, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=["he"])
    reason = slides_of(tmp_path / "RUN")["plain"]["reason"]
    assert "expected the shape of the slide, 900 x 700 px or a fraction of it" in reason
    assert "700 x 900" in reason


def test_a_mask_that_is_no_image_fails_its_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = masks(tmp_path / "masks", he=LEFT_HALF)
    (folder / "plain.png").write_text("no image", encoding="utf-8")
    settings = ("--tile-size", "128", "--tissue", str(folder))
    ended = wsi("tile", drawn.plain, drawn.he, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=["he"])
    assert "mask plain.png: cannot be read" in slides_of(tmp_path / "RUN")["plain"]["reason"]


def test_a_black_mask_gives_a_finished_slide_without_tiles(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = masks(tmp_path / "masks", plain=np.zeros_like(LEFT_HALF))
    settings = ("--tile-size", "128", "--tissue", str(folder))
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["plain"])
    row = slides_of(tmp_path / "RUN")["plain"]
    assert (row["tiles"], row["tissue_share"]) == (0, 0)
    assert "no tissue found" in row["reason"]


def test_a_relative_folder_of_masks_is_found_by_worker_processes(
    drawn: Drawn, tmp_path: Path
) -> None:
    masks(tmp_path / "masks", plain=LEFT_HALF)
    settings = ("--tile-size", "128", "--tissue", "masks")
    ended = process("tile", drawn.plain, "-o", "RUN", *settings, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert_whole(tmp_path / "RUN", done=["plain"])
