"""Which tiles of a run are meant: slide by slide, by an expression over the manifest's columns."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.manifest import manifest_files
from wsi_pipeline.remote import seekable

if TYPE_CHECKING:
    import pandas as pd

READABLE = 'status == "ok"'
"""What is meant where nothing is said."""

_READ_BY_ALL = ("slide_id", "tile", "x", "y", "width", "height", "status", "crc32c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Tiles of a run for which an expression is true."""

    run_path: Path
    schema: pa.Schema
    """All columns that any slide of the run has."""
    where: str = READABLE

    def slides(self) -> list[str]:
        """Return the slides that are done, by name."""
        return list(manifest_files(self.run_path))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Yield every slide with its tiles that are meant, also where these are none.

        Parameters
        ----------
        columns
            Those wanted beside what every export reads; all if not given.

        Raises
        ------
        ConfigError
            The expression cannot be evaluated.
        """
        wanted = self._wanted(columns)
        for slide_id, path in manifest_files(self.run_path).items():
            with pq.ParquetFile(seekable(path)) as file:
                there = [name for name in wanted.names if name in file.schema_arrow.names]
                table = _with_all(file.read(columns=there), wanted)
            yield slide_id, table.filter(pa.array(self._meant(table)))

    def _wanted(self, columns: Sequence[str] | None) -> pa.Schema:
        if columns is None:
            return self.schema
        asked = {*_READ_BY_ALL, *columns, *self._named()}
        return pa.schema([each for each in self.schema if each.name in asked])

    def _named(self) -> set[str]:
        """Return the columns that the expression names, all of them where it is not plain Python."""
        try:
            nodes = ast.walk(ast.parse(self.where.strip(), mode="eval"))
        except SyntaxError:
            return set(self.schema.names)
        return {node.id for node in nodes if isinstance(node, ast.Name)}

    def _meant(self, table: pa.Table) -> Any:  # noqa: ANN401  pandas' mask
        frame = as_frame(table)
        meant: Any
        try:
            meant = frame.eval(self.where, local_dict={}, global_dict={}, engine="python")
        except Exception as error:
            raise ConfigError(
                f"where: {self.where!r} cannot be evaluated ({error}); expected a condition on the "
                f"columns {', '.join(self.schema.names[:6])}, …, as 'tissue > 0.5 and split == \"train\"'"
            ) from error
        if getattr(meant, "shape", None) != (len(frame),) or meant.dtype.kind != "b":
            raise ConfigError(
                f"where: expected a condition that is true or false for each tile, got {self.where!r}"
            )
        return meant.to_numpy(dtype=bool)


def select_tiles(run_path: Path, where: str | None) -> Selection:
    """Return the tiles that are meant; nothing of them is read but the names of columns.

    Raises
    ------
    ConfigError
        There is no such run.
    """
    files = manifest_files(run_path)
    if not files:
        raise ConfigError(f"{run_path}: expected a run with tiles, found no manifest in it")
    schemas = []
    for path in files.values():
        with pq.ParquetFile(seekable(path)) as file:
            schemas.append(file.schema_arrow.remove_metadata())
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise ConfigError(f"{run_path}: its manifests differ in type ({error})") from error
    return Selection(run_path=run_path, schema=schema, where=where or READABLE)


def as_frame(table: pa.Table) -> "pd.DataFrame":
    """Return a table for pandas, words as text: categories of two slides could not be compared."""
    plain = {name: plain_column(table.column(name)) for name in table.column_names}
    return pa.table(plain).to_pandas()


def plain_column(values: Any) -> Any:  # noqa: ANN401  Arrow's
    """Return a column without a dictionary: those of two slides differ."""
    kind = values.type
    return values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, null where it has none."""
    columns = [
        table.column(each.name).cast(each.type)
        if each.name in table.column_names
        else pa.nulls(len(table), each.type)
        for each in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
