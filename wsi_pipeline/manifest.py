"""The table of all tiles of a run: read from one file per slide, whatever stages have added to each.

>>> from wsi_pipeline.manifest import read_manifest
>>> tiles = read_manifest("RUN", columns=["slide_id", "laplacian_var"]).to_pandas()  # doctest: +SKIP
"""

import ast
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import absolute, seekable

if TYPE_CHECKING:
    import pandas as pd

Where: TypeAlias = str | pc.Expression
"""Which rows: words as ``pandas.DataFrame.query`` takes them, or an expression of ``pyarrow.compute``."""

_READERS = 4  # files at once; decompression lets go of the interpreter


def manifest_files(run_path: str | Path) -> dict[str, Path]:
    """Return the manifest file of every slide that is done, by slide_id, in order of name."""
    folder = absolute(run_path) / "manifest"
    return {path.stem: path for path in sorted(folder.glob("[!.]*.parquet"))}


def read_manifest(
    run_path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    slide_ids: Iterable[str] | None = None,
) -> pa.Table:
    """Return one row per tile, slides in order of name, tiles in order of number.

    A column that a later stage added to some slides only is null for the others, where
    ``pd.read_parquet`` of the folder would go by the first file.

    Parameters
    ----------
    run_path
        The run directory or its URL.
    columns
        Names of the columns wanted, in this order; all of them if not given.
    slide_ids
        Slides wanted; only their files are opened. All of them if not given.

    Raises
    ------
    ConfigError
        There is no such run, slide or column.
    """
    files = manifest_files(run_path)
    if not files:
        raise ConfigError(f"{run_path}: expected a run with tiles, found no manifest in it")
    wanted = list(files) if slide_ids is None else list(slide_ids)
    if lost := sorted(set(wanted) - files.keys()):
        raise ConfigError(f"{run_path}: no slide {', '.join(lost)} is done in this run")
    with ThreadPoolExecutor(_READERS) as readers:
        tables = list(readers.map(lambda slide_id: _read(files[slide_id], columns), wanted))
    if not tables:
        return pa.table({})
    table = pa.concat_tables(tables, promote_options="default")
    return table if columns is None else _in_order(table, columns, run_path)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    with pq.ParquetFile(seekable(path)) as file:
        names = file.schema_arrow.names
        chosen = None if columns is None else [name for name in columns if name in names]
        return file.read(columns=chosen).replace_schema_metadata(None)


def _in_order(table: pa.Table, columns: Sequence[str], run_path: str | Path) -> pa.Table:
    lacking = [name for name in columns if name not in table.column_names]
    if lacking:
        raise ConfigError(
            f"{run_path}: its manifest has no column {', '.join(lacking)}; "
            "label, qc and split add theirs: has that command been run?"
        )
    return table.select(list(columns))


def rows_where(table: pa.Table, where: Where | None) -> pa.Table:
    """Return the rows of a manifest for which an expression holds; all of them for None.

    >>> tiles = pa.table({"split": ["train", "test"], "laplacian_var": [80.0, 90.0]})
    >>> rows_where(tiles, "split == 'train' and laplacian_var > 50").num_rows
    1

    Raises
    ------
    ConfigError
        The expression is wrong, speaks of a column that is not there, or is not true or false of a row.
    """
    if where is None:
        return table
    try:
        if not isinstance(where, str):
            return table.filter(where)
        asked = as_frame(table.select(columns_in(where, table.column_names)))
        mask: Any = asked.eval(where, local_dict={}, global_dict={}, engine="python")
    except ConfigError:
        raise
    except Exception as error:  # pandas, Arrow and Python each have their own
        raise ConfigError(f"where: {where} cannot be asked of the manifest: {error}") from error
    if getattr(mask, "ndim", 0) != 1 or not str(mask.dtype).startswith("bool"):
        raise ConfigError(f"where: expected what is true or false of a tile, got {where!r}")
    return table.filter(pa.array(np.asarray(mask.fillna(value=False), dtype=np.bool_)))


def columns_in(where: Where | None, known: Sequence[str]) -> list[str]:
    """Return the columns that an expression speaks of, so that no others have to be read.

    >>> columns_in("split == 'train' and `my score` > 1", ["split", "label", "my score"])
    ['my score', 'split']

    Raises
    ------
    ConfigError
        It is no expression, or names what is no column.
    """
    if where is None:
        return []
    if not isinstance(where, str):
        return [name for name in known if re.search(rf"\b{re.escape(name)}\b", str(where))]
    quoted = re.findall(r"`([^`]+)`", where)
    try:
        tree = ast.parse(re.sub(r"`[^`]+`", "None", where).strip(), mode="eval")
    except SyntaxError as error:
        raise ConfigError(
            f"where: expected an expression such as split == 'train', got {where!r} ({error.msg})"
        ) from error
    nodes = list(ast.walk(tree))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}  # sqrt, of pandas
    plain = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called}
    names = sorted({*quoted, *plain})
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"where: no column {', '.join(unknown)} in the manifest; there are {', '.join(known)}"
        )
    return names


def as_frame(table: pa.Table) -> "pd.DataFrame":
    """Return a table for pandas, words as text: categories of two columns or slides cannot be compared."""
    plain = {name: plain_column(table.column(name)) for name in table.column_names}
    return pa.table(plain).to_pandas()


def plain_column(values: Any) -> Any:  # noqa: ANN401  Arrow's
    """Return a column without a dictionary: those of two slides differ."""
    kind = values.type
    return values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values


def manifest_columns(run_path: str | Path) -> list[str]:
    """Return the names of a run's columns, as its first slide has them.

    Raises
    ------
    ConfigError
        There is no such run.
    """
    files = manifest_files(run_path)
    if not files:
        raise ConfigError(f"{run_path}: expected a run with tiles, found no manifest in it")
    with pq.ParquetFile(seekable(next(iter(files.values())))) as file:
        return list(file.schema_arrow.names)
