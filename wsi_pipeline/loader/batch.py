"""A batch: images and what is known of them, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.rows import NO_WORD, Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A rank's part of a batch; every array's first axis is the tile."""

    epoch: int
    number: int
    """In the epoch, the same for all ranks."""
    images: NDArray[np.uint8] = field(repr=False)
    """``(B, C, H, W)`` RGB, a view of memory that is ``(B, H, W, C)``: channels last, as networks like it."""
    targets: NDArray[Any] | None = field(repr=False)
    """``(B,)``: int64 numbers of classes, or float32; None where no target was asked for."""
    weights: NDArray[np.float32] = field(repr=False)
    """``(B,)``: 0 for a tile that only fills the batch up, or stands in for one that cannot be decoded."""
    rows: NDArray[np.int64] = field(repr=False)
    """``(B,)``: rows of the loader's ``rows``; -1 where the weight is 0 for one of these reasons."""
    tiles: NDArray[np.int32] = field(repr=False)
    """``(B,)``: numbers of the tiles in their slides; -1 likewise."""
    slide_ids: tuple[str, ...] = field(repr=False)
    """Of every tile; empty words likewise."""
    keys: NDArray[np.uint64] = field(repr=False)
    """``(B,)``: what random changes are drawn from; by seed, epoch and tile alone."""
    columns: Mapping[str, NDArray[Any]] = field(repr=False)
    """The further columns asked for; words as codes."""
    problems: tuple[str, ...] = ()
    """Of tiles that could not be decoded, what is wrong with each."""

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target of every row."""

    column: Column
    classes: tuple[str, ...]
    """Words in order of their number; empty for numbers."""

    def of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the targets of some rows: int64 classes, or float32 numbers."""
        values = self.column.values[rows]
        if self.column.words is None:
            return np.asarray(values, np.int64 if values.dtype.kind in "biu" else np.float32)
        places = [self.classes.index(word) for word in self.column.words]
        return np.array(places, np.int64)[values]


def target_of(name: str, column: Column, classes: tuple[str, ...]) -> Target:
    """Return a column as targets.

    Raises
    ------
    ConfigError
        Tiles have no value, or one that is none of ``classes``.
    """
    if column.words is None:
        if classes:
            raise ConfigError(f"classes: expected none as {name} holds numbers, got {classes}")
        return _numbers(name, column)
    order = classes or column.words
    if unknown := [word for word in column.words if word not in order]:
        raise ConfigError(
            f"classes: {', '.join(order)} lacks {', '.join(unknown)}, which tiles have as {name}; add it, or "
            "leave those tiles out with where"
        )
    _refuse_lacking(name, int((column.values == NO_WORD).sum()))
    return Target(column=column, classes=order)


def _numbers(name: str, column: Column) -> Target:
    if column.values.dtype.kind not in "biu":
        _refuse_lacking(name, int(np.isnan(column.values).sum()))
    return Target(column=column, classes=())


def check_weight(name: str, column: Column) -> None:
    """Refuse what cannot be weights.

    Raises
    ------
    ConfigError
        They are words, or some tile has none, or one below 0.
    """
    if column.words is not None:
        raise ConfigError(f"weight: expected a column of numbers, got words in {name}")
    bad = int((~(np.isfinite(column.values) & (column.values >= 0))).sum())
    if bad:
        raise ConfigError(
            f"weight: expected numbers, 0 or more; {bad} tiles have none, or less, in {name}: leave them out "
            f'with where="{name} >= 0"'
        )


def _refuse_lacking(name: str, count: int) -> None:
    if count:
        raise ConfigError(
            f'target: {count} tiles have no {name}; leave them out with where="{name}.notna()"'
        )
