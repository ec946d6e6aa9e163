"""The table of all tiles of a run: read from one file per slide, whatever stages have added to each.

>>> from wsi_pipeline.manifest import read_manifest
>>> tiles = read_manifest("RUN", columns=["slide_id", "laplacian_var"]).to_pandas()  # doctest: +SKIP
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import absolute, seekable

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
