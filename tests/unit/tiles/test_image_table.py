"""Tables of images: names stay text, numbers are numbers, and nothing changes without being said."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.tiles.image_table import checked_table, read_rows

CELLS = st.lists(st.from_regex(r"[A-Za-z0-9.+-]{1,8}", fullmatch=True), min_size=1, max_size=10)


def csv(folder: Path, text: str) -> pa.Table:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return read_rows(folder / "t.csv")


@given(cells=CELLS)
def test_names_in_a_csv_stay_what_they_are(
    cells: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join(["label,path", *(f"{cell},{cell}" for cell in cells)])
    table = csv(tmp_path_factory.mktemp("csv"), text)
    assert table.column("label").to_pylist() == cells
    assert table.column("path").to_pylist() == cells


def test_other_columns_become_numbers_only_where_that_loses_nothing(tmp_path: Path) -> None:
    table = csv(tmp_path, "whole,decimal,code,mixed,gap\n1,0.5,007,1,\n-2,3,010,x,\n")
    assert [str(kind) for kind in table.schema.types] == [
        "int64",
        "double",
        "string",
        "string",
        "string",
    ]
    assert table.column("code").to_pylist() == ["007", "010"]
    assert table.column("gap").to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([1, 0], pa.int8()), ["1", "0"]),
        (pa.array([1.0, None]), ["1", None]),
        (pa.array([0.5, 1.0]), ["0.5", "1"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["a", ""]), ["a", None]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    ],
    ids=str,
)
def test_labels_are_text(values: "pa.Array[Any]", texts: list[str | None]) -> None:
    table, _ = checked_table(pa.table({"label": values}), Path("t"), keep_metrics=False)
    assert table.column("label").to_pylist() == texts


def test_what_the_run_makes_itself_is_left_out_and_named() -> None:
    table = pa.table({"tile": [0], "gray_mean": [1.0], "status": ["ok"], "stain": ["HE"]})
    kept, dropped = checked_table(table, Path("t"), keep_metrics=False)
    assert (kept.column_names, dropped) == (["stain"], ("tile", "gray_mean", "status"))
    kept, dropped = checked_table(table, Path("t"), keep_metrics=True)
    assert (kept.column_names, dropped) == (["gray_mean", "stain"], ("tile", "status"))


@pytest.mark.parametrize("values", [["left"], [0.5], [2**40]])
def test_places_are_whole_level0_pixels(values: list[object]) -> None:
    with pytest.raises(ConfigError, match="t: column x: expected int32"):
        checked_table(pa.table({"x": values}), Path("t"), keep_metrics=False)
