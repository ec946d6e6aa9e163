"""The tiles that a network is asked for: which they are, whose, and what is known of their label."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.batch import check_weight, target_of
from wsi_pipeline.loader.rows import NO_WORD, Column, Rows, choose_rows
from wsi_pipeline.loader.source import CHECKSUM
from wsi_pipeline.manifest import manifest_types
from wsi_pipeline.schema import SLIDE_WORDS
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.prediction_table import NO_TARGET, SHORTCUT, answer_columns, words_of

PLACES = ("x", "y", "width", "height")
"""Columns of the manifest that say where a tile is, in level-0 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTiles:
    """Tiles in the order in which a loader gives them, beside what the manifest says of them."""

    rows: Rows
    target: str
    """Column that the network has learnt."""
    targets: NDArray[np.int64] = field(repr=False)
    """Numbers of classes, ``(tiles,)``; -1 without a label."""
    weights: NDArray[np.float32] = field(repr=False)
    checksums: NDArray[Any] | None = field(repr=False)
    """Of the tiles' stored bytes; None where pixels are read from the slides."""
    lacking: tuple[str, ...]
    """Columns that the network has learnt from, and this run does not have."""

    def __len__(self) -> int:
        """Return how many tiles there are."""
        return len(self.rows)

    @property
    def labelled(self) -> int:
        """How many have a label."""
        return int((self.targets >= 0).sum())

    def table(
        self,
        chosen: slice,
        logits: NDArray[np.float32],
        *,
        carries: NDArray[np.bool_] | None = None,
    ) -> pa.Table:
        """Return some tiles' rows of a table of predictions.

        Parameters
        ----------
        chosen
            Which tiles, in order.
        logits
            Theirs, ``(tiles,)`` or ``(tiles, C)``.
        carries
            Whether each of all tiles carried a shortcut, which is said too; None where none could.
        """
        places = np.arange(*chosen.indices(len(self)))
        columns = answer_columns(
            self.rows,
            places,
            targets=self.targets[chosen],
            weights=self.weights[chosen],
            logits=logits,
        )
        more = {name: _plain(each, name, places) for name, each in self.rows.columns.items()}
        if carries is not None:
            more[SHORTCUT] = pa.array(carries[chosen])
        return pa.table({**columns, **more})

    def images_digest(self) -> str:
        """Return 16 hexadecimal digits that change with a tile, its place or its stored bytes."""
        hashed = hashlib.blake2b(self.rows.digest().encode(), digest_size=8)
        if self.checksums is not None:
            hashed.update(np.ascontiguousarray(self.checksums).data)
        return hashed.hexdigest()

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with whatever is written of any tile."""
        hashed = hashlib.blake2b(self.images_digest().encode(), digest_size=8)
        hashed.update(self.targets.tobytes())
        hashed.update(self.weights.tobytes())
        for name, column in self.rows.columns.items():
            hashed.update(repr((name, column.words)).encode())
            hashed.update(np.ascontiguousarray(column.values).data)
        return hashed.hexdigest()


def refuse_without_split(run: str | Path, part: str, config: TrainConfig) -> None:
    """Refuse to ask for a part of a run that is not divided.

    Raises
    ------
    ConfigError
        It is not.
    """
    if part != "all" and config.split not in manifest_types(run):
        raise ConfigError(
            f"{run}: no tile has a {config.split}, so none is in the {part} part; ask for all of them "
            "(--part all), or divide the patients first (wsi-pipeline split)"
        )


def asked_tiles(
    run: str | Path, *, config: TrainConfig, classes: Sequence[str], condition: str
) -> AskedTiles:
    """Return the tiles of a run for which a condition holds; nothing but manifests is read.

    Parameters
    ----------
    run
        The run directory or its URL.
    config, classes
        What the network was trained by; the run need not have its label or its weights.
    condition
        Which tiles.

    Raises
    ------
    ConfigError
        A column is missing, no tile is left, or a label is no class of the network.
    """
    types = manifest_types(run)
    known = [name for name, kind in types.items() if not pa.types.is_null(kind)]
    learnt = [name for name in (config.target, config.weight) if name is not None]
    wanted = dict.fromkeys((*SLIDE_WORDS, *PLACES, *learnt, CHECKSUM))
    rows = choose_rows([run], where=condition, columns=[name for name in wanted if name in known])
    columns = dict(rows.columns)
    checksums = columns.pop(CHECKSUM, None)
    rows = replace(rows, columns=columns)
    return AskedTiles(
        rows=rows,
        target=config.target,
        targets=_targets(run, rows, config.target, tuple(classes)),
        weights=_weights(rows, config.weight),
        checksums=None if checksums is None else checksums.values,
        lacking=tuple(name for name in learnt if name not in rows.columns),
    )


def _targets(run: str | Path, rows: Rows, name: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
    targets = np.full(len(rows), NO_TARGET, np.int64)
    column = rows.columns.get(name)
    if column is None:
        return targets
    has = column.values != NO_WORD if column.words is not None else ~np.isnan(column.values)
    labels = replace(column, values=column.values[has])
    _refuse_unknown(run, labels, name, classes)
    if column.words is None:
        targets[has] = labels.values
    else:
        learnt = target_of(name, labels, classes)
        targets[has] = learnt.of(np.arange(len(labels.values)))
    return targets


def _refuse_unknown(run: str | Path, labels: Column, name: str, classes: tuple[str, ...]) -> None:
    """Refuse numbers and words that are no class of the network.

    Raises
    ------
    ConfigError
        One is not, or the network has learnt words.
    """
    if labels.words is not None:
        unknown = [each for each in labels.words if each not in classes]
    else:
        numbers = range(len(classes))
        learnt = (
            numbers if classes == tuple(map(str, numbers)) else ()
        )  # words may look like numbers
        found = np.unique(labels.values).tolist()
        unknown = [f"{each:.9g}" for each in found if each not in learnt]
    if labels.values.size and unknown:
        raise ConfigError(
            f"{run}: expected {', '.join(classes)} as {name}, which this network has learnt, got "
            f"{', '.join(unknown[:5])}; label the run alike, or leave those tiles out with where"
        )


def _weights(rows: Rows, name: str | None) -> NDArray[np.float32]:
    column = None if name is None else rows.columns.get(name)
    if name is None or column is None:
        return np.ones(len(rows), np.float32)
    check_weight(name, column)
    return column.values.astype(np.float32)


def _plain(column: Column, name: str, chosen: NDArray[np.int64]) -> Any:  # noqa: ANN401  Arrow's
    """Return some rows of a column, null where the manifest has none."""
    if column.words is not None:
        return words_of(column, chosen)
    values = column.values[chosen]
    lacking = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
    if name not in PLACES:
        return pa.array(values, mask=lacking)
    return pa.array(np.where(lacking, 0, values).astype(np.int32), pa.int32(), mask=lacking)


def inputs_of(config: TrainConfig) -> Mapping[str, Any]:
    """Return the settings that decide what images of a tile are given to a network, and in what batches.

    Networks for which they are the same can be asked of the same images.
    """
    return {
        "batch_size": config.batch_size,
        "image_px": config.load_px,
        "shrink": config.shrink,
        "decoder": config.decoder,
    }
