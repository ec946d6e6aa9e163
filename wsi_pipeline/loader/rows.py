"""Which tiles of which runs: rows of their manifests as arrays of numbers, small for millions of tiles."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.manifest import manifest_files, read_manifest
from wsi_pipeline.remote import absolute, seekable
from wsi_pipeline.store.layout import SHARD_TILES

READABLE = "status == 'ok'"
"""Tiles that are neither unreadable nor an outlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Tiles of one or several runs."""

    runs: tuple[Path, ...]
    arrays: tuple[tuple[int, str], ...] = field(repr=False)
    """Number of the run and slide_id of every slide that has tiles here."""
    array: NDArray[np.int32] = field(repr=False)
    """Place in ``arrays`` of every tile, ``(tiles,)``."""
    tile: NDArray[np.int32] = field(repr=False)
    """Number of every tile in its array, ``(tiles,)``."""
    table: pd.DataFrame = field(repr=False)
    """The columns that were asked for, one row per tile."""

    def __len__(self) -> int:
        """Return how many tiles there are."""
        return len(self.tile)

    @property
    def shards(self) -> NDArray[np.int32]:
        """A number for the shard of every tile, other in every array, ``(tiles,)``."""
        inside = self.tile // SHARD_TILES
        most = np.zeros(len(self.arrays) + 1, np.int64)
        np.maximum.at(most, self.array + 1, inside.astype(np.int64) + 1)
        return (np.cumsum(most)[self.array] + inside).astype(np.int32)

    def name(self, row: int) -> str:
        """Return run, slide and tile in words."""
        run, slide_id = self.arrays[self.array[row]]
        return f"{self.runs[run]}: slide {slide_id}, tile {self.tile[row]}"


def choose_rows(
    runs: Sequence[str | Path],
    *,
    where: "str | pc.Expression | None" = READABLE,
    columns: Sequence[str] = (),
) -> Rows:
    """Return the tiles of some runs that an expression holds for.

    Parameters
    ----------
    runs
        Run directories or their URLs.
    where
        Words as ``pandas.DataFrame.query`` takes them, such as ``split == 'train' and laplacian_var > 50``, or an
        expression of ``pyarrow.compute``; None for all rows.
    columns
        Further columns to keep of every tile.

    Raises
    ------
    ConfigError
        A run, a column or the expression is not what was expected, or no tile is left.
    """
    paths = tuple(absolute(run) for run in runs)
    if not paths:
        raise ConfigError("runs: expected at least one run directory, got none")
    parts = [_of_run(number, path, where, columns) for number, path in enumerate(paths)]
    arrays = tuple((number, slide_id) for number, (names, *_) in enumerate(parts) for slide_id in names)
    starts = np.cumsum([0, *(len(names) for names, *_ in parts)])
    array = np.concatenate([code + start for (_, code, *_), start in zip(parts, starts, strict=False)])
    rows = Rows(
        runs=paths,
        arrays=arrays,
        array=array.astype(np.int32),
        tile=np.concatenate([tile for *_, tile, _ in parts]),
        table=pd.concat([table for *_, table in parts], ignore_index=True),
    )
    if not len(rows):
        raise ConfigError(f"where: no tile of {', '.join(map(str, paths))} is left by {where}")
    return rows


_Part = tuple[list[str], NDArray[np.int64], NDArray[np.int32], pd.DataFrame]


def _of_run(
    _number: int, path: Path, where: "str | pc.Expression | None", columns: Sequence[str]
) -> _Part:
    """Return slide_ids, their code and the number of every tile chosen, and the columns asked for."""
    needed = dict.fromkeys(["slide_id", "tile", *columns, *_names_in(where, path)])
    table = read_manifest(path, columns=list(needed))
    kept = _filtered(table, where)
    slides = kept.column("slide_id").combine_chunks()
    words = slides.dictionary_encode() if not pa.types.is_dictionary(slides.type) else slides
    tile = kept.column("tile").to_numpy().astype(np.int32)
    frame = kept.select(list(columns)).to_pandas()
    return words.dictionary.to_pylist(), np.asarray(words.indices, np.int64), tile, frame


def _names_in(where: "str | pc.Expression | None", path: Path) -> list[str]:
    """Return the columns that an expression speaks of."""
    if where is None:
        return []
    known = _known_columns(path)
    if not isinstance(where, str):
        return known  # what it needs cannot be asked of it
    try:
        tree = ast.parse(where.replace("`", ""), mode="eval")
    except SyntaxError as error:
        raise ConfigError(f"where: expected words as pandas' query takes them, got {where!r} ({error})") from error
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return sorted(names & set(known)) + sorted(names - set(known))


def _known_columns(path: Path) -> list[str]:
    files = manifest_files(path)
    if not files:
        raise ConfigError(f"{path}: expected a run with tiles, found no manifest in it")
    names: dict[str, None] = {}
    with pq.ParquetFile(seekable(next(iter(files.values())))) as file:
        names.update(dict.fromkeys(file.schema_arrow.names))
    return list(names)


def _filtered(table: pa.Table, where: "str | pc.Expression | None") -> pa.Table:
    if where is None:
        return table
    if not isinstance(where, str):
        return table.filter(where)
    try:
        mask = table.to_pandas().eval(where)
    except Exception as error:  # numexpr, pandas and Python each have their own
        raise ConfigError(f"where: {where!r} cannot be asked of the manifest: {error}") from error
    if getattr(mask, "dtype", None) != bool:
        raise ConfigError(f"where: expected something that is true or false of a tile, got {where!r}")
    return table.filter(pa.array(np.asarray(mask)))
