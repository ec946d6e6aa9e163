"""Any rows of a Parquet file give their own images, whatever its row groups; files give their bytes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import TileError
from wsi_pipeline.tiles import encoded
from wsi_pipeline.tiles.encoded import Origin, encoded_images


@given(
    rows=st.integers(1, 200),
    group=st.integers(1, 90),
    is_struct=st.booleans(),
    wanted=st.sets(st.integers(0, 199), max_size=30),
)
def test_rows_give_their_own_images(
    *,
    rows: int,
    group: int,
    is_struct: bool,
    wanted: set[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("set") / "set.parquet"
    values: list[bytes | None] = [None if row % 11 == 5 else b"%d" % row for row in range(rows)]
    column: pa.Array[Any] = pa.array(values, type=pa.binary())
    if is_struct:
        column = pa.StructArray.from_arrays([column], ["bytes"])
    pq.write_table(pa.table({"image": column}), path, row_group_size=group)
    chosen = sorted(row for row in wanted if row < rows)
    origin = Origin(path=path, column="image.bytes" if is_struct else "image")
    images = pa.table({"source_row": pa.array(chosen, type=pa.int64())})
    found = list(encoded_images(origin, images))
    assert [None if isinstance(each, TileError) else each for each in found] == [
        values[row] for row in chosen
    ]


def test_files_give_their_bytes_or_say_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "MOST_BYTES", 3)
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "large").write_bytes(b"abcd")
    (tmp_path / "folder").mkdir()
    names = ["a", "gone", "large", "folder", "nul\0"]
    found = list(encoded_images(Origin(path=tmp_path), pa.table({"source_path": names})))
    assert found[0] == b"abc"
    assert [str(each) for each in found[1:3]] == [
        "gone: cannot be read (No such file or directory)",
        "large: 4 bytes are no tile",
    ]
    assert all(isinstance(each, TileError) for each in found[1:])
