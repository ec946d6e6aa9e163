import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.slides.find import SlideSource, find_slides, share_of


def test_files_are_taken_as_they_are_named_whatever_their_ending(tmp_path: Path) -> None:
    paths = touch(tmp_path, "b.svs", "a.xyz", "no_ending")
    found = find_slides(list(map(str, paths)))
    assert ids(found) == ["a", "b", "no_ending"]
    assert {source.path for source in found} == set(map(str, paths))
    assert all(source.refused is None for source in found)


def test_a_folder_is_searched_with_its_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "sub/b.NDPI", "sub/deeper/c.tiff", "sub/d.qptiff")
    assert ids(find_slides([str(tmp_path)])) == ["a", "b", "c", "d"]


def test_a_glob_is_expanded_here_as_in_the_shell(tmp_path: Path) -> None:
    touch(tmp_path, "north/a.svs", "north/b.tif", "south/c.svs")
    assert ids(find_slides([f"{tmp_path}/*/*.svs"])) == ["a", "c"]
    assert ids(find_slides([f"{tmp_path}/**/*.svs"])) == ["a", "c"]
    assert ids(find_slides([f"{tmp_path}/nor*"])) == ["a", "b"]


def test_a_name_with_brackets_is_a_file_and_no_glob(tmp_path: Path) -> None:
    touch(tmp_path, "a [1].svs")
    assert ids(find_slides([f"{tmp_path}/a [1].svs"])) == ["a [1]"]


def test_names_with_blanks_and_letters_of_any_script_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "näyte 1 😐.svs", "絵 ε.tif")
    found = find_slides([str(tmp_path)])
    assert ids(found) == sorted(["näyte 1 😐", "絵 ε"])
    assert all(Path(source.path).is_file() for source in found)


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "._a.svs", ".hidden/b.svs", ".DS_Store")
    assert [source.path for source in find_slides([str(tmp_path)])] == [f"{tmp_path}/a.svs"]


def test_the_data_folder_of_a_mrxs_slide_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "case.mrxs", "case/Data0000.dat", "case/preview.jpg", "other/b.svs")
    assert ids(find_slides([str(tmp_path)])) == ["b", "case"]


def test_other_files_in_a_folder_are_listed_with_the_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "notes.txt", "README")
    skipped = {
        Path(source.path).name: source.refused.reason
        for source in find_slides([str(tmp_path)])
        if source.refused and source.refused.status == "skipped"
    }
    assert skipped.keys() == {"notes.txt", "README"}
    assert ".txt" in skipped["notes.txt"]
    assert "without an ending" in skipped["README"]
    assert all("name the file itself" in reason for reason in skipped.values())


@pytest.mark.parametrize("folder_first", [True, False])
def test_a_file_named_itself_is_tried_also_where_its_folder_is_named(
    tmp_path: Path, *, folder_first: bool
) -> None:
    touch(tmp_path, "a.svs", "scan.xyz")
    arguments = [str(tmp_path), f"{tmp_path}/scan.xyz"]
    found = find_slides(arguments if folder_first else arguments[::-1])
    assert {source.slide_id: source.refused for source in found} == {"a": None, "scan": None}


def test_a_directory_with_the_name_of_a_slide_is_left_to_the_reader_to_refuse(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "x.svs/inside.svs", "y.svs")
    assert ids(find_slides([str(tmp_path)])) == ["x", "y"]
    assert ids(find_slides([f"{tmp_path}/x.svs"])) == ["x"]


def test_a_slide_named_twice_appears_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.svs", "b.svs")
    monkeypatch.chdir(tmp_path)
    named = [str(tmp_path), f"{tmp_path}/a.svs", "a.svs", "./b.svs", "*.svs", "../" + tmp_path.name]
    assert ids(find_slides(named)) == ["a", "b"]


def test_a_link_from_a_folder_to_itself_adds_no_slides(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.svs")
    (tmp_path / "data/again").symlink_to(tmp_path / "data", target_is_directory=True)
    assert ids(find_slides([str(tmp_path)])) == ["a"]


def test_a_linked_slide_keeps_the_name_of_its_link(tmp_path: Path) -> None:
    touch(tmp_path, "store/0001.svs")
    (tmp_path / "case.svs").symlink_to(tmp_path / "store/0001.svs")
    assert ids(find_slides([f"{tmp_path}/case.svs"])) == ["case"]


@pytest.mark.parametrize("name", ["missing.svs", "no/such/folder", "*.svs", "missing.csv"])
def test_what_names_nothing_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_slides([f"{tmp_path}/{name}"])
    assert name in str(caught.value)


def test_what_names_nothing_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check the spelling, or quote a glob"):
        find_slides([f"{tmp_path}/missing.svs"])
    with pytest.raises(ConfigError, match="name slides, folders, globs or a table"):
        find_slides([str(tmp_path)])
    touch(tmp_path, "notes.txt")
    with pytest.raises(ConfigError, match=r"no slides in .*looked for files ending in .*\.svs"):
        find_slides([str(tmp_path)])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_names_slides_and_keeps_its_other_columns(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "a.svs", "slide_id": "007", "patient_id": "01", "mpp": 0.25, "age": 61},
        {"path": f"{tmp_path}/b.svs", "slide_id": None, "patient_id": "02", "mpp": None, "age": 40},
    ]
    table = write_table(tmp_path / f"slides.{suffix}", rows)
    first, second = find_slides([str(table)])
    assert first == SlideSource(
        slide_id="007",
        path=f"{tmp_path}/a.svs",
        mpp=0.25,
        columns={"patient_id": "01", "age": 61},
    )
    assert second.slide_id == "b"
    assert second.mpp is None
    assert second.columns == {"patient_id": "02", "age": 40}


def test_paths_of_a_table_begin_at_the_tables_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "tables/slides.csv", [{"path": "../scans/a.svs"}])
    monkeypatch.chdir(tmp_path)
    for named in ("tables/slides.csv", str(tmp_path / "tables/slides.csv")):
        assert find_slides([named])[0].path == f"{tmp_path}/scans/a.svs"


def test_a_glob_can_name_tables(tmp_path: Path) -> None:
    write_table(tmp_path / "one.csv", [{"path": "a.svs"}])
    write_table(tmp_path / "two.csv", [{"path": "b.svs"}])
    assert ids(find_slides([f"{tmp_path}/*.csv"])) == ["a", "b"]


def test_a_table_of_excel_with_its_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("path,patient_id\na.svs,003\n", encoding="utf-8-sig")
    (found,) = find_slides([f"{tmp_path}/slides.csv"])
    assert found.columns == {"patient_id": "003"}


@pytest.mark.parametrize("table_first", [True, False])
def test_what_a_table_says_of_a_slide_holds_also_where_its_folder_is_named(
    tmp_path: Path, *, table_first: bool
) -> None:
    touch(tmp_path, "scans/a.svs")
    table = write_table(tmp_path / "t.csv", [{"path": "scans/a.svs", "slide_id": "x", "mpp": 0.5}])
    arguments = [str(table), f"{tmp_path}/scans"]
    (found,) = find_slides(arguments if table_first else arguments[::-1])
    assert (found.slide_id, found.mpp) == ("x", 0.5)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"file": "a.svs"}], "expected a column 'path', got file"),
        ([{"path": "a.svs"}, {"path": None, "x": 1}], "row 2: expected a path, got None"),
        ([{"path": " ", "x": 1}], "row 1: expected a path, got ' '"),
        ([{"path": "a.svs", "mpp": 353.0}], "row 1: mpp: expected 0.01 to 100 µm per pixel"),
        ([{"path": "a.svs", "mpp": 0.0}], "mpp: expected 0.01 to 100"),
        ([{"path": "a.svs", "mpp": "40x"}], "mpp: expected 0.01 to 100 µm per pixel, got '40x'"),
        ([{"path": "a.svs", "mpp": float("inf")}], "mpp: expected 0.01 to 100"),
        ([{"path": "a.svs", "slide_id": "a/b"}], "slide_id 'a/b' cannot name a file"),
        ([{"path": "a.svs", "slide_id": ".."}], r"slide_id '\.\.' cannot name a file"),
        ([{"path": "a.svs", "slide_id": "__x"}], "slide_id '__x' cannot name a file"),
        (
            [{"path": "a.svs", "slide_id": "s"}, {"path": "b.svs", "slide_id": "s"}],
            "slide_id: expected one per slide, got s more than once",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_row(
    tmp_path: Path, rows: list[dict[str, Any]], complaint: str
) -> None:
    table = write_table(tmp_path / "slides.csv", rows)
    with pytest.raises(ConfigError, match=complaint):
        find_slides([str(table)])


def test_a_table_that_says_two_things_of_one_slide_is_refused(tmp_path: Path) -> None:
    rows = [{"path": "a.svs", "slide_id": "one"}, {"path": "a.svs", "slide_id": "two"}]
    table = write_table(tmp_path / "slides.csv", rows)
    with pytest.raises(ConfigError, match=r"a\.svs"):
        find_slides([str(table)])


@pytest.mark.parametrize("content", [b"", b"path\n", b"\xff\xfe\x00", b"PAR1 or not"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_damaged_or_empty_table_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"t.{suffix}").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"t\.{suffix}: expected"):
        find_slides([f"{tmp_path}/t.{suffix}"])


def test_a_name_that_is_not_utf8_is_a_slide_that_failed_and_says_why(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs")
    (tmp_path / os.fsdecode(b"n\xe4yte.svs")).touch()
    found = find_slides([str(tmp_path)])
    failed = [source for source in found if source.refused]
    assert ids(found) == ["a"]
    assert [source.refused and source.refused.status for source in failed] == ["failed"]
    assert "not UTF-8" in str(failed[0].refused)


def test_numbers_as_names_are_text_in_every_kind_of_table(tmp_path: Path) -> None:
    rows = [{"path": "a.svs", "slide_id": 7, "patient_id": 1}, {"path": "b.svs", "slide_id": 8}]
    rows[1]["patient_id"] = 2
    for name in ("t.csv", "t.parquet"):
        first, second = find_slides([str(write_table(tmp_path / name, rows))])
        assert (first.slide_id, second.slide_id) == ("7", "8")
        assert (first.columns["patient_id"], second.columns["patient_id"]) == ("1", "2")


def test_a_name_too_long_for_a_file_is_refused_in_a_table_and_shortened_otherwise(
    tmp_path: Path,
) -> None:
    table = write_table(tmp_path / "t.csv", [{"path": "a.svs", "slide_id": "ä" * 120}])
    with pytest.raises(ConfigError, match="200 bytes"):
        find_slides([str(table)])
    table = write_table(tmp_path / "t.csv", [{"path": "ä" * 120 + ".svs"}, {"path": "b.svs"}])
    first, second = sorted(ids(find_slides([str(table)])), key=len)
    assert first == "b"
    assert len(second.encode()) <= 200


def test_a_column_that_the_run_measures_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", [{"path": "a.svs", "tiles": 3, "age": 1}])
    with pytest.raises(ConfigError, match="the columns tiles are measured by the run"):
        find_slides([str(table)])


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_slide_is_in_exactly_one_part(count: int, parts: int) -> None:
    sources = [SlideSource(slide_id=f"{number:03}", path=f"/{number}") for number in range(count)]
    shares = [share_of(sources, part=part, parts=parts) for part in range(1, parts + 1)]
    everything = sorted((source for share in shares for source in share), key=lambda s: s.slide_id)
    assert everything == sources
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def ids(sources: Sequence[SlideSource]) -> list[str]:
    return [source.slide_id for source in sources if source.refused is None]


def touch(folder: Path, *names: str) -> list[Path]:
    """Make files, which need hold nothing to be found."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pd.DataFrame([dict(row) for row in rows]).to_parquet(path)
        return path
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="", lineterminator=os.linesep)
        writer.writeheader()
        writer.writerows(rows)
    return path
