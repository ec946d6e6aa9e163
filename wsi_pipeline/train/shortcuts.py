"""The tiles of a part with a shortcut put into them: joins a loader's rows to ``augment.shortcut``."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.augment.shortcut import Shortcut, carriers
from wsi_pipeline.augment.shortcut_config import ShortcutConfig, ShortcutRule, shares_of
from wsi_pipeline.loader.epoch import numbers_of_tiles
from wsi_pipeline.loader.rows import Rows
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.randomness import keys_of

_NO_EPOCH = -1
"""In the place of an epoch's number: a tile carries the same in all of them."""


def shortcut_on(
    rows: Rows, config: ShortcutConfig, rule: ShortcutRule, *, target: str, classes: tuple[str, ...]
) -> Shortcut | None:
    """Return what some tiles of a part carry by a rule, or None where none does.

    Which ones follows from the seed, the names of slides, the numbers of tiles and their classes: whoever
    looks at the same tiles finds the same ones.

    Parameters
    ----------
    rows
        All tiles of the part, also those of other ranks.
    rule
        By which shares.
    target
        Column of the classes.
    classes
        Their names, in order of number.

    Raises
    ------
    ConfigError
        Shares are named of what is no class.
    """
    shares = shares_of(config, rule, classes)
    if not any(shares):
        return None
    keys = _keys(rows, config)
    return Shortcut(config, carriers(keys, numbers_of_classes(rows, target, classes), shares), keys)


def shortcut_again(
    rows: Rows, config: ShortcutConfig, carriers: Collection[tuple[str, int]]
) -> Shortcut:
    """Return the shortcut as known tiles carried it, for some of the tiles of the part or all.

    Parameters
    ----------
    rows
        Tiles that are looked at again.
    carriers
        slide_id and number of those that carry it.
    """
    names = ((rows.slide_id(row), int(rows.tile[row])) for row in range(len(rows)))
    carries = np.fromiter((each in carriers for each in names), np.bool_, len(rows))
    return Shortcut(config, carries, _keys(rows, config))


def _keys(rows: Rows, config: ShortcutConfig) -> NDArray[np.uint64]:
    """Return the number of each tile that its shortcut follows from, by seed, slide and tile alone."""
    return keys_of(config.seed, _NO_EPOCH, numbers_of_tiles(rows, np.arange(len(rows))))


def numbers_of_classes(rows: Rows, target: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the number of every tile's class, ``(tiles,)``; -1 where it has none."""
    column = rows.columns[target]
    if column.words is None:
        known = np.isfinite(column.values)
        return np.where(known, column.values, -1).astype(np.int64)
    table = [classes.index(word) if word in classes else -1 for word in column.words]
    return np.array([*table, -1], np.int64)[column.values]  # NO_WORD takes the last one


def put_into(shortcut: Shortcut) -> Callable[[TensorBatch], TensorBatch]:
    """Return what puts a shortcut into a loader's batches."""
    return lambda batch: replace(batch, images=shortcut(batch.images, batch.rows))
