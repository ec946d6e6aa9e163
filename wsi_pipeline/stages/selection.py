"""Which tiles of a run are meant: slide by slide, by an expression over the manifest's columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.manifest import columns_in, manifest_files, rows_where
from wsi_pipeline.remote import seekable

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
            yield slide_id, rows_where(table, self.where)

    def _wanted(self, columns: Sequence[str] | None) -> pa.Schema:
        if columns is None:
            return self.schema
        asked = {*_READ_BY_ALL, *columns, *columns_in(self.where, self.schema.names)}
        return pa.schema([each for each in self.schema if each.name in asked])


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


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, null where it has none."""
    columns = [
        table.column(each.name).cast(each.type)
        if each.name in table.column_names
        else pa.nulls(len(table), each.type)
        for each in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
