"""The rows of an epoch in order: chosen, balanced and mixed by the settings of a loader."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.config import BatchConfig
from wsi_pipeline.loader.order import Batches, balanced, shuffled
from wsi_pipeline.loader.rows import NO_WORD, Column, Rows
from wsi_pipeline.loader.world import World
from wsi_pipeline.randomness import keys_of

_TURN = np.uint64(1 << 32)
"""Between the numbers of a tile's first and second time in an epoch; no slide has so many tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The tiles of a rank's batch, before they are read."""

    number: int
    rows: NDArray[np.int64] = field(repr=False)
    """``(batch,)``; where a batch is filled up, tiles from the epoch's beginning."""
    is_tile: NDArray[np.bool_] = field(repr=False)
    """Whether each counts; those that fill up do not."""
    turns: NDArray[np.int64] = field(repr=False)
    """How often each has come before in this epoch, 0 but where balance repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """An epoch's order; the same for everybody who has the same rows and settings."""

    number: int
    order: NDArray[np.int32] = field(repr=False)
    """Rows, ``(tiles,)``."""
    turns: NDArray[np.int32] | None = field(repr=False)
    """Beside them; None where no tile comes twice."""
    batches: Batches

    def planned(self, number: int, world: World) -> Planned:
        """Return a rank's part of a batch."""
        places = self.batches.places(number, world)
        is_tile = places < len(self.order)
        places %= len(self.order)
        turns = np.zeros(len(places), np.int64) if self.turns is None else self.turns[places]
        return Planned(
            number=number,
            rows=self.order[places].astype(np.int64),
            is_tile=is_tile,
            turns=turns.astype(np.int64),
        )


def epoch_of(rows: Rows, config: BatchConfig, number: int) -> Epoch:
    """Return an epoch's order."""
    chosen = _chosen(rows, config, number)
    if config.shuffle:
        places = shuffled(
            rows.shards if chosen is None else rows.shards[chosen],
            seed=config.seed,
            epoch=number,
            block_tiles=config.block_tiles,
        )
    else:
        places = np.arange(len(rows) if chosen is None else len(chosen), dtype=np.int32)
    batches = Batches(tiles=len(places), batch_size=config.batch_size, drop_last=config.drop_last)
    if chosen is None:
        return Epoch(number=number, order=places, turns=None, batches=batches)
    order, turns = chosen[places].astype(np.int32), _turns(chosen)[places]
    return Epoch(number=number, order=order, turns=turns, batches=batches)


def tiles_per_epoch(rows: Rows, config: BatchConfig) -> int:
    """Return how many tiles every epoch has."""
    if not config.balance:
        return len(rows)
    _, counts = np.unique(groups_of(rows.columns, config.balance), return_counts=True)
    return int(config.per_group or counts.min()) * len(counts)


def groups_of(columns: Mapping[str, Column], names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return a number for every tile's group: tiles with the same values in all of these columns.

    Raises
    ------
    ConfigError
        Tiles have no value in one of them.
    """
    group = np.zeros(len(columns[names[0]].values), np.int64)
    for name in names:
        column = columns[name]
        lacking = column.values == NO_WORD if column.words else np.isnan(column.values)
        if lacking.any():
            raise ConfigError(
                f"balance: {int(lacking.sum())} tiles have no {name}; leave them out with "
                f'where="{name}.notna()"'
            )
        group *= max(1, len(column.words or ()))
        if column.words:
            group += column.values
        else:
            found, codes = np.unique(column.values, return_inverse=True)
            group *= len(found)
            group += codes
    return group


def keys_of_tiles(rows: Rows, planned: Planned, *, seed: int, epoch: int) -> NDArray[np.uint64]:
    """Return the number that each tile's random changes are drawn from, by seed, epoch and tile alone."""
    with np.errstate(over="ignore"):
        turns = planned.turns.astype(np.uint64) * _TURN
        numbers = numbers_of_tiles(rows, planned.rows).view(np.uint64) + turns
    return keys_of(seed, epoch, numbers.view(np.int64))


def numbers_of_tiles(rows: Rows, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each of some tiles, by the name of its slide and its number in it alone."""
    starts = _slide_numbers(rows, wanted)
    with np.errstate(over="ignore"):
        return (starts + rows.tile[wanted].astype(np.uint64)).view(np.int64)


def _slide_numbers(rows: Rows, wanted: NDArray[np.int64]) -> NDArray[np.uint64]:
    arrays, codes = np.unique(rows.array[wanted], return_inverse=True)
    digests = [
        hashlib.blake2b(rows.arrays[at][1].encode(), digest_size=8) for at in arrays.tolist()
    ]
    numbers = [int.from_bytes(each.digest(), "little") for each in digests]
    return np.array(numbers, np.uint64)[codes]


def _chosen(rows: Rows, config: BatchConfig, epoch: int) -> NDArray[np.int64] | None:
    """Return the rows of an epoch in order of number, or None for all of them."""
    if not config.balance:
        return None
    groups = groups_of(rows.columns, config.balance)
    return balanced(groups, seed=config.seed, epoch=epoch, per_group=config.per_group)


def _turns(chosen: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return how often each row has come before in a row of them in order.

    >>> _turns(np.array([3, 5, 5, 5, 8])).tolist()
    [0, 0, 1, 2, 0]
    """
    places = np.arange(len(chosen))
    begins = np.where(np.diff(chosen, prepend=-1) != 0, places, 0)
    return (places - np.maximum.accumulate(begins)).astype(np.int32)
