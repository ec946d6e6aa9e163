"""Which tiles of which runs: rows of their manifests as arrays of numbers, small for millions of tiles."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.manifest import Where, manifest_pieces
from wsi_pipeline.remote import absolute
from wsi_pipeline.store.layout import SHARD_TILES

READABLE = "status == 'ok'"
"""Tiles that are neither unreadable nor an outlier."""

FOOTPRINT = ("x", "y")
"""Columns that are kept where pixels are read from the slides."""

NO_WORD = -1
"""Code of a row that has no word in a column."""

_PIECE = 1 << 16

Values: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the tiles chosen: numbers, or words by their code."""

    values: Values = field(repr=False)
    """``(tiles,)``: numbers or bool as the manifest has them, or codes of words, as short as can be."""
    words: tuple[str, ...] | None = None
    """In order of the alphabet, so that a code does not depend on the order of tiles; None for numbers."""

    def of(self, rows: NDArray[np.int64]) -> Values:
        """Return the values of some tiles; codes of words as int32."""
        values = self.values[rows]
        return values if self.words is None else values.astype(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run directory and the settings that it was made with."""

    path: Path
    config: Mapping[str, Any] = field(repr=False)

    @property
    def stores_pixels(self) -> bool:
        """Whether tiles are read from its store; else from the slides."""
        return bool(self.config.get("store", "zarr") != "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Tiles of one or several runs; a tile's row is its place here."""

    runs: tuple[Run, ...]
    arrays: tuple[tuple[int, str], ...] = field(repr=False)
    """Number of the run, and slide_id, of every array that has tiles here."""
    array: NDArray[np.int32] = field(repr=False)
    """Place in ``arrays`` of every tile, ``(tiles,)``."""
    tile: NDArray[np.int32] = field(repr=False)
    """Number of every tile in its array, ``(tiles,)``."""
    columns: Mapping[str, Column] = field(repr=False)
    """What was asked for of every tile."""

    def __len__(self) -> int:
        """Return how many tiles there are."""
        return len(self.tile)

    @property
    def shards(self) -> NDArray[np.int32]:
        """A number for the shard of every tile, another one in every array, ``(tiles,)``."""
        inside = self.tile // np.int32(SHARD_TILES)
        pieces = [slice(begin, begin + _PIECE) for begin in range(0, len(inside), _PIECE)]
        starts = np.zeros(len(self.arrays) + 1, np.int32)
        for piece in pieces:  # a piece at a time: with 4.7 million tiles every array more is 19 MB
            np.maximum.at(starts, self.array[piece] + 1, inside[piece] + np.int32(1))
        np.cumsum(starts, out=starts)
        for piece in pieces:
            inside[piece] += starts[self.array[piece]]
        return inside

    def slide_id(self, row: int) -> str:
        """Return the slide of a tile."""
        return self.arrays[int(self.array[row])][1]

    def name(self, row: int) -> str:
        """Return run, slide and tile in words."""
        run, slide_id = self.arrays[self.array[row]]
        return f"{self.runs[run].path}: slide {slide_id}, tile {self.tile[row]}"

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with any tile or its place; runs may move."""
        hashed = hashlib.blake2b(repr(self.arrays).encode(), digest_size=8)
        hashed.update(np.ascontiguousarray(self.array).data)
        hashed.update(np.ascontiguousarray(self.tile).data)
        return hashed.hexdigest()


def choose_rows(
    runs: Sequence[str | Path], *, where: Where | None = READABLE, columns: Sequence[str] = ()
) -> Rows:
    """Return the tiles of some runs that an expression holds for.

    Parameters
    ----------
    runs
        Run directories or their URLs; each once.
    where
        Words as ``pandas.DataFrame.query`` takes them, such as ``split == 'train' and laplacian_var > 50``,
        or an expression of ``pyarrow.compute``; None for all rows.
    columns
        Further columns to keep of every tile.

    Raises
    ------
    ConfigError
        A run, a column or the expression is not what was expected, or no tile is left.
    """
    opened = tuple(open_run(run) for run in runs)
    if len({run.path for run in opened}) < max(1, len(opened)):
        raise ConfigError(f"runs: expected one or more, each once, got {list(map(str, runs))}")
    if len({run.stores_pixels for run in opened}) > 1:
        raise ConfigError(
            "runs: expected all to store pixels or none (--store none); load them apart"
        )
    if not opened[0].stores_pixels:
        columns = list(dict.fromkeys((*columns, *FOOTPRINT)))
    kept = [_columns_of(run, where, ("slide_id", "tile", *columns)) for run in opened]
    slides = [found["slide_id"].words or () for found in kept]
    starts = np.cumsum([0, *map(len, slides)])[:-1].tolist()
    array = [
        found["slide_id"].values.astype(np.int32) + np.int32(start)
        for found, start in zip(kept, starts, strict=True)
    ]
    rows = Rows(
        runs=opened,
        arrays=tuple((run, name) for run, found in enumerate(slides) for name in found),
        array=_whole(array).astype(np.int32, copy=False),
        tile=_whole([found["tile"].values for found in kept]).astype(np.int32, copy=False),
        columns={name: _together([found[name] for found in kept], name) for name in columns},
    )
    if not len(rows):
        raise ConfigError(f"where: {where} leaves no tile of {', '.join(map(str, runs))}")
    return rows


def open_run(path: str | Path) -> Run:
    """Return a run directory and its settings.

    Raises
    ------
    ConfigError
        There is none.
    """
    folder = absolute(path)
    try:
        config = json.loads((folder / "run.json").read_bytes())["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected a run directory, its run.json cannot be read ({error})"
        ) from error
    return Run(path=folder, config=config)


def _columns_of(run: Run, where: Where | None, columns: Sequence[str]) -> dict[str, Column]:
    """Return columns of a run's tiles that are chosen, made small piece by piece."""
    parts: dict[str, list[Column]] = {name: [] for name in columns}
    for piece in manifest_pieces(run.path, columns=list(parts), where=where):
        for name, found in parts.items():
            found.append(_column(piece.column(name), name))
    pa.default_memory_pool().release_unused()  # what was read of the manifest, 40 MB
    return {name: _together(found, name) for name, found in parts.items()}


def _column(part: "pa.ChunkedArray[Any]", name: str) -> Column:
    """Return a column as numbers or as codes of words.

    Raises
    ------
    ConfigError
        Its values are neither.
    """
    match _kind(part.type):
        case "words":
            return _words(part)
        case "numbers":
            return Column(values=_numbers(part))
        case _:
            raise ConfigError(f"columns: {name}: expected words or numbers, got {part.type}")


def _together(parts: list[Column], name: str) -> Column:
    """Return parts of a column as one, and forget them one by one.

    Raises
    ------
    ConfigError
        They are words in one run and numbers in another.
    """
    if len(parts) == 1:
        return parts[0]
    if len({part.words is None for part in parts}) > 1:
        raise ConfigError(
            f"columns: {name}: expected words or numbers, got words in one run and numbers in another"
        )
    if parts[0].words is None:
        return Column(values=_whole([part.values for part in parts]))
    words = sorted({word for part in parts for word in part.words or ()})
    places = {word: place for place, word in enumerate(words)}
    codes = np.empty(sum(len(part.values) for part in parts), _codes_of(words))
    begin = 0
    while parts:
        part = parts.pop(0)
        table = np.array([*(places[word] for word in part.words or ()), NO_WORD], codes.dtype)
        codes[begin : begin + len(part.values)] = table[
            part.values
        ]  # NO_WORD is the last one's place
        begin += len(part.values)
    return Column(values=codes, words=tuple(words))


def _codes_of(words: Sequence[str]) -> "np.dtype[Any]":
    """Return the smallest type that holds a code of each and ``NO_WORD``."""
    return np.min_scalar_type(-len(words) - 1)


def _whole(parts: list[Values]) -> Values:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _kind(kind: pa.DataType) -> str:
    value = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    if pa.types.is_string(value) or pa.types.is_large_string(value):
        return "words"
    numeric = (
        pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
    )
    return "numbers" if numeric else "other"


def _numbers(part: "pa.ChunkedArray[Any]") -> Values:
    if isinstance(part.type, pa.DictionaryType):
        part = part.cast(part.type.value_type)
    return np.asarray(part.to_numpy())


def _words(column: "pa.ChunkedArray[Any]") -> Column:
    """Return words as codes in order of the alphabet."""
    encoded = column.dictionary_encode() if _is_plain(column) else column
    merged: Any = encoded.unify_dictionaries().combine_chunks()
    chunk: Any = merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged
    found = [str(word) for word in chunk.dictionary.to_pylist()]
    codes = np.asarray(chunk.indices.fill_null(NO_WORD), dtype=np.int32)
    used = np.zeros(len(found) + 1, np.bool_)
    used[codes] = True
    words = sorted({word for word, is_used in zip(found, used, strict=False) if is_used})
    places = {word: place for place, word in enumerate(words)}
    table = np.array([*(places.get(word, NO_WORD) for word in found), NO_WORD], _codes_of(words))
    return Column(values=table[codes], words=tuple(words))


def _is_plain(column: "pa.ChunkedArray[Any]") -> bool:
    return not isinstance(column.type, pa.DictionaryType)
