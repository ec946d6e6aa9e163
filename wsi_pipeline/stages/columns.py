"""Columns that later stages add to the manifest: every slide's table changes, or none does.

A split that only half of the slides know of would be a leak. So all tables are written aside first, a small
file then says that they are whole, and they take their places one after another; whoever works on the run
next finishes what was cut off in between.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_pipeline.files import (
    exists,
    make_folder,
    publish_bytes,
    read_bytes,
    remove_file,
    remove_tree,
)
from wsi_pipeline.manifest import manifest_files
from wsi_pipeline.remote import is_remote, seekable
from wsi_pipeline.schema import SLIDE_WORDS, STAGE_CHANGES, STAGE_COLUMNS
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, read_records
from wsi_pipeline.tables import read_table, table_metadata, write_table

Columns: TypeAlias = Mapping[str, "pa.Array[Any]"]

_WRITERS = 4  # tables at once; compression lets go of the interpreter


def add_columns(
    run: RunDirectory,
    stage: str,
    columns: Callable[[str, pa.Table], Columns],
    *,
    slide_ids: Iterable[str],
    about: Mapping[str, Any],
    beside: Callable[[Path], None] = lambda _folder: None,
) -> None:
    """Give every slide's manifest a stage's columns, in place of those that it had of the stage.

    What slides.parquet knows of patient, scanner and centre is added along with them.

    Parameters
    ----------
    run
        A run that this process has to itself (``lease.sole_use``).
    stage
        Its name, a key of ``schema.STAGE_COLUMNS``, which says what columns are its own.
    columns
        Slide and table to columns of the table's length; called from several threads. Of tiling's
        columns it may give those that ``schema.STAGE_CHANGES`` names, which stay where they are.
    slide_ids
        Slides that get them: all that are done, or later readers find nulls.
    about
        What the stage did, for ``RUN/STAGE.json``.
    beside
        Writes further files of the run that must not be of another time than the columns, below a folder
        that stands for RUN.
    """
    records = {record.slide_id: record for record in read_records(run)}
    aside = _aside(run)
    remove_tree(aside)

    def write(slide_id: str) -> None:
        before = read_table(run.manifest(slide_id))
        added = columns(slide_id, before)
        _refuse_foreign(stage, added)
        table = _changed(before, stage, {**_words_of(records[slide_id], len(before)), **added})
        write_table(aside / f"{slide_id}.parquet", table, metadata=table_metadata(before))

    with ThreadPoolExecutor(_WRITERS) as writers:
        for _ in writers.map(write, slide_ids):
            pass
    beside(_beside(run))
    publish_bytes(_mark(run), json.dumps({"stage": stage, "about": about}, indent=2).encode())
    finish_change(run)


def finish_change(run: RunDirectory) -> None:
    """Put files in their places that were whole when a command died, and drop those that were not.

    Parts of ``tile`` that begin together may all do so: what one does not find any more, another has moved.
    """
    aside, mark = _aside(run), _mark(run)
    if not exists(aside):
        return
    waiting: dict[Path, Path] = {}
    said = None
    with suppress(FileNotFoundError):  # no mark: never whole, or another has moved every file
        said = json.loads(read_bytes(mark))
        waiting = _places(run)
    for path, target in waiting.items():
        try:
            _move(path, target)
        except FileNotFoundError:
            if exists(path):
                raise  # it is its place that is gone
    if said is not None:
        about = json.dumps(said["about"], indent=2, ensure_ascii=False) + "\n"
        publish_bytes(run.summary(said["stage"]), about.encode())
        remove_file(mark)
    remove_tree(aside)


def _places(run: RunDirectory) -> dict[Path, Path]:
    """Return where every file belongs that waits aside; folders of the run that are missing are made."""
    tables = sorted(_aside(run).glob("[!.]*.parquet"))
    others = sorted(path for path in _beside(run).rglob("[!.]*") if path.is_file())
    places = {path: run.path / path.relative_to(_beside(run)) for path in others}
    for target in places.values():
        make_folder(target.parent)
    return {**{path: run.manifest(path.stem) for path in tables}, **places}


def is_taking_place(run: RunDirectory) -> bool:
    """Whether tables of a change are on their way to their places, or were when a command died."""
    return exists(_mark(run))


def complete_columns(run: RunDirectory, slide_ids: Set[str]) -> None:
    """Give slides that were just cut the columns that earlier ones have of later stages, as nulls.

    ``pd.read_parquet`` of the folder goes by its first file: a new slide that comes first by name would hide
    labels and splits of all others.
    """
    older = next((name for name in manifest_files(run.path) if name not in slide_ids), None)
    if older is None or not slide_ids:
        return
    with pq.ParquetFile(seekable(run.manifest(older))) as file:
        schema = file.schema_arrow
    later = [field for field in schema if _owner(field.name) or field.name in SLIDE_WORDS]
    if not later:
        return
    records = {record.slide_id: record for record in read_records(run)}
    for slide_id in sorted(slide_ids):
        table = read_table(run.manifest(slide_id))
        nulls = {field.name: pa.nulls(len(table), field.type) for field in later}
        whole = {**nulls, **_words_of(records[slide_id], len(table))}
        columns = {**{name: table.column(name) for name in table.column_names}, **whole}
        ordered = pa.table({name: columns[name] for name in sorted(columns, key=_rank)})
        write_table(run.manifest(slide_id), ordered, metadata=table_metadata(table))


def read_summary(run: RunDirectory, stage: str) -> dict[str, Any] | None:
    """Return what a stage said of itself when it last ran, or None where it never did."""
    try:
        summary: dict[str, Any] = json.loads(read_bytes(run.summary(stage)))
    except FileNotFoundError:
        return None
    return summary


def words(values: Iterable[str | None]) -> "pa.Array[Any]":
    """Return a column of words as the manifest keeps them: each word once."""
    column: pa.Array[Any] = pa.array(list(values), type=pa.string()).dictionary_encode()
    return column


def _refuse_foreign(stage: str, columns: Columns) -> None:
    changed = STAGE_CHANGES.get(stage, ())
    foreign = [name for name in columns if _owner(name) != stage and name not in changed]
    if foreign:
        raise ValueError(f"{stage}: expected columns of its own, got {', '.join(foreign)}")


def _changed(table: pa.Table, stage: str, added: Columns) -> pa.Table:
    """Return a table with a stage's columns in their place: the same whichever stage came first."""
    changed = STAGE_CHANGES.get(stage, ())
    kept: dict[str, Any] = {
        name: table.column(name)
        for name in table.column_names
        if name in changed or (name not in added and _owner(name) != stage)
    }
    return in_order({**kept, **added})


def in_order(columns: Mapping[str, Any]) -> pa.Table:
    """Return a manifest's columns in their places: tiling's, the slide's words, then stage by stage."""
    names = sorted(columns, key=_rank)  # stable: within a rank as they come
    return pa.table({name: columns[name] for name in names})


def _rank(name: str) -> int:
    owners = list(STAGE_COLUMNS)
    if (owner := _owner(name)) is not None:
        return 2 + owners.index(owner)
    return int(name in SLIDE_WORDS)


def _owner(name: str) -> str | None:
    """Return the stage whose column it is, or None for those of tiling."""
    for stage, patterns in STAGE_COLUMNS.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return stage
    return None


def _words_of(record: SlideRecord, rows: int) -> Columns:
    """Return what is known of a slide as columns of a word each."""
    known = {name: record.values.get(name) for name in SLIDE_WORDS}
    return {
        name: words([None if value is None else str(value)] * rows) for name, value in known.items()
    }


def _move(path: Path, target: Path) -> None:
    if is_remote(path):
        publish_bytes(target, read_bytes(path))
        remove_file(path)
    else:
        path.replace(target)


def _aside(run: RunDirectory) -> Path:
    return run.state / "changing"


def _beside(run: RunDirectory) -> Path:
    return _aside(run) / "beside"


def _mark(run: RunDirectory) -> Path:
    return _aside(run) / "whole.json"
