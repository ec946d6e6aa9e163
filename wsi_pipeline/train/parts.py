"""The tiles of a training: those that teach, those that validate, and how many there are of each class."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsi_pipeline.augment.shortcut_config import check_classes
from wsi_pipeline.config import first_of
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.rows import READABLE
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.manifest import (
    MOST_NAMED,
    columns_in,
    manifest_columns,
    read_manifest,
    rows_where,
)
from wsi_pipeline.train.config import TrainConfig, WorkConfig

TRAIN, VALIDATION, PROBE = "train", "validation", "probe"
"""The parts; the probe is some of the training tiles, looked at as validation tiles are."""

WORDS = {TRAIN: ("train", "training"), VALIDATION: ("validation", "valid", "val")}
"""What ``split`` writes first, then what collections of others call the same."""

_LEAST_CLASSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Loaders of all parts; nothing has been read but manifests."""

    train: TileLoader
    validation: TileLoader
    probe: TileLoader | None
    """Shuffled always alike: its first batches are the probe."""
    probe_batches: int
    classes: tuple[str, ...]
    """In order of their number."""
    counts: Mapping[str, Mapping[str, int]]
    """Tiles by part and class."""

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with the tiles, their order and their classes."""
        return f"{_digest(self.train)}-{_digest(self.validation)}"

    def about(self) -> dict[str, Any]:
        """Return what is written down of the tiles."""
        return {
            "classes": list(self.classes),
            "tiles": {part: dict(counts) for part, counts in self.counts.items()},
            "digest": self.digest,
        }


def parts_of(
    run: str | Path, config: TrainConfig, work: WorkConfig, *, world: World | None = None
) -> Parts:
    """Return the tiles of a run that train and validate.

    Raises
    ------
    ConfigError
        The run has no split or no labels, a part has no tile or lacks a class, or the target is no class.
    """
    _refuse_lacking(run, config)
    shared = {**_of_all(config, work), "classes": config.classes}
    train = _loader(run, config, TRAIN, world, {**shared, **_of_train(config)})
    classes = _classes(train, config)
    check_classes(config.shortcut, classes)
    shared["classes"] = train.classes
    validation = _loader(run, config, VALIDATION, world, {**shared, "shuffle": False})
    counts = {
        part: _counts(loader, classes, config, part)
        for part, loader in ((TRAIN, train), (VALIDATION, validation))
    }
    probe = None
    if config.probe_tiles:
        probe = _loader(run, config, TRAIN, world, {**shared, "seed": 0})
    return Parts(
        train=train,
        validation=validation,
        probe=probe,
        probe_batches=-(-config.probe_tiles // config.batch_size),
        classes=classes,
        counts=counts,
    )


def where_of(config: TrainConfig, part: str) -> str:
    """Return the condition on the tiles of a part: readable ones with a label; the test part is in none.

    >>> where_of(TrainConfig(where="laplacian_var > 50"), "train")
    "status == 'ok' and `label`.notna() and split in ['train', 'training'] and (laplacian_var > 50)"
    >>> where_of(TrainConfig(fold=2, split="split_3"), "validation").partition("notna() and ")[2]
    "split_3 in ['train', 'training', 'validation', 'valid', 'val'] and fold_3 == 2"
    """
    more = f" and ({config.where})" if config.where else ""
    return f"{READABLE} and {labelled(config)} and {part_of(config, part)}{more}"


def labelled(config: TrainConfig) -> str:
    """Return the condition that a tile has a label: outside of every annotation it may have none."""
    return f"`{config.target}`.notna()"


def part_of(config: TrainConfig, part: str) -> str:
    """Return the condition that a tile is in the train or the validation part."""
    if config.fold is None:
        return f"{config.split} in {list(WORDS[part])}"
    fold = config.split.replace("split", "fold")
    sign = "==" if part == VALIDATION else "!="
    learnt = [
        *WORDS[TRAIN],
        *WORDS[VALIDATION],
    ]  # no other word: a test part may be called otherwise
    return f"{config.split} in {learnt} and {fold} {sign} {config.fold}"


def unlabelled(run: str | Path, config: TrainConfig) -> int:
    """Return how many readable tiles of the parts have no label, and so neither teach nor validate."""
    parts = " or ".join(f"({part_of(config, part)})" for part in WORDS)
    more = f" and ({config.where})" if config.where else ""
    where = f"{READABLE} and `{config.target}`.isna() and ({parts}){more}"
    table = read_manifest(run, columns=columns_in(where, manifest_columns(run)))
    return rows_where(table, where).num_rows


def _refuse_lacking(run: str | Path, config: TrainConfig) -> None:
    """Refuse a run that lacks a column, by the command that adds it.

    Raises
    ------
    ConfigError
        A column is not there.
    """
    known = manifest_columns(run)
    fold = config.split.replace("split", "fold")
    if config.split not in known or (config.fold is not None and fold not in known):
        repeats = "" if config.split == "split" else " --repeats R"
        lacking, how = (
            (config.split, repeats) if config.split not in known else (fold, f"{repeats} --folds K")
        )
        raise ConfigError(
            f"{run}: no tile has a {lacking}; divide the patients first: wsi-pipeline split {run}{how}"
        )
    if config.target not in known:
        raise ConfigError(
            f"{run}: no tile has a {config.target}; give tiles their labels first (wsi-pipeline label), or "
            f"name another column with --target; there are {first_of(known, MOST_NAMED)}"
        )
    columns_in(config.where, known)


def _of_all(config: TrainConfig, work: WorkConfig) -> dict[str, Any]:
    return {
        "batch_size": config.batch_size,
        "target": config.target,
        "weight": config.weight,
        "image_px": config.load_px,
        "shrink": config.shrink,
        "decoder": config.decoder,
        "threads": work.threads,
        "cache": work.cache,
    }


def _of_train(config: TrainConfig) -> dict[str, Any]:
    return {"seed": config.seed, "balance": config.balance, "per_group": config.per_group}


def _loader(
    run: str | Path, config: TrainConfig, part: str, world: World | None, settings: dict[str, Any]
) -> TileLoader:
    where = where_of(config, part)
    try:
        return TileLoader(run, where=where, world=world, **settings)
    except ConfigError as error:
        if "leaves no tile" in str(error):
            raise ConfigError(
                f"{run}: no tile is in the {part} part ({where}); look at what wsi-pipeline split gave it"
            ) from error
        raise


def _classes(train: TileLoader, config: TrainConfig) -> tuple[str, ...]:
    """Return the names of the classes in order of their number.

    Raises
    ------
    ConfigError
        The target is not of whole numbers from 0, or has a single value.
    """
    classes = train.classes
    if not classes:
        values = train.rows.columns[config.target].values
        found = np.unique(values)
        if not np.array_equal(found, np.arange(len(found))):
            shown = ", ".join(map(str, found[:5].tolist()))
            raise ConfigError(
                f"target: expected words, or whole numbers 0, 1, ... without a gap in the train part, got "
                f"{config.target} with {shown}"
            )
        classes = tuple(str(int(each)) for each in found)
    if len(classes) < _LEAST_CLASSES:
        raise ConfigError(
            f"target: every tile of the train part has the {config.target} {classes[0]}; two classes are "
            "needed"
        )
    return classes


def _counts(
    loader: TileLoader, classes: tuple[str, ...], config: TrainConfig, part: str
) -> dict[str, int]:
    """Return how many tiles of each class a part has.

    Raises
    ------
    ConfigError
        It has none of one, or of one that the train part lacks.
    """
    numbers = _numbers(loader, config)
    if numbers.max() >= len(classes):
        raise ConfigError(
            f"the {part} part has tiles of {config.target} {int(numbers.max())}, which the train part lacks; "
            "split so that both have every class, or leave them out with --where"
        )
    counts = np.bincount(numbers, minlength=len(classes)).tolist()
    if absent := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise ConfigError(
            f"the {part} part has no tile of {config.target} {', '.join(absent)}; split so that it has every "
            "class (wsi-pipeline split --stratify), or leave the class out with where and classes"
        )
    return dict(zip(classes, counts, strict=True))


def _numbers(loader: TileLoader, config: TrainConfig) -> Any:  # noqa: ANN401  an array of whole numbers
    """Return every tile's class."""
    column = loader.rows.columns[config.target]
    if column.words is None:
        return column.values.astype(np.int64)
    table = np.array([loader.classes.index(word) for word in column.words], np.int64)
    return table[column.values]


def _digest(loader: TileLoader) -> str:
    """Return the digest of a part's tiles together with their targets."""
    name = loader.config.target or ""
    target = loader.rows.columns[name]
    renamed = replace(loader.rows, tile=target.values.astype(np.int32))
    return f"{loader.rows.digest()[:8]}{renamed.digest()[:8]}"
