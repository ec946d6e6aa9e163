"""Answers on their way: written in parts as they come, so that whatever ends the process costs one part.

A part is the tiles of a range of batches, in their order. Which tiles are in which part depends on the number
of tiles and of those in a batch, never on ranks, so that several ranks, or a later process, make the same
parts. Each file appears whole or not at all.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.files import names_below, remove_tree, sweep, temporaries
from wsi_pipeline.remote import is_remote
from wsi_pipeline.tables import read_table, write_table
from wsi_pipeline.train.prediction_table import number_column

PARTS = 64
"""About so many there are, as long as they are neither small nor large."""

LEAST_TILES, MOST_TILES = 1 << 10, 1 << 16
"""In a part: fewer are asked again sooner than written; more are long to ask again and large in memory."""

_FILE = re.compile(r"([0-9]{6,})\.parquet")
_LOGIT = "logit"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How tiles are cut into parts."""

    tiles: int
    batch_size: int
    batches: int
    """In a part; the last one may have fewer."""

    def __len__(self) -> int:
        """Return how many parts there are."""
        return math.ceil(self.tiles / (self.batches * self.batch_size))

    def first_batch(self, number: int) -> int:
        """Return where a part begins in the loader's epoch."""
        return number * self.batches

    def rows(self, number: int) -> slice:
        """Return the tiles of a part."""
        size = self.batches * self.batch_size
        return slice(number * size, min((number + 1) * size, self.tiles))

    def tiles_of(self, number: int) -> int:
        """Return how many tiles a part has."""
        rows = self.rows(number)
        return int(rows.stop - rows.start)


def cut_of(tiles: int, batch_size: int) -> Cut:
    """Return how tiles are cut into parts of whole batches.

    >>> cut_of(7, 4), len(cut_of(7, 4))
    (Cut(tiles=7, batch_size=4, batches=256), 1)
    >>> len(cut_of(10**6, 64)), len(cut_of(10**8, 64))
    (64, 1526)
    """
    wanted = min(max(-(-tiles // PARTS), LEAST_TILES), MOST_TILES)
    return Cut(tiles=tiles, batch_size=batch_size, batches=max(1, -(-wanted // batch_size)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFiles:
    """The parts of what networks say, below a folder of what they were asked by: columns of numbers.

    Parts of other settings, another network or other tiles are in another folder: they never mix.
    """

    above: Path
    """``WHAT.parts`` beside ``WHAT.parquet``."""
    key: str
    """Digest of everything that changes a logit."""
    cut: Cut

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.above / self.key

    def path(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"{number:06d}.parquet"

    def begin(self, *, anew: bool = False) -> None:
        """Remove what others have left: parts of other settings, and files that a killed process began.

        Nobody else may be at work. With ``anew`` parts of these settings go as well.
        """
        for name in _names(self.above):
            if not name.startswith(".") and (anew or name != self.key):
                remove_tree(self.above / name)
        sweep(temporaries(self.folder))

    def missing(self) -> list[int]:
        """Return the numbers of parts that are not there."""
        found = (_FILE.fullmatch(name) for name in _names(self.folder))
        there = {int(match[1]) for match in found if match}
        return [number for number in range(len(self.cut)) if number not in there]

    def write(self, number: int, logits: Floats) -> None:
        """Write a part of one network's logits whole; see ``write_columns``."""
        self.write_columns(number, {_LOGIT: logits})

    def write_columns(self, number: int, columns: Mapping[str, Floats]) -> None:
        """Write a part whole: by name numbers of its tiles, ``(tiles,)`` or ``(tiles, C)`` each.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        table = pa.table({name: number_column(each) for name, each in columns.items()})
        write_table(self.path(number), table)

    def read(self, number: int) -> Floats:
        """Return the logits of a part, ``(tiles,)`` or ``(tiles, C)``."""
        return self.read_columns(number, [_LOGIT])[_LOGIT]

    def read_columns(self, number: int, names: Sequence[str]) -> dict[str, Floats]:
        """Return some columns of a part; of others nothing is read."""
        tiles = self.cut.tiles_of(number)
        table = read_table(self.path(number), columns=names)
        return {name: _numbers(table.column(name), tiles) for name in names}

    def whole(self, names: Sequence[str]) -> dict[str, Floats]:
        """Return some columns of all parts, one after another; memory holds these and one part."""
        found: dict[str, Floats] = {}
        for number in range(len(self.cut)):
            for name, values in self.read_columns(number, names).items():
                if name not in found:
                    found[name] = np.empty((self.cut.tiles, *values.shape[1:]), np.float32)
                found[name][self.cut.rows(number)] = values
        return found

    def remove(self) -> None:
        """Remove all parts."""
        remove_tree(self.folder)

    def forget(self) -> None:
        """Remove the empty folders around the parts, once nobody holds a lease in them."""
        forget_empty(self.above)


def forget_empty(above: Path) -> None:
    """Remove the folder of parts and of its leases, where nothing is in them any more."""
    if is_remote(above):
        return
    for folder in (above / ".state" / "leases", above / ".state", above):
        with suppress(OSError):  # somebody has begun again meanwhile
            folder.rmdir()


def stretches(numbers: list[int]) -> Iterator[list[int]]:
    """Yield numbers in stretches without a gap.

    >>> list(stretches([0, 1, 4, 6, 7, 8]))
    [[0, 1], [4], [6, 7, 8]]
    """
    begin = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield numbers[begin:end]
            begin = end


def _names(folder: Path) -> list[str]:
    try:
        return names_below(folder)
    except FileNotFoundError:
        return []


def _numbers(column: Any, tiles: int) -> Floats:  # noqa: ANN401  Arrow's
    whole: Any = column.combine_chunks()
    flat = whole.flatten() if pa.types.is_list(whole.type) else whole
    values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32)
    return values if len(values) == tiles else values.reshape(tiles, -1)
