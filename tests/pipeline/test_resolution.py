"""µm/px where it is needed and missing, and what the tiles are where it is given."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.pipeline.runs import Command, Drawn, assert_whole, padded, rows_of, slides_of, stored

SMALL = ("--tile-size", "64", "--codec", "zstd")


def test_a_slide_without_mpp_fails_and_names_slide_flag_and_column(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    ended = wsi("tile", drawn.flat, drawn.plain, "-o", tmp_path / "RUN", *SMALL, "--mpp", "1")
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=["plain"])
    reason = slides_of(tmp_path / "RUN")["flat"]["reason"]
    assert all(word in reason for word in ("flat", "--slide-mpp", "column 'mpp'", "--level 0"))
    assert f"failed: flat ({drawn.flat}): {reason}" in ended.err


def test_slide_mpp_is_used_by_slides_that_do_not_say_and_only_by_them(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    settings = (*SMALL, "--mpp", "1", "--slide-mpp", "0.25")
    ended = wsi("tile", drawn.flat, drawn.plain, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["flat", "plain"])
    rows = slides_of(tmp_path / "RUN")
    assert (rows["flat"]["mpp_x"], rows["flat"]["mpp_note"]) == (0.25, "from --slide-mpp")
    assert (rows["plain"]["mpp_x"], rows["plain"]["mpp_note"]) == (0.5, "from the file")
    assert {row["width"] for row in rows_of(tmp_path / "RUN", "flat")} == {256}
    assert {row["width"] for row in rows_of(tmp_path / "RUN", "plain")} == {128}


def test_the_mpp_column_goes_before_flag_and_file(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path,mpp\n{drawn.flat},0.5\n{drawn.plain},0.25\n", encoding="utf-8")
    settings = (*SMALL, "--mpp", "1", "--slide-mpp", "1")
    ended = wsi("tile", table, "-o", tmp_path / "RUN", *settings)
    assert ended.code == 0
    rows = slides_of(tmp_path / "RUN")
    assert (rows["flat"]["mpp_x"], rows["plain"]["mpp_x"]) == (0.5, 0.25)
    assert rows["flat"]["mpp_note"] == "from the slide table"
    assert {row["width"] for row in rows_of(tmp_path / "RUN", "plain")} == {256}


def test_tiles_of_half_the_resolution_are_the_means_of_four_pixels(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *SMALL, "--mpp", "1")
    assert ended.code == 0
    rows, pixels = rows_of(tmp_path / "RUN", "plain"), stored(tmp_path / "RUN", "plain")
    assert len(rows) > 5
    for row, tile_rgb in zip(rows, pixels, strict=True):
        assert row["mpp"] == 1
        source = padded(drawn.rgb["plain"], row)
        expected = cv2.resize(source, (64, 64), interpolation=cv2.INTER_AREA)
        assert np.abs(tile_rgb.astype(int) - expected).max() <= 1


def test_a_finer_resolution_than_the_scan_fails_the_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *SMALL, "--mpp", "0.25")
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=[])
    reason = slides_of(tmp_path / "RUN")["plain"]["reason"]
    assert all(word in reason for word in ("--mpp 0.25 is finer than the scan", "0.5 x 0.5"))


@pytest.mark.parametrize("mpp", ["abc", "0", "353", "-1"])
def test_an_absurd_mpp_in_the_table_is_refused_with_its_row(
    mpp: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path,mpp\n{drawn.plain},0.5\n{drawn.flat},{mpp}\n", encoding="utf-8")
    ended = wsi("tile", table, "-o", tmp_path / "RUN", *SMALL)
    assert ended.code == 2
    assert f"{table}, row 2: mpp: expected 0.01 to 100 µm per pixel" in ended.err
    assert not (tmp_path / "RUN").exists()


def test_a_level_is_stored_as_it_is_with_its_own_mpp(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *SMALL, "--level", "1")
    assert ended.code == 0
    small = cv2.resize(drawn.rgb["plain"], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    for row, tile_rgb in zip(
        rows_of(tmp_path / "RUN", "plain"), stored(tmp_path / "RUN", "plain"), strict=True
    ):
        assert (row["level"], row["mpp"], row["width"]) == (1, 2, 256)
        inside = small[row["y"] // 4 : row["y"] // 4 + 64, row["x"] // 4 : row["x"] // 4 + 64]
        assert np.array_equal(tile_rgb[: inside.shape[0], : inside.shape[1]], inside)
