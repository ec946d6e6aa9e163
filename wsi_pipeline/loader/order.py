"""In which order the tiles of an epoch come: arithmetic on numbers of tiles, nothing is read.

Shards come in random order and the tiles of each are spread over a block of many shards' tiles, as in
MosaicML Streaming's ``py1e``: nearly as well mixed as a full permutation, with few shards open at once.
Who reads a batch plays no part in it, so any number of workers and ranks sees the same batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.world import World
from wsi_pipeline.randomness import generator

BLOCK_TILES = 1 << 15
"""Tiles over which a shard is spread: 512 shards of 64 are open at once; a batch of 256 sees about 200."""


def shuffled(
    shards: NDArray[np.int32], *, seed: int, epoch: int, block_tiles: int = BLOCK_TILES
) -> NDArray[np.int32]:
    """Return the numbers of all tiles, each once, in the order of an epoch.

    Tile ``i`` is read from shard ``shards[i]``. All tiles of a shard come within ``1.25 * block_tiles``
    places, or within as many as the shard has, if these are more.

    Parameters
    ----------
    shards
        The shard of every tile, ``(tiles,)``; small numbers, 0 or more, in any order.
    seed, epoch
        Another epoch is another order.
    block_tiles
        Larger mixes better and keeps more shards open.
    """
    rng = generator(seed, "order", epoch)
    tiles = len(shards)
    if not tiles:
        return np.empty(0, np.int32)
    number, spans = _numbered(shards)
    turn = rng.permutation(len(spans))
    starts = np.empty(len(spans))
    starts[turn] = np.cumsum(spans[turn]) - spans[turn]
    blocks = np.maximum(rng.uniform(0.75, 1.25, len(spans)) * block_tiles, spans)
    starts -= (blocks - spans) / 2
    keys = np.empty(tiles, np.int64)
    for begin in range(0, tiles, _PIECE):  # a piece at a time: 4.7 million places are 38 MB
        shard = number[shards[begin : begin + _PIECE]]
        places = rng.random(len(shard)) * blocks[shard] + starts[shard]
        keys[begin : begin + _PIECE] = _keys(_reflected(places, tiles), begin=begin, tiles=tiles)
    del shards  # a caller who keeps them has as many bytes more in use from here on
    keys.sort()
    keys &= (1 << tiles.bit_length()) - 1
    return keys.astype(np.int32)


_PIECE = 1 << 16


def _numbered(shards: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return every shard's number without gaps, by its number with gaps, and how many tiles each has."""
    counts = np.bincount(shards)
    return (np.cumsum(counts > 0) - 1).astype(np.int32), counts[counts > 0]


def _keys(places: NDArray[np.float64], *, begin: int, tiles: int) -> NDArray[np.int64]:
    """Return places, of 0 to ``tiles``, and numbers of tiles from ``begin`` on as one whole number each.

    So equal places have an order too, whatever the processor sorts with; and that takes half the time of a
    stable ``argsort``.
    """
    bits = tiles.bit_length()
    keys = np.ldexp(places, 62 - 2 * bits).astype(np.int64)
    keys <<= bits
    keys |= np.arange(begin, begin + len(places))
    return keys


def _reflected(places: NDArray[np.float64], end: int) -> NDArray[np.float64]:
    """Fold places outside of 0 to ``end`` back, so that both ends are as mixed as the rest."""
    np.abs(places, out=places)
    np.mod(places, 2 * end, out=places)
    return np.asarray(np.minimum(places, 2 * end - places, out=places))


def balanced(
    groups: NDArray[np.int64], *, seed: int, epoch: int, per_group: int | None = None
) -> NDArray[np.int64]:
    """Return numbers of tiles, as many of every group, in order of number.

    A group that has more gives others in the next epoch until all had their turn; one that has fewer gives
    some more than once.

    Parameters
    ----------
    groups
        The group of every tile, ``(tiles,)``, such as its class, or class and scanner together.
    per_group
        How many of each; as many as the smallest group has, if not given.
    """
    names, counts = np.unique(groups, return_counts=True)
    if not len(names):
        return np.empty(0, np.int64)
    wanted = int(counts.min()) if per_group is None else per_group
    chosen = [
        members[_turns(len(members), wanted, seed=seed, epoch=epoch, group=int(name))]
        for name in names
        for members in [np.flatnonzero(groups == name)]
    ]
    return np.sort(np.concatenate(chosen))


def _turns(count: int, wanted: int, *, seed: int, epoch: int, group: int) -> NDArray[np.int64]:
    """Return places ``epoch * wanted`` and following of an endless row of permutations."""
    begin, end = epoch * wanted, (epoch + 1) * wanted
    rounds = [
        generator(seed, "balance", group, turn).permutation(count)
        for turn in range(begin // count, -(-end // count))
    ]
    row = np.concatenate(rounds) if rounds else np.empty(0, np.int64)
    skipped = begin // count * count
    return row[begin - skipped : end - skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """How an order is cut into batches, and which part of each is whose."""

    tiles: int
    """In an epoch."""
    batch_size: int
    """Of all ranks together."""
    drop_last: bool = False
    """Leave out the last batch if it is not full; else it is filled with tiles that do not count."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {self.batch_size}")

    def __len__(self) -> int:
        """Return how many batches an epoch has; every rank and worker counts the same ones."""
        full, rest = divmod(self.tiles, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def of(self, world: World, *, first: int = 0) -> Iterator[int]:
        """Yield the numbers of a worker's batches from number ``first`` on.

        Batch ``first`` is the first worker's, so that a loader which takes turns gets them in order.
        """
        return iter(range(first + world.worker, len(self), world.workers))

    def places(self, batch: int, world: World) -> NDArray[np.int64]:
        """Return a rank's places of a batch in an order; those past its end fill up a last batch."""
        share = world.share(self.batch_size)
        return np.arange(share.start, share.stop) + batch * self.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How well an order is mixed."""

    shards_per_batch: float
    """Distinct ones, on average."""
    of_a_permutation: float
    """The same of a random permutation: no order does better."""
    most_open: int
    """Shards of which some tiles have come and others have not, at the worst place."""


def mixing(
    shards: NDArray[np.int32], order: NDArray[np.integer[Any]], *, batch_size: int, seed: int = 0
) -> Mixing:
    """Return how well an order mixes shards, beside a full permutation."""
    permuted = generator(seed, "mixing").permutation(len(shards))
    return Mixing(
        shards_per_batch=_distinct(shards[order], batch_size),
        of_a_permutation=_distinct(shards[permuted], batch_size),
        most_open=_most_open(shards[order]),
    )


def _distinct(row: NDArray[np.int32], batch_size: int) -> float:
    full = len(row) // batch_size * batch_size
    if not full:
        return float(len(np.unique(row)))
    rows = np.sort(row[:full].reshape(-1, batch_size), axis=1)
    return float((1 + (np.diff(rows, axis=1) != 0).sum(axis=1)).mean())


def _most_open(row: NDArray[np.int32]) -> int:
    _, begins = np.unique(row, return_index=True)
    ends = len(row) - 1 - np.unique(row[::-1], return_index=True)[1]
    steps = np.zeros(len(row) + 1, np.int64)
    np.add.at(steps, begins, 1)
    np.add.at(steps, ends + 1, -1)
    return int(np.cumsum(steps).max(initial=0))
