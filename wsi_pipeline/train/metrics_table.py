"""The table of a training, metrics.parquet: read, added to and cut, never half there.

The folder of a model holds ``metrics.parquet``, written anew at the end of an epoch, and since then parts in
``metrics/``, each named by the number of its first row.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsi_pipeline.errors import OutputError
from wsi_pipeline.files import exists, names_below, remove_file
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.tables import read_table, table_of, write_table
from wsi_pipeline.train.columns import CLASS_COLUMNS, TRAINING_COLUMNS

TABLE = "metrics.parquet"

_PARTS = "metrics"

_FIXED = {column.name for column in TRAINING_COLUMNS}
_FAMILIES = {
    column.name.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ").split("NN")[0]: column.type
    for column in CLASS_COLUMNS
}
"""Beginnings of the names of columns that there are for each term or class, and their types."""


def read_history(folder: Path) -> pa.Table | None:
    """Return all rows that a training has written so far, also while it goes on; None without any.

    Columns are those of ``TRAINING_COLUMNS``, then the others by name.
    """
    pieces = list(_pieces(folder))
    if not pieces:
        return None
    joined = pa.concat_tables(pieces, promote_options="default")
    others = sorted(set(joined.column_names) - _FIXED)
    return joined.select([*(column.name for column in TRAINING_COLUMNS), *others])


def validation_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the row of validation of every epoch that was finished so far, in order."""
    table = read_history(folder)
    rows = [] if table is None else table.to_pylist()
    return [row for row in rows if (row["kind"], row["part"]) == ("epoch", "validation")]


def add_part(folder: Path, first: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows behind the first so many.

    Raises
    ------
    OutputError
        The disk is full, or writing is not allowed.
    """
    _write(folder / _PARTS / f"{first:012d}.parquet", _table(rows))


def join_parts(folder: Path) -> None:
    """Write metrics.parquet with all rows so far; the parts go."""
    joined = read_history(folder)
    if joined is not None:
        _write(folder / TABLE, joined)
    _remove_parts(folder)


def is_column(name: str) -> bool:
    """Whether metrics.parquet may have a column of this name."""
    return _kind_of(name) is not None


def _pieces(folder: Path) -> Iterator[pa.Table]:
    """Yield metrics.parquet and the parts that follow it; others are left of something cut off."""
    rows = 0
    if exists(folder / TABLE):
        whole = read_table(folder / TABLE)
        rows = whole.num_rows
        yield whole
    for path in _parts(folder):
        if int(path.stem) == rows:
            part = read_table(path)
            rows += part.num_rows
            yield part


def _parts(folder: Path) -> list[Path]:
    parts = folder / _PARTS
    names = sorted(names_below(parts)) if exists(parts) else []
    return [parts / name for name in names if name.removesuffix(".parquet").isdecimal()]


def _remove_parts(folder: Path) -> None:
    for path in _parts(folder):
        remove_file(path)


def cut(folder: Path, rows: int) -> pa.Table | None:
    """Leave the first rows in metrics.parquet and nothing else, and return them.

    Raises
    ------
    OutputError
        There are fewer, or the folder cannot be written.
    """
    there = read_history(folder)
    if (0 if there is None else there.num_rows) < rows:
        raise OutputError(
            f"{folder / TABLE}: expected at least the {rows} rows that the checkpoint knows of, got "
            f"{0 if there is None else there.num_rows}; put the file back, or train anew with --overwrite"
        )
    kept = None if there is None or rows == 0 else there.slice(0, rows)
    if kept is None:
        remove_file(folder / TABLE)
    elif there is not None:
        _write(folder / TABLE, kept)
    _remove_parts(folder)
    return kept


def last_step(rows: pa.Table | None) -> int | None:
    """Return the last step that is kept, or None where there is none."""
    if rows is None:
        return None
    step: int = rows.column("step")[-1].as_py()
    return step


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    fixed = {name: [row.get(name) for row in rows] for name in _FIXED}
    table = table_of(TRAINING_COLUMNS, fixed)
    for name in sorted({name for row in rows for name in row} - _FIXED):
        kind = _kind_of(name)
        table = table.append_column(name, pa.array([row.get(name) for row in rows], type=kind))
    return table


def _kind_of(name: str) -> pa.DataType | None:
    """Return the type of a column, or None where there is none of this name."""
    if name in _FIXED:
        return next(column.type for column in TRAINING_COLUMNS if column.name == name)
    return next((kind for start, kind in _FAMILIES.items() if name.startswith(start)), None)


def _write(path: Path, table: pa.Table) -> None:
    write_table(path, table, metadata={"schema_version": SCHEMA_VERSION})
