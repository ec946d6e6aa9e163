"""Names of slides: unicode, spaces, the same name twice, links, and names that make trouble."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.runs import (
    CONFIG,
    GOOD,
    Command,
    Drawn,
    assert_whole,
    good_folder,
    manifest,
    process,
    slides_of,
    stored,
    tile,
    with_status,
)
from wsi_pipeline.stages.verify import verify_run

NAMES = [
    "Präparat 12 β-catenin.svs",
    "スライド 一.svs",
    "😐.svs",
    "a=b & c%20d#e?.svs",
    "two  spaces .svs",
    "[1] (2) {3}.svs",
    "-o.svs",
    'it\'s "quoted".svs',
    "dots.in.a.name.svs",
    "CAPITAL.SVS",
]


@pytest.mark.parametrize("name", NAMES)
def test_unusual_names_are_kept_everywhere(
    name: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = tmp_path / "my slides ü"
    folder.mkdir()
    shutil.copy(drawn.he, folder / name)
    run = tmp_path / "RUN of ü"
    ended = wsi("tile", folder, "-o", run, "--tile-size", "128")
    assert ended.code == 0, ended.err
    slide_id = Path(name).stem
    assert_whole(run, done=[slide_id])
    assert set(manifest(run)["slide_id"]) == {slide_id}
    assert len(stored(run, slide_id)) == len(manifest(run))
    assert wsi("verify", run).code == 0
    assert "1 slides done (1 before)" in wsi("tile", folder, "-o", run, "--tile-size", "128").out


def test_unusual_names_pass_through_real_processes(drawn: Drawn, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copy(drawn.he, tmp_path / name)
    ended = process("tile", *sorted(tmp_path.glob("*")), "-o", tmp_path / "R U N")
    assert ended.code == 0, ended.err
    assert_whole(tmp_path / "R U N", done=[Path(name).stem for name in NAMES])


def test_a_name_that_is_no_utf_8_spoils_no_other_slide(drawn: Drawn, tmp_path: Path) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    shutil.copy(drawn.he, folder / os.fsdecode(b"old \xe4.svs"))
    ended = process("tile", folder, "-o", tmp_path / "RUN", "--tile-size", "128")
    assert "Traceback" not in ended.err
    assert ended.code in {0, 1}
    assert set(GOOD) <= with_status(tmp_path / "RUN", "done")
    assert verify_run(tmp_path / "RUN").findings == ()


def test_a_name_as_long_as_a_name_can_be_spoils_no_other_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    shutil.copy(drawn.he, folder / f"{'x' * 251}.svs")
    ended = wsi("tile", folder, "-o", tmp_path / "RUN", "--tile-size", "128")
    assert ended.code in {0, 1}
    assert set(GOOD) <= with_status(tmp_path / "RUN", "done")


def test_a_slide_named_like_a_file_of_the_store_spoils_nothing(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    shutil.copy(drawn.he, folder / "zarr.json.svs")
    ended = wsi("tile", folder, "-o", tmp_path / "RUN", "--tile-size", "128")
    assert ended.code in {0, 1}
    assert set(GOOD) <= with_status(tmp_path / "RUN", "done")
    assert wsi("verify", tmp_path / "RUN").code == 0


def test_slides_of_the_same_name_in_different_folders_are_both_kept(
    drawn: Drawn, tmp_path: Path
) -> None:
    for folder, source in (("north", drawn.he), ("south", drawn.dark)):
        (tmp_path / "slides" / folder).mkdir(parents=True)
        shutil.copy(source, tmp_path / "slides" / folder / "a.svs")
    tile(tmp_path / "RUN", tmp_path / "slides")
    assert_whole(tmp_path / "RUN", done=["north_a", "south_a"])
    rows = slides_of(tmp_path / "RUN")
    assert rows["north_a"]["path"] == str(tmp_path / "slides/north/a.svs")
    assert (rows["north_a"]["dark_field"], rows["south_a"]["dark_field"]) == (False, True)


def test_slides_of_the_same_name_and_folder_keep_their_endings(
    drawn: Drawn, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(drawn.he, folder / "a.svs")
    shutil.copy(drawn.plain, folder / "a.tif")
    tile(tmp_path / "RUN", folder)
    assert_whole(tmp_path / "RUN", done=["slides_a.svs", "slides_a.tif"])


def test_a_slide_of_the_same_name_added_later_leaves_the_first_its_id(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    for folder, source in (("north", drawn.he), ("south", drawn.dark)):
        (tmp_path / "slides" / folder).mkdir(parents=True)
        shutil.copy(source, tmp_path / "slides" / folder / "a.svs")
    tile(tmp_path / "RUN", tmp_path / "slides" / "north")
    assert_whole(tmp_path / "RUN", done=["a"])
    before = (tmp_path / "RUN/manifest/a.parquet").stat()
    ended = wsi("tile", tmp_path / "slides", "-o", tmp_path / "RUN", "--tile-size", "128")
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["a", "south_a"])
    assert slides_of(tmp_path / "RUN")["a"]["path"].endswith("north/a.svs")
    assert (tmp_path / "RUN/manifest/a.parquet").stat().st_mtime_ns == before.st_mtime_ns
    assert "2 slides done (1 before)" in ended.out


def test_a_slide_that_is_named_twice_is_cut_once(drawn: Drawn, tmp_path: Path) -> None:
    outcome = tile(tmp_path / "RUN", drawn.plain, drawn.plain, drawn.folder)
    assert sorted(record.slide_id for record in outcome.records) == ["dark", "flat", "he", "plain"]


def test_a_folder_with_a_link_to_itself_is_searched_once(drawn: Drawn, tmp_path: Path) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "again").symlink_to(".")
    tile(tmp_path / "RUN", folder)
    assert_whole(tmp_path / "RUN", done=GOOD)


def test_a_link_keeps_its_own_name(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "patient 7.svs").symlink_to(drawn.he)
    tile(tmp_path / "RUN", tmp_path / "patient 7.svs")
    assert_whole(tmp_path / "RUN", done=["patient 7"])


def test_files_folders_globs_and_tables_name_the_same_slides(
    drawn: Drawn, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "slides.csv"
    pd.DataFrame({"path": [str(path) for path in drawn.folder.iterdir()]}).to_csv(table)
    pd.read_csv(table).to_parquet(tmp_path / "slides.parquet")
    expected = (undisturbed / "manifest" / "he.parquet").read_bytes()
    named = {
        "glob": drawn.folder / "*",
        "deep glob": drawn.folder.parent / "**" / drawn.folder.name / "*.*",
        "csv": table,
        "parquet": tmp_path / "slides.parquet",
        "relative": Path(drawn.folder.name),
    }
    monkeypatch.chdir(drawn.folder.parent)
    for name, slides in named.items():
        tile(tmp_path / name, slides, config=CONFIG)
        assert_whole(tmp_path / name, done=["he", "plain", "dark", "flat"])
        assert (tmp_path / name / "manifest" / "he.parquet").read_bytes() == expected
        assert verify_run(tmp_path / name).findings == ()
