"""What the report knows of a run's tiles: the columns that it shows, and where each slide's rows are."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.audited import FOOTPRINT
from wsi_pipeline.labels.quality import RULES
from wsi_pipeline.manifest import manifest_files, read_manifest
from wsi_pipeline.remote import seekable
from wsi_pipeline.report.scales import coded
from wsi_pipeline.schema import SLIDE_WORDS

NEEDED = (
    *("slide_id", "tile", *FOOTPRINT, "status", "reason", "tissue", "laplacian_var"),
    *("gray_mean", "red_mean", "green_mean", "blue_mean"),
)
"""Columns of every run that the page shows."""

LATER = (*SLIDE_WORDS, "label", "split", "fold", "outlier", "outlier_reason", "cluster")
"""Columns that later commands add."""

COLOURED = ("tissue", "laplacian_var", "label", "split", "outlier", "cluster", "prediction*")
"""Columns by which tiles on slides are coloured, as patterns, in this order."""

_FURTHER = ("split_*", "fold_*", "prediction*")
_READERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTiles:
    """The tiles of a run; a slide's rows stand together, slides in order of name."""

    table: pa.Table = field(repr=False)
    slide_ids: tuple[str, ...]
    starts: NDArray[np.int64] = field(repr=False)
    """First row of each slide, and the number of all rows, ``(slides + 1,)``."""

    def has(self, name: str) -> bool:
        """Whether a column is there and has any value."""
        return name in self.table.column_names and (
            self.table.column(name).null_count < self.table.num_rows
        )

    def column(self, name: str) -> "pa.ChunkedArray[Any]":
        """Return a column."""
        return self.table.column(name)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, NaN where there is none, ``(tiles,)``."""
        values: NDArray[np.float64] = (
            self.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
        )
        return values

    def words(self, name: str) -> "tuple[list[str], NDArray[np.int64]]":
        """Return a column's words, and for every tile the number of its word or -1, ``(tiles,)``."""
        return coded(self.column(name))

    def holds(self, name: str, word: str) -> NDArray[np.bool_]:
        """Return which tiles have this word in a column, ``(tiles,)``."""
        there, at = self.words(name)
        held: NDArray[np.bool_] = at == (there.index(word) if word in there else -2)
        return held

    def slides(self) -> Iterator[tuple[str, slice]]:
        """Yield each slide with its rows."""
        for place, slide_id in enumerate(self.slide_ids):
            yield slide_id, slice(int(self.starts[place]), int(self.starts[place + 1]))

    def sums(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return how many of each slide's tiles are true, ``(slides,)``."""
        before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        counts: NDArray[np.int64] = before[self.starts[1:]] - before[self.starts[:-1]]
        return counts

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which tiles could be read, ``(tiles,)``."""
        return ~self.holds("status", "unreadable")


def read_tiles_of(
    run_path: Path, asked: Sequence[str] | None, *, also: Sequence[str] = ()
) -> RunTiles | None:
    """Return a run's tiles, or None where no slide is done; of ``also``, the columns that are there.

    Raises
    ------
    ConfigError
        A column that is asked for is in no slide's manifest.
    """
    files = manifest_files(run_path)
    if not files:
        return None
    there = _columns_of(files.values())
    if lost := [name for name in asked or () if name not in there]:
        raise ConfigError(
            f"columns: no slide of {run_path} has {', '.join(lost)}; there are {', '.join(there)}"
        )
    wanted = [name for name in there if _is_wanted(name, (*(asked or ()), *also))]
    table = read_manifest(run_path, columns=wanted)
    rows = np.array([_rows_of(path) for path in files.values()], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(rows)])
    return RunTiles(table=table, slide_ids=tuple(files), starts=starts)


def coloured_columns(tiles: RunTiles, asked: Sequence[str] | None) -> list[str]:
    """Return the columns by which tiles can be coloured: those asked for, or the usual ones."""
    if asked is not None:
        return list(dict.fromkeys(asked))
    names = [
        name
        for pattern in COLOURED
        for name in tiles.table.column_names
        if fnmatchcase(name, pattern)
    ]
    return [name for name in names if tiles.has(name)]


def rules_of(tiles: RunTiles) -> list[str]:
    """Return the names of the rules of ``qc`` that the manifest has, in order."""
    return [rule.name for rule in RULES if tiles.has(f"qc_{rule.name}")]


def _is_wanted(name: str, asked: Sequence[str]) -> bool:
    patterns = (*NEEDED, *LATER, *_FURTHER, *(f"qc_{rule.name}" for rule in RULES))
    return name in asked or any(fnmatchcase(name, pattern) for pattern in patterns)


def _columns_of(paths: Iterable[Path]) -> list[str]:
    """Return every column that any slide has, in order."""
    with ThreadPoolExecutor(_READERS) as readers:
        names = readers.map(lambda path: pq.read_schema(seekable(path)).names, paths)
        return list(dict.fromkeys(name for each in names for name in each))


def _rows_of(path: Path) -> int:
    return int(pq.read_metadata(seekable(path)).num_rows)
