"""Parquet tables, written whole and read back against their schema."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.files import published
from wsi_pipeline.schema import Column, arrow_schema


def table_of(columns: tuple[Column, ...], values: Mapping[str, Any]) -> pa.Table:
    """Return a table with exactly these columns; a column without values is null."""
    schema = arrow_schema(columns)
    rows = len(next(iter(values.values()))) if values else 0
    arrays = [
        pa.array(values[field.name], type=field.type)
        if field.name in values
        else pa.nulls(rows, type=field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def table_of_rows(columns: tuple[Column, ...], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return one row per mapping; keys beyond the columns become further columns, in order of name."""
    values = {column.name: [row.get(column.name) for row in rows] for column in columns}
    table = table_of(columns, values)
    for name in sorted({key for row in rows for key in row} - values.keys()):
        table = table.append_column(name, _free_column([row.get(name) for row in rows]))
    return table


def _free_column(values: Sequence[Any]) -> "pa.Array[Any]":
    """Return a column of the user's own, as text where its values are of several types."""
    try:
        column: pa.Array[Any] = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = pa.array([None if value is None else str(value) for value in values])
    return column


def write_table(path: Path, table: pa.Table, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table whole or not at all; the same table gives the same bytes."""
    if metadata is not None:
        table = table.replace_schema_metadata(dict(metadata))
    # An own handle, because Arrow keeps the one it opens when the disk is full.
    with published(path) as temporary, temporary.open("wb") as handle:
        pq.write_table(table, handle, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Return a table as it was written, its metadata with it."""
    return pq.read_table(path, partitioning=None)


def table_metadata(table: pa.Table) -> dict[str, str]:
    """Return what was written beside the columns."""
    pairs = (table.schema.metadata or {}).items()
    return {key.decode(): value.decode() for key, value in pairs}
