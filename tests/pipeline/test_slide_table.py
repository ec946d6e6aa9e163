"""The user's own table of slides: its columns stay, and it never speaks over what was measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.runs import Command, Drawn, assert_whole, slides_of

SETTINGS = ("--tile-size", "128")


def test_the_columns_of_a_csv_are_kept_as_they_are(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = drawn.folder.parent / "cohort.csv"
    table.write_text(
        "path,slide_id,patient_id,scanner,centre,stage,score,note\n"
        f'{drawn.folder.name}/he.svs,S1,007,lab scanner,01,2,0.5,"a, b"\n'
        f"{drawn.folder.name}/plain.tif,S2,0010,,Jyväskylä,3,,\n",
        encoding="utf-8",
    )
    ended = wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS)
    table.unlink()
    assert ended.code == 0, ended.err
    assert_whole(tmp_path / "RUN", done=["S1", "S2"])
    first, second = slides_of(tmp_path / "RUN").values()
    assert (first["patient_id"], second["patient_id"]) == ("007", "0010")
    assert (first["centre"], second["centre"]) == ("01", "Jyväskylä")
    assert (first["stage"], second["stage"]) == (2, 3)
    assert (first["score"], second["score"]) == (0.5, None)
    assert (first["note"], second["note"]) == ("a, b", None)
    assert first["path"] == str(drawn.he)


def test_the_scanner_of_the_table_goes_before_the_files_and_an_empty_one_does_not(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.csv"
    (tmp_path / "again.svs").symlink_to(drawn.he)
    table.write_text(f"path,scanner\n{drawn.he},lab scanner\nagain.svs,\n", encoding="utf-8")
    assert wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS).code == 0
    rows = slides_of(tmp_path / "RUN")
    assert rows["he"]["scanner"] == "lab scanner"
    assert rows["again"]["scanner"] == "SS1234"


def test_columns_are_kept_for_failed_slides_too(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "bad.svs").touch()
    table = tmp_path / "slides.csv"
    table.write_text(f"path,patient_id\nbad.svs,001\n{drawn.he},002\n", encoding="utf-8")
    assert wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS).code == 1
    assert_whole(tmp_path / "RUN", done=["he"])
    rows = slides_of(tmp_path / "RUN")
    assert (rows["bad"]["patient_id"], rows["he"]["patient_id"]) == ("001", "002")


def test_a_row_whose_file_is_missing_fails_alone(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path\ngone.svs\n{drawn.he}\n", encoding="utf-8")
    assert wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS).code == 1
    assert_whole(tmp_path / "RUN", done=["he"])
    assert "No such file" in slides_of(tmp_path / "RUN")["gone"]["reason"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file\na.svs\n", "expected a column 'path', got file"),
        ("path\n", "expected a row per slide, got none"),
        ("", "expected a CSV or Parquet table"),
        ("path,mpp\n,0.5\n", "row 1: expected a path"),
        ("path,slide_id\na.svs,x\nb.svs,x\n", "slide_id: expected one per slide, got x"),
        ("path,slide_id\na.svs,../x\n", "row 1: slide_id '../x' cannot name a file"),
        ("path,slide_id\na.svs,.x\n", "row 1: slide_id '.x' cannot name a file"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    text: str, words: str, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "slides.csv").write_text(text, encoding="utf-8")
    ended = wsi("tile", tmp_path / "slides.csv", "-o", tmp_path / "RUN")
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "RUN").exists()


@pytest.mark.parametrize("column", ["tiles", "width", "dark_field", "fingerprint", "stored_bytes"])
def test_a_column_of_the_users_never_replaces_what_was_measured(
    column: str, drawn: Drawn, undisturbed: Path, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path,{column}\n{drawn.he},1\n", encoding="utf-8")
    ended = wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS)
    assert "Traceback" not in ended.err
    if ended.code == 2:  # refused by name is as good
        assert column in ended.err
        return
    assert_whole(tmp_path / "RUN", done=["he"])
    assert slides_of(tmp_path / "RUN")["he"][column] == slides_of(undisturbed)["he"][column]


@pytest.mark.parametrize(
    "values",
    [
        {"patient_id": [7, 8]},
        {"scanner": [1, 2]},
        {"slide_id": [1, 2]},
        {"date": pd.to_datetime(["2024-01-01", "2024-02-01"])},
        {"age": pd.array([61, None], dtype="Int64")},
        {"group": pd.Categorical(["a", "b"])},
        {"mixed": ["1", None]},
        {"flag": [True, False]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_parquet_table_may_hold_columns_of_any_type(
    values: dict[str, Any], drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.parquet"
    pd.DataFrame({"path": [str(drawn.he), str(drawn.plain)], **values}).to_parquet(table)
    ended = wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS)
    assert ended.code == 0, ended.err
    done = [str(each) for each in values.get("slide_id", ["he", "plain"])]
    assert_whole(tmp_path / "RUN", done=done)
    assert set(values) <= set(pd.read_parquet(tmp_path / "RUN" / "slides.parquet").columns)


def test_a_column_of_lists_is_kept_or_refused_by_name(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.parquet"
    pd.DataFrame({"path": [str(drawn.he)], "marks": [np.array([1, 2])]}).to_parquet(table)
    ended = wsi("tile", table, "-o", tmp_path / "RUN", *SETTINGS)
    if ended.code == 2:
        assert "marks" in ended.err
        return
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["he"])


def test_a_corrected_mpp_in_the_table_is_not_passed_over_in_silence(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path,mpp\n{drawn.flat},0.5\n", encoding="utf-8")
    settings = (*SETTINGS, "--mpp", "1")
    assert wsi("tile", table, "-o", tmp_path / "RUN", *settings).code == 0
    table.write_text(f"path,mpp\n{drawn.flat},0.25\n", encoding="utf-8")
    again = wsi("tile", table, "-o", tmp_path / "RUN", *settings)
    redone = slides_of(tmp_path / "RUN")["flat"]["mpp_x"] == 0.25
    assert redone or (again.code in {1, 2} and "0.5" in again.err and "now 0.25" in again.err)
