"""The table of all tiles of a run: read from one file per slide, whatever stages have added to each.

>>> from wsi_pipeline.manifest import read_manifest
>>> tiles = read_manifest("RUN", columns=["slide_id", "laplacian_var"]).to_pandas()  # doctest: +SKIP
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsi_pipeline.config import did_you_mean, first_of
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import absolute, seekable
from wsi_pipeline.tables import opened_table

if TYPE_CHECKING:
    import pandas as pd

Where: TypeAlias = str | pc.Expression
"""Which rows: words as ``pandas.DataFrame.query`` takes them, or an expression of ``pyarrow.compute``."""

_READERS = 4  # files at once; decompression lets go of the interpreter

_PIECE_FILES = 16
"""Slides asked together: enough that pandas' millisecond per question is nothing."""

MOST_NAMED = 6
"""Columns that a message names."""

_OF_ONE_TILE = {
    *("abs", "between", "contains", "endswith", "fillna", "isin", "isna", "isnull", "lower"),
    *("notna", "notnull", "startswith", "strip", "upper"),
}
"""Methods whose answer for a tile depends on that tile alone, unlike a mean's."""

_PLAIN = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.keyword, ast.operator),
    *(ast.boolop, ast.unaryop, ast.cmpop, ast.expr_context),
    *(ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Set),
)


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
    files = _files(run_path)
    wanted = list(files) if slide_ids is None else list(slide_ids)
    if lost := sorted(set(wanted) - files.keys()):
        raise ConfigError(f"{run_path}: no slide {', '.join(lost)} is done in this run")
    with ThreadPoolExecutor(_READERS) as readers:
        tables = list(readers.map(lambda slide_id: _read(files[slide_id], columns), wanted))
    if not tables:
        return pa.table({})
    table = pa.concat_tables(tables, promote_options="permissive")
    return table if columns is None else _in_order(table, columns, run_path)


def _files(run_path: str | Path) -> dict[str, Path]:
    files = manifest_files(run_path)
    if not files:
        raise ConfigError(f"{run_path}: expected a run with tiles, found no manifest in it")
    return files


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    with opened_table(path) as file:
        names = file.schema_arrow.names
        chosen = None if columns is None else [name for name in columns if name in names]
        return file.read(columns=chosen).replace_schema_metadata(None)


def _in_order(table: pa.Table, columns: Sequence[str], run_path: str | Path) -> pa.Table:
    lacking = [name for name in columns if name not in table.column_names]
    if lacking:
        raise _no_column(lacking, run_path)
    return table.select(list(columns))


def _no_column(names: Sequence[str], run_path: str | Path) -> ConfigError:
    return ConfigError(
        f"{run_path}: its manifest has no column {', '.join(names)}; "
        "label, qc and split add theirs: has that command been run?"
    )


def manifest_pieces(
    run_path: str | Path, *, columns: Sequence[str], where: Where | None
) -> Iterator[pa.Table]:
    """Yield the rows for which an expression holds, as ``rows_where`` of ``read_manifest`` would give them.

    They come some slides at a time, so that of millions of tiles never more is in memory than what is
    kept; unless the expression speaks of all tiles at once, as with ``score > score.mean()``.

    Parameters
    ----------
    run_path
        The run directory or its URL.
    columns
        Names of the columns wanted, in this order.
    where
        Which rows; all of them for None.

    Raises
    ------
    ConfigError
        There is no such run or column, or the expression is wrong.
    """
    asked = columns_in(where, manifest_columns(run_path)) if where is not None else []
    wanted = list(dict.fromkeys((*columns, *asked)))
    if not _asks_single_tiles(where):
        yield rows_where(read_manifest(run_path, columns=wanted), where).select(list(columns))
        return
    files = list(_files(run_path).values())
    absent: dict[str, pa.DataType] = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for begin in range(0, len(files), _PIECE_FILES):
            tables = readers.map(
                lambda path: _read(path, wanted), files[begin : begin + _PIECE_FILES]
            )
            table = pa.concat_tables(tables, promote_options="permissive")
            for name in wanted:
                if name not in table.column_names or pa.types.is_null(
                    table.schema.field(name).type
                ):
                    table = _with_nulls(table, name, absent, files, run_path)
            yield rows_where(table, where).select(list(columns))


def _asks_single_tiles(where: Where | None) -> bool:
    """Whether what an expression says of a tile depends on that tile alone."""
    if not isinstance(where, str):
        return True
    tree = ast.parse(re.sub(r"`[^`]+`", "None", where).strip(), mode="eval")
    return _is_plain(tree)


def _is_plain(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _OF_ONE_TILE:
            return all(map(_is_plain, (value, *node.args, *node.keywords)))
        case ast.Attribute(value=value, attr="str"):
            return _is_plain(value)
        case _:
            return isinstance(node, _PLAIN) and all(map(_is_plain, ast.iter_child_nodes(node)))


def _with_nulls(
    table: pa.Table,
    name: str,
    absent: dict[str, pa.DataType],
    files: Sequence[Path],
    run_path: str | Path,
) -> pa.Table:
    """Return a table with a column that only other slides have, null, of the type that it has there."""
    if name not in absent:
        schemas = (pq.read_schema(seekable(path)) for path in files)
        types = [schema.field(name).type for schema in schemas if name in schema.names]
        if not types:
            raise _no_column([name], run_path)
        absent[name] = next((kind for kind in types if not pa.types.is_null(kind)), types[0])
    kind: Any = absent[name]
    column = pa.nulls(table.num_rows, kind)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


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
        said, *_ = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(f"where: {where} cannot be asked of the manifest: {said}") from error
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
            f"where: no column {', '.join(unknown)} in the manifest{did_you_mean(unknown[0], known)}; "
            f"there are {first_of(known, MOST_NAMED)}"
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
    return list(manifest_types(run_path))


def manifest_types(run_path: str | Path) -> dict[str, pa.DataType]:
    """Return names and types of a run's columns, as its first slide has them.

    Raises
    ------
    ConfigError
        There is no such run.
    """
    files = _files(run_path)
    with opened_table(next(iter(files.values()))) as file:
        return {field.name: field.type for field in file.schema_arrow}
