import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from wsi_pipeline.errors import OutputError
from wsi_pipeline.schema import SLIDE_COLUMNS, TILE_COLUMNS, Column, arrow_schema
from wsi_pipeline.tables import read_table, table_metadata, table_of, table_of_rows, write_table

COLUMNS = (
    Column(name="slide_id", type=pa.string(), meaning="which"),
    Column(name="tiles", type=pa.int32(), meaning="how many"),
    Column(name="mpp", type=pa.float32(), meaning="how large"),
)

rows_of_columns = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "slide_id": st.none() | st.text(max_size=8),
            "tiles": st.none() | st.integers(-(2**31), 2**31 - 1),
            "mpp": st.none() | st.floats(width=32, allow_nan=False),
        },
    ),
    max_size=6,
)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@given(rows_of_columns)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    write_table(path, table_of_rows(COLUMNS, rows))
    found = read_table(path)
    names = [column.name for column in COLUMNS]
    assert found.to_pylist() == [{name: row.get(name) for name in names} for row in rows]
    assert found.schema.names == names
    assert found.schema.types == [column.type for column in COLUMNS]


@given(rows_of_columns)
def test_the_same_table_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    for name in ("a", "b"):
        table = table_of_rows(COLUMNS, [dict(row) for row in rows])
        write_table(folder / name, table, metadata={"digest": "0123", "version": "1"})
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    write_table(folder / "a", read_table(folder / "b"))
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@given(st.lists(st.dictionaries(st.sampled_from(["age", "note", "x"]), plain), min_size=1))
def test_columns_of_the_users_own_are_kept_as_they_are_or_as_text(
    rows: list[dict[str, Any]],
) -> None:
    table = table_of_rows(COLUMNS, rows)
    for name in {key for row in rows for key in row}:
        values = [row.get(name) for row in rows]
        as_text = [None if value is None else str(value) for value in values]
        assert table.column(name).to_pylist() in (values, as_text)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, "a"], ["1", "a"]),
        ([True, 2], ["True", "2"]),
        ([1, None], [1, None]),
        ([1, 2.5], [1.0, 2.5]),
        ([None, None], [None, None]),
        ([2**70, 1], [str(2**70), "1"]),
        ([{"a": 1}, 2], ["{'a': 1}", "2"]),
    ],
)
def test_values_of_several_types_become_text(values: list[Any], expected: list[Any]) -> None:
    table = table_of_rows(COLUMNS, [{"mine": value} for value in values])
    assert table.column("mine").to_pylist() == expected


def test_columns_of_the_users_own_follow_in_order_of_name() -> None:
    table = table_of_rows(COLUMNS, [{"b": 1, "slide_id": "s"}, {"a": "x"}])
    assert table.column_names == ["slide_id", "tiles", "mpp", "a", "b"]


def test_a_column_without_values_is_null_of_its_type() -> None:
    table = table_of(COLUMNS, {"slide_id": ["a", "b"]})
    assert table.column("tiles").to_pylist() == [None, None]
    assert table.column("tiles").type == pa.int32()


def test_a_table_without_rows_has_its_columns() -> None:
    for table in (table_of(COLUMNS, {}), table_of_rows(COLUMNS, [])):
        assert table.num_rows == 0
        assert table.schema.equals(arrow_schema(COLUMNS))


KINDS = {
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.uint8(): st.integers(0, 2**8 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False) | st.integers(-99, 99),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.dictionary(pa.int32(), pa.string()): st.text(max_size=2),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_a_column_is_what_arrow_makes_of_its_values(kind: pa.DataType, data: DataObject) -> None:
    values = data.draw(st.lists(st.none() | KINDS[kind], max_size=20))
    column = Column(name="x", type=kind, meaning="any")
    made = table_of((column,), {"x": values}).column("x").combine_chunks()
    made.validate(full=True)
    assert made.equals(pa.array(values, type=kind))


def test_tables_are_written_and_read_without_loading_pandas(tmp_path: Path) -> None:
    lines = (
        "import sys, pathlib; from wsi_pipeline.schema import *; from wsi_pipeline.tables import *;"
        "path = pathlib.Path(sys.argv[1]);"
        "write_table(path, table_of_rows(SLIDE_COLUMNS, [{'slide_id': 'a', 'tiles': 3}]));"
        "print(read_table(path).num_rows, 'pandas' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", lines, tmp_path / "t.parquet"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["1", "False"]


@pytest.mark.parametrize("values", [["many"], [2**31]])
def test_a_value_of_another_type_is_refused(values: list[Any]) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        table_of(COLUMNS, {"tiles": values})


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=4))
def test_what_is_written_beside_the_columns_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    write_table(path, table_of(COLUMNS, {"tiles": [1]}), metadata=metadata)
    assert table_metadata(read_table(path)) == metadata


def test_a_folder_of_tables_is_one_table_for_pandas(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [{"slide_id": name, "tile": tile} for tile in range(3)]
        write_table(tmp_path / f"{name}.parquet", table_of_rows(TILE_COLUMNS, rows))
    frame = pd.read_parquet(tmp_path)
    assert list(frame["slide_id"]) == ["a"] * 3 + ["b"] * 3
    assert list(frame.columns) == [column.name for column in TILE_COLUMNS]


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").mkdir()
    with pytest.raises(OutputError):
        write_table(tmp_path / "t.parquet", table_of(COLUMNS, {"tiles": [1]}))
    assert [path.name for path in tmp_path.rglob("*")] == ["t.parquet"]


@pytest.mark.parametrize("columns", [TILE_COLUMNS, SLIDE_COLUMNS], ids=["tiles", "slides"])
def test_no_column_is_named_twice_and_each_has_a_meaning(columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    assert all(column.meaning and not column.meaning.endswith(".") for column in columns)
