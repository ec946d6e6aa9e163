"""What splits are made from and kept in: tables of slides and tiles, lists of users, RUN/splits.parquet."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import exists, publish_bytes, read_bytes
from wsi_pipeline.labels.audited import (
    CONTENT,
    FOOTPRINT,
    PARTITION,
    SOURCE,
    is_another_name,
    same_file,
)
from wsi_pipeline.labels.similar import COLOURS
from wsi_pipeline.labels.strata import COUNT, SHARE
from wsi_pipeline.manifest import manifest_files, read_manifest
from wsi_pipeline.remote import place, seekable
from wsi_pipeline.schema import SCHEMA_VERSION, SPLIT_TABLE_COLUMNS
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, read_records
from wsi_pipeline.tables import read_table, table_metadata, table_of, write_table

_READERS = 4  # files at once; decompression lets go of the interpreter
_AUDITED = (*FOOTPRINT, *COLOURS, *CONTENT)
_NAMES = ("slide_id", "patient_id")


def slides_of_run(run: RunDirectory) -> pd.DataFrame:
    """Return one row per slide that is done: what slides.parquet knows and what its tiles are labelled."""
    records = [record for record in read_records(run) if record.status == "done"]
    with ThreadPoolExecutor(_READERS) as readers:
        labels = list(readers.map(lambda record: _labels_of(run, record), records))
    rows = [
        {**_plain(record.values), **found, "slide_id": record.slide_id, "tiles": record.tiles}
        for record, found in zip(records, labels, strict=True)
    ]
    if not rows:
        raise ConfigError(f"{run.path}: expected a run with slides that are done, found none in it")
    slides = pd.DataFrame(rows)
    return slides.assign(same_file=same_file(slides))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a slide that are no pictures or profiles."""
    return {name: value for name, value in values.items() if not isinstance(value, bytes)}


def _labels_of(run: RunDirectory, record: SlideRecord) -> dict[str, float]:
    """Return mean shares of classes and counts of labels of a slide's tiles."""
    with pq.ParquetFile(seekable(run.manifest(record.slide_id))) as file:
        names = [name for name in file.schema_arrow.names if name.startswith(SHARE)]
        has_label = "label" in file.schema_arrow.names
        table = file.read(columns=[*names, *(["label"] if has_label else [])])
    found = {name: _mean(table.column(name)) for name in names}
    if has_label:
        words = Counter(table.column("label").cast(pa.string()).drop_null().to_pylist())
        found |= {f"{COUNT}{word}": count for word, count in words.items()}
    return found


def _mean(column: "pa.ChunkedArray[Any]") -> float:
    """Return the mean over all tiles; one without a share has none of the class."""
    values = column.to_pandas().fillna(0)
    return float(values.mean()) if len(values) else 0.0


def tiles_of_run(run: RunDirectory, *, partitions: bool) -> pd.DataFrame:
    """Return what an audit looks at, one row per tile; the columns of the last split only if asked for."""
    files = manifest_files(run.path)
    known = {record.slide_id for record in read_records(run) if record.status == "done"}
    names: set[str] = set()
    for slide_id in known & files.keys():
        with pq.ParquetFile(seekable(files[slide_id])) as file:
            names |= set(file.schema_arrow.names)
    splits = sorted(name for name in names if PARTITION.fullmatch(name)) if partitions else []
    wanted = ["slide_id", *[name for name in _AUDITED if name in names], *splits]
    table = read_manifest(run.path, columns=wanted, slide_ids=sorted(known & files.keys()))
    return _frame(table)


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return a table for pandas; words of several files become one list of words."""
    return table.unify_dictionaries().to_pandas()


def read_split_table(run: RunDirectory) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return the last split and the settings that it was made with, or None where there was none."""
    if not exists(split_table(run)):
        return None
    table = read_table(split_table(run))
    return table.to_pandas(), json.loads(table_metadata(table)["settings"])


def write_split_table(
    run: RunDirectory,
    table: pd.DataFrame,
    slides: pd.DataFrame,
    settings: Mapping[str, Any],
    *,
    anew: bool = False,
) -> None:
    """Write splits.parquet and splits.csv: one row per slide and repeat.

    Slides of the split before that are not in the run now, since they failed perhaps, keep their rows: when
    they come back they are where they were. Not so where all was drawn ``anew``.
    """
    known = slides.set_index("slide_id")
    more = {
        name: table["slide_id"].map(known[name])
        if name in known
        else pd.Series([None] * len(table))
        for name in ("scanner", "centre", "tiles")
    }
    whole = table.assign(**more).astype(object)
    whole = whole.where(whole.notna(), None)
    names = [column.name for column in SPLIT_TABLE_COLUMNS]
    absent = [] if anew else _of_absent_slides(run, set(table["slide_id"]), settings)
    rows: list[dict[Any, Any]] = [*whole[names].to_dict("records"), *absent]
    values = {name: [row[name] for row in rows] for name in names}
    metadata = {"schema_version": SCHEMA_VERSION, "settings": json.dumps(settings)}
    write_table(split_table(run), table_of(SPLIT_TABLE_COLUMNS, values), metadata=metadata)
    text = pd.DataFrame(values).to_csv(index=False, lineterminator="\n")
    publish_bytes(run.path / "splits.csv", text.encode())


def _of_absent_slides(
    run: RunDirectory, here: set[str], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return rows of an earlier split with the same settings whose slides are not here."""
    if not exists(split_table(run)):
        return []
    table = read_table(split_table(run))
    if json.loads(table_metadata(table)["settings"]) != settings:
        return []
    return [row for row in table.to_pylist() if row["slide_id"] not in here]


def split_table(run: RunDirectory) -> Path:
    """Return where the last split is kept, one row per slide and repeat."""
    return run.path / "splits.parquet"


def read_list(name: str) -> tuple[pd.DataFrame, str]:
    """Return a list made by hand, all of it text, and a digest of its bytes.

    Raises
    ------
    ConfigError
        It is no CSV or Parquet table.
    """
    path = place(name)
    table = read_any(path).astype(object)
    text = table.map(lambda value: None if pd.isna(value) else str(value))
    return text, hashlib.sha256(read_bytes(path)).hexdigest()[:16]


def read_any(path: Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a CSV or Parquet table, or all Parquet files of a folder; missing cells are null.

    Parameters
    ----------
    path
        The table.
    columns
        Columns wanted as far as they are there, those that divide into parts, and those that may be wanted
        ones under another name; all if not given.

    Raises
    ------
    ConfigError
        There is none.
    """
    try:
        if path.suffix.lower() == ".csv":
            return _read_csv(path, columns)
        files = sorted(path.rglob("[!.]*.parquet")) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path}: expected a run, or a folder of Parquet files, found none")
        return _frame(pa.concat_tables(_read_parts(files, columns), promote_options="permissive"))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: expected a CSV or Parquet table, got {error}") from error


def _read_csv(path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    # Nothing is taken for a missing value but an empty cell: "NA" may be a patient's name.
    table = pd.read_csv(seekable(path), dtype=str, keep_default_na=False, na_values=[""])
    chosen = table[_chosen(table.columns.tolist(), columns)]
    numbers = [name for name in _AUDITED if name in chosen]
    return chosen.assign(**{name: pd.to_numeric(chosen[name]) for name in numbers})


def _read_parts(files: Sequence[Path], columns: Sequence[str] | None) -> list[pa.Table]:
    tables = []
    for each in files:
        with pq.ParquetFile(seekable(each)) as file:
            names = _chosen(file.schema_arrow.names, columns)
            tables.append(file.read(columns=names).replace_schema_metadata(None))
    return tables


def _chosen(names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return list(names)
    return [
        name
        for name in names
        if name in columns or PARTITION.fullmatch(name) or is_another_name(name)
    ]


def read_audited(path: Path) -> pd.DataFrame:
    """Return what an audit looks at of a table made elsewhere.

    Raises
    ------
    ConfigError
        There is no such table, or nothing in it says what is in which part.
    """
    if not path.exists():
        raise ConfigError(f"{path}: expected a run or a CSV or Parquet table, found nothing")
    return read_any(path, columns=(*_NAMES, *_AUDITED, *SOURCE, "fingerprint"))
