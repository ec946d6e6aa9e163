"""Parquet tables, written whole and read back against their schema."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.errors import PipelineError
from wsi_pipeline.files import published
from wsi_pipeline.remote import seekable
from wsi_pipeline.schema import Column, arrow_schema


class TableError(PipelineError, pa.ArrowInvalid):
    """A table is damaged, or none: it has to be put back, or made again (exit 1)."""


def table_of(columns: tuple[Column, ...], values: Mapping[str, Any]) -> pa.Table:
    """Return a table with exactly these columns; a column without values is null."""
    schema = arrow_schema(columns)
    rows = len(next(iter(values.values()))) if values else 0
    arrays = [
        _array(values[field.name], field.type)
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


_MOST_TEXT_BYTES = 2**31 - 1


def _array(values: Sequence[Any], kind: pa.DataType) -> "pa.Array[Any]":
    """Return what ``pa.array`` makes of values of a type, without loading pandas as it does.

    That takes as long as cutting 50 tiles.
    """
    if pa.types.is_dictionary(kind):
        words = list(dict.fromkeys(value for value in values if value is not None))
        places = {word: place for place, word in enumerate(words)}
        indices = _array([places.get(value) for value in values], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, _array(words, kind.value_type))
    valid = np.array([value is not None for value in values], dtype=np.bool_)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        texts = [b"" if value is None else value for value in values]
        parts = [text.encode() if isinstance(text, str) else text for text in texts]
        ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        if ends[-1] > _MOST_TEXT_BYTES:
            return pa.array(values, type=kind)  # in several chunks
        ends = ends.astype(np.int32)
        buffers = [pa.py_buffer(ends.data), pa.py_buffer(b"".join(parts))]
    else:
        buffers = [_numbers(values, kind)]
    bitmap = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little").data)
    return pa.Array.from_buffers(kind, len(values), [bitmap, *buffers])


def _numbers(values: Sequence[Any], kind: pa.DataType) -> pa.Buffer:
    given = np.array([0 if value is None else value for value in values])
    try:
        numbers = given.astype(kind.to_pandas_dtype())
    except ValueError as error:
        raise pa.ArrowInvalid(f"expected {kind}: {error}") from error
    if pa.types.is_boolean(kind):
        return pa.py_buffer(np.packbits(numbers, bitorder="little").data)
    if pa.types.is_integer(kind) and not np.array_equal(numbers, given):
        raise pa.ArrowInvalid(f"expected {kind}, got {given.min()} to {given.max()}")
    return pa.py_buffer(numbers.data)


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


def write_pieces(
    path: Path, pieces: Iterable[pa.Table], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write one table of several pieces whole or not at all, a piece in memory at a time.

    Parameters
    ----------
    pieces
        At least one; all of the same columns, and each a group of rows in the file. Dictionaries are equal.
    """
    with published(path) as temporary, temporary.open("wb") as handle, ExitStack() as stack:
        writer: Any = None
        for piece in pieces:
            named = piece if metadata is None else piece.replace_schema_metadata(dict(metadata))
            if writer is None:
                made = pq.ParquetWriter(handle, named.schema, compression="zstd")
                writer = stack.enter_context(made)
            writer.write_table(named)


def read_table(path: Path, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table as it was written, its metadata with it; of a local file only the columns are read.

    Raises
    ------
    TableError
        The file is damaged, or no table.
    """
    with opened_table(path) as file:
        return file.read(columns=None if columns is None else list(columns))


@contextmanager
def opened_table(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a table to read parts of it.

    Raises
    ------
    TableError
        The file is damaged, or no table, as soon as that is found.
    """
    try:
        with pq.ParquetFile(seekable(path)) as file:
            yield file
    except TableError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the file
        said, *_ = str(error).splitlines() or [type(error).__name__]
        raise TableError(
            f"{path}: cannot be read as a Parquet table ({said}); put the file back, or remove it and make "
            "it again"
        ) from error


def table_metadata(table: pa.Table) -> dict[str, str]:
    """Return what was written beside the columns."""
    pairs = (table.schema.metadata or {}).items()
    return {key.decode(): value.decode() for key, value in pairs}
