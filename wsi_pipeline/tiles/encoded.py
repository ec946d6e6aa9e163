"""The bytes of images that exist already, one after another: files, or a column of a Parquet file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_pipeline.errors import TileError

MOST_BYTES = 1 << 30
"""Of one image: more than any tile needs."""

_ROWS_AT_ONCE = 64  # of encoded images in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where images lie."""

    path: Path
    """A folder that file names are relative to, or a Parquet file."""
    column: str | None = None
    """The column of the Parquet file that holds their bytes; ``image.bytes`` where it is a struct."""


def encoded_images(origin: Origin, images: pa.Table) -> Iterator[bytes | TileError]:
    """Yield the bytes of every image of a table, or why there are none.

    Parameters
    ----------
    origin
        Where they lie.
    images
        ``source_path`` of files; ``source_row`` of rows of a Parquet file, ascending.
    """
    if origin.column is None:
        for name in images.column("source_path").to_pylist():
            yield _file_bytes(origin.path, str(name))
    else:
        rows = images.column("source_row").to_numpy()
        for value in _values(origin.path, origin.column, rows):
            yield TileError("its row holds no image") if value is None else bytes(value)


def _file_bytes(folder: Path, name: str) -> bytes | TileError:
    path = folder / name
    try:
        if (size_bytes := path.stat().st_size) > MOST_BYTES:
            return TileError(f"{name}: {size_bytes} bytes are no tile")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        return TileError(f"{name}: cannot be read ({getattr(error, 'strerror', error)})")


def _values(path: Path, column: str, rows: NDArray[np.int64]) -> Iterator[Any]:
    """Yield the column's value of each row; only row groups that hold one of them are read."""
    with pq.ParquetFile(path) as file:
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        for group in np.unique(np.searchsorted(starts, rows, side="right") - 1).tolist():
            first = starts[group]
            inside = rows[(rows >= first) & (rows < starts[group + 1])] - first
            batches = file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[column])
            yield from _chosen(batches, inside, column)


def _chosen(
    batches: Iterator[pa.RecordBatch], rows: NDArray[np.int64], column: str
) -> Iterator[Any]:
    before = 0
    for batch in batches:
        values: Any = batch.column(0)
        for part in column.split(".")[1:]:
            values = values.field(part)
        first, end = np.searchsorted(rows, [before, before + len(batch)])
        for row in rows[first:end].tolist():
            yield values[row - before].as_py()
        before += len(batch)
