"""Encoded tiles straight from shard files: ranges of bytes, with few files open at once."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

from wsi_pipeline.errors import TileError
from wsi_pipeline.store.layout import MISSING
from wsi_pipeline.store.reader import FOOTER_BYTES, shard_index

Encoded: TypeAlias = bytes | memoryview | TileError
"""The stored bytes of a tile, or why they cannot be had."""

GAP_BYTES = 1 << 16
"""Bytes between two ranges up to which they are read as one: quicker than another request."""

MOST_BYTES = 1 << 23
"""Longest range read at once."""

Index: TypeAlias = list[tuple[int, int]]
"""Offset and length of every tile of a shard; plain numbers, as one tile is asked for at a time."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Shard(Protocol):
    """A shard file whose index is known."""

    index: Index

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` to ``end`` of the file; any thread may ask.

        Raises
        ------
        TileError
            They cannot be read.
        """
        ...


class LocalShard:
    """A shard file of a local disk, open until nobody needs it any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size_bytes = os.fstat(self._file).st_size
        except OSError as error:
            raise TileError(f"{path}: cannot be read ({error.strerror})") from error
        footer = self.read(max(0, size_bytes - FOOTER_BYTES), size_bytes)
        self.index = shard_index(path, footer, size_bytes=size_bytes)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes of the file by one system call, or several where a file system gives less."""
        try:
            data = os.pread(self._file, end - start, start)
            while len(data) < end - start:
                more = os.pread(self._file, end - start - len(data), start + len(data))
                if not more:
                    raise TileError(f"{self._path}: ends before byte {end}; is it being replaced?")
                data += more
        except OSError as error:
            raise TileError(f"{self._path}: cannot be read ({error.strerror})") from error
        return data

    def __del__(self) -> None:
        """Close the file: threads that still read from it hold this object."""
        if self._file >= 0:
            os.close(self._file)


class Bounded(Generic[_Key, _Value]):
    """The values used last, made on demand; any thread may ask."""

    def __init__(self, make: Callable[[_Key], _Value], *, most: int) -> None:
        self._make = make
        self._most = most
        self._values: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._values)

    def __call__(self, key: _Key) -> _Value:
        """Return a value; two threads that ask at once may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = self._make(key)
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bytes that are read together, and whose they are."""

    start: int
    end: int
    places: tuple[int, ...]
    """Of the tiles in what was asked for, in order of their bytes."""


def ranges(entries: Sequence[tuple[int, int]]) -> Iterator[Range]:
    """Yield what to read for some entries of an index, neighbours together; those left out are not in it.

    >>> list(ranges([(0, 10), (10, 5)]))
    [Range(start=0, end=15, places=(0, 1))]
    """
    there = [
        (offset, offset + length, place)
        for place, (offset, length) in enumerate(entries)
        if offset != MISSING
    ]
    start = end = 0
    places: list[int] = []
    for begin, stop, place in sorted(there):
        if places and (begin > end + GAP_BYTES or stop - start > MOST_BYTES):
            yield Range(start=start, end=end, places=tuple(places))
            places = []
        start = start if places else begin
        end = max(end, stop) if places else stop
        places.append(place)
    if places:
        yield Range(start=start, end=end, places=tuple(places))


def read_encoded(
    open_shard: Callable[[tuple[int, int]], Shard], wanted: Sequence[tuple[int, int, int]]
) -> list[Encoded]:
    """Return the stored bytes of tiles, in the order asked for.

    Parameters
    ----------
    open_shard
        Gives the shard of a number of an array and of a shard in it.
    wanted
        Array, shard and place in the shard of every tile.
    """
    found: list[Encoded] = [_NOT_STORED] * len(wanted)
    in_order = sorted(range(len(wanted)), key=wanted.__getitem__)
    for key, group in groupby(in_order, key=lambda place: wanted[place][:2]):
        places = list(group)
        try:
            shard = open_shard(key)
            entries = [shard.index[wanted[place][2]] for place in places]
            for place, data in _parts(shard, entries):
                found[places[place]] = data
        except TileError as error:
            for place in places:
                found[place] = error
    return found


_NOT_STORED = TileError("nothing is stored: it could not be read when the slide was cut")


def _parts(shard: Shard, entries: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Encoded]]:
    """Yield the bytes of tiles that are stored."""
    if len(entries) == 1 and entries[0][0] != MISSING:  # nearly always, where tiles are shuffled
        offset, length = entries[0]
        yield 0, shard.read(offset, offset + length)
        return
    for part in ranges(entries):
        view = memoryview(shard.read(part.start, part.end))
        for place in part.places:
            offset, length = entries[place]
            yield place, view[offset - part.start : offset - part.start + length]
