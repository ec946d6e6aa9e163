"""Damaged bytes in the middle of a slide mark the tiles that touch them, and no others."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from tests.pipeline.runs import (
    Command,
    Drawn,
    assert_whole,
    destroy_native_tiles,
    process,
    rows_of,
    slides_of,
    stored,
    write_svs,
)
from wsi_pipeline.geometry import Box
from wsi_pipeline.schema import METRIC_COLUMNS
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.store.layout import FILL_VALUE

ALL = ("--tile-size", "128", "--tissue", "none", "--min-tissue", "0")
ACROSS = 4
"""Native tiles of 256 px in a row of 900 px."""


def damaged(drawn: Drawn, folder: Path, kind: str, *numbers: int) -> tuple[Path, list[Box]]:
    path = folder / f"damaged{'.svs' if kind == 'svs' else '.tif'}"
    if kind == "svs":
        write_svs(path, drawn.rgb["he"])
    elif kind == "ome":
        path = folder / "damaged.ome.tif"
        xml = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(
            path,
            drawn.rgb["he"],
            photometric="rgb",
            tile=(256, 256),
            compression="jpeg",
            metadata=xml,
        )
    else:
        write_pyramid(path, drawn.rgb["he"], mpp=0.5, compression="jpeg")
    return path, destroy_native_tiles(path, *numbers)


def touched(rows: list[dict[str, int]], boxes0: list[Box]) -> set[int]:
    """Return the tiles whose footprint meets a destroyed native tile."""
    return {
        row["tile"]
        for row in rows
        for box0 in boxes0
        if box0.intersection(Box(x=row["x"], y=row["y"], width=row["width"], height=row["height"]))
    }


@pytest.mark.parametrize("kind", ["svs", "tif", "ome"])
@pytest.mark.parametrize("numbers", [(5,), (0, 11), (1, 2, 6)])
def test_exactly_the_tiles_that_touch_destroyed_bytes_are_unreadable(
    kind: str, numbers: tuple[int, ...], drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path, boxes0 = damaged(drawn, tmp_path, kind, *numbers)
    ended = wsi("tile", path, "-o", tmp_path / "RUN", *ALL, "--codec", "zstd")
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["damaged"])
    rows = rows_of(tmp_path / "RUN", "damaged")
    bad = {row["tile"] for row in rows if row["status"] == "unreadable"}
    assert bad == touched(rows, boxes0)
    assert 0 < len(bad) < len(rows)
    pixels = stored(tmp_path / "RUN", "damaged")
    for row, tile_rgb in zip(rows, pixels, strict=True):
        metrics = [row[column.name] for column in METRIC_COLUMNS]
        if row["tile"] in bad:
            assert row["reason"]
            assert row["crc32c"] is None
            assert set(metrics) == {None}
            assert (tile_rgb == FILL_VALUE).all()
        else:
            assert (row["status"], row["reason"]) == ("ok", None)
            assert None not in metrics


def test_the_slide_is_done_with_a_note_and_verify_is_content(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path, _ = damaged(drawn, tmp_path, "svs", 5)
    ended = wsi("tile", path, "-o", tmp_path / "RUN", *ALL)
    slide = slides_of(tmp_path / "RUN")["damaged"]
    assert (ended.code, slide["status"]) == (0, "done")
    assert slide["tiles_unreadable"] > 0
    note = f"{slide['tiles_unreadable']} of {slide['tiles']} tiles unreadable; the first: "
    assert slide["reason"].startswith(note)
    assert f"note: damaged: {slide['reason']}" in ended.err
    checked = wsi("verify", tmp_path / "RUN")
    assert (checked.code, checked.err) == (0, "")


def test_tiles_that_can_be_read_are_those_of_the_undamaged_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path, _ = damaged(drawn, tmp_path, "svs", 5, 6)
    assert wsi("tile", path, drawn.he, "-o", tmp_path / "RUN", *ALL, "--codec", "zstd").code == 0
    rows = rows_of(tmp_path / "RUN", "damaged")
    ok = np.array([row["status"] == "ok" for row in rows])
    damaged_tiles, whole = stored(tmp_path / "RUN", "damaged"), stored(tmp_path / "RUN", "he")
    assert np.array_equal(damaged_tiles[ok], whole[ok])


def test_tissue_under_damaged_bytes_is_cut_so_that_the_manifest_shows_the_damage(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path, boxes0 = damaged(drawn, tmp_path, "tif", 5)
    ended = wsi("tile", path, "-o", tmp_path / "RUN", "--tile-size", "64", "--overlap", "0")
    assert ended.code == 0
    rows = rows_of(tmp_path / "RUN", "damaged")
    bad = {row["tile"] for row in rows if row["status"] == "unreadable"}
    assert bad == touched(rows, boxes0)
    assert len(bad) == 16  # 256 px are 4 x 4 tiles of 64 px, whatever their tissue


def test_resampled_tiles_are_unreadable_where_their_source_is(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path, boxes0 = damaged(drawn, tmp_path, "svs", 5)
    ended = wsi("tile", path, "-o", tmp_path / "RUN", *ALL, "--mpp", "1")
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["damaged"])
    rows = rows_of(tmp_path / "RUN", "damaged")
    assert {row["tile"] for row in rows if row["status"] == "unreadable"} == touched(rows, boxes0)


def test_a_slide_of_which_no_tile_can_be_read_fails(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path, _ = damaged(drawn, tmp_path, "svs", *range(3 * ACROSS))
    ended = wsi("tile", path, drawn.plain, "-o", tmp_path / "RUN", *ALL)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=["plain"])
    reason = slides_of(tmp_path / "RUN")["damaged"]["reason"]
    assert reason.startswith("none of its 63 tiles can be read; the first: ")


def test_a_damaged_overview_level_does_not_lose_the_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    path = tmp_path / "big.tif"
    big = cv2.resize(drawn.rgb["he"], (4600, 3500), interpolation=cv2.INTER_LINEAR)
    write_pyramid(path, np.asarray(big), mpp=0.125, levels=2)
    whole = wsi("tile", path, "-o", tmp_path / "WHOLE", "--tile-size", "512")
    assert whole.code == 0
    shutil.copy(path, tmp_path / "copy.tif")
    boxes0 = destroy_native_tiles(path, 60)
    ended = wsi("tile", path, "-o", tmp_path / "RUN", "--tile-size", "512")
    assert ended.code == 0
    rows = rows_of(tmp_path / "RUN", "big")
    assert {row["tile"] for row in rows if row["status"] == "unreadable"} == touched(rows, boxes0)
    assert len(rows) >= len(rows_of(tmp_path / "WHOLE", "big"))


def test_worker_processes_mark_the_same_tiles(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    path, _ = damaged(drawn, tmp_path, "svs", 5, 10)
    ended = process("tile", path, "-o", tmp_path / "RUN", *ALL)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert wsi("tile", path, "-o", tmp_path / "SERIAL", *ALL).code == 0
    assert rows_of(tmp_path / "RUN", "damaged") == rows_of(tmp_path / "SERIAL", "damaged")
