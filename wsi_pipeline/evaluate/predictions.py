"""What a network says of tiles, as a table: one row per tile, with who and where it is of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.schema import PREDICTION_COLUMNS
from wsi_pipeline.tables import read_table, table_metadata
from wsi_pipeline.train import prediction_table
from wsi_pipeline.train.metrics import Judged, judged

CLASSES = prediction_table.CLASSES
"""Key of the table's metadata: names of the classes in order of their number, as JSON."""

_LOST = "it is no table of predictions; make it with wsi-pipeline evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Which patient, scanner, ... each tile is of."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    """Place of each tile's name, ``(tiles,)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Logits of tiles beside their labels; columns are ``PREDICTION_COLUMNS``, then those of the manifest."""

    table: pa.Table = field(repr=False)
    classes: tuple[str, ...]
    """In order of their number; of two, the second is the positive one."""

    def __post_init__(self) -> None:
        if lacking := {each.name for each in PREDICTION_COLUMNS} - {*self.table.column_names}:
            raise ValueError(f"predictions: {', '.join(sorted(lacking))} are lacking")

    def __len__(self) -> int:
        """Return how many tiles there are."""
        rows: int = self.table.num_rows
        return rows

    @property
    def logits(self) -> NDArray[np.float32]:
        """``(tiles,)`` of a single logit, else ``(tiles, classes)``."""
        column: Any = self.table.column("logit").combine_chunks()
        is_single = pa.types.is_floating(column.type)
        flat = column if is_single else column.flatten()
        values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32)
        return values if is_single else values.reshape(len(self), -1)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Numbers of classes; -1 of a tile without a label."""
        given: Any = self.table.column("target")
        return np.asarray(given.fill_null(prediction_table.NO_TARGET).to_numpy(), np.int64)

    @property
    def weights(self) -> NDArray[np.float32]:
        """0 of a tile without a label: it counts in no score."""
        given = np.asarray(self.table.column("weight").to_numpy(), np.float32)
        return np.where(self.targets >= 0, given, np.float32(0))

    def labelled(self) -> "Predictions":
        """Return the tiles that count."""
        return self.only(self.weights > 0)

    def only(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """Return some of the tiles, in order."""
        return Predictions(table=self.table.filter(pa.array(chosen)), classes=self.classes)

    def judged(self) -> Judged:
        """Return the tiles that count as scores take them."""
        return judged(self.logits, self.targets, self.weights, classes=self.classes)

    def groups(self, column: str) -> Groups:
        """Return which group of a column each tile is of; a patient who is not named is the slide.

        Raises
        ------
        ConfigError
            There is no such column.
        """
        known = self.table.column_names
        if column not in known and column != "patient_id":
            raise ConfigError(
                f"{column}: predictions have no such column; there are {', '.join(known)}"
            )
        values = _words(self.table, column)
        if column == "patient_id":
            values = pc.coalesce(values, _words(self.table, "slide_id"))
        coded: Any = pc.fill_null(values, "none").combine_chunks().dictionary_encode()
        names = coded.dictionary.to_pylist()
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        place = np.empty(len(names), np.int64)
        place[order] = np.arange(len(names))
        codes = place[np.asarray(coded.indices.to_numpy(), np.int64)]
        return Groups(names=tuple(names[each] for each in order), codes=codes)


def _words(table: pa.Table, column: str) -> Any:  # noqa: ANN401  Arrow's
    if column not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    return table.column(column).cast(pa.string())


def differing(first: Predictions, second: Predictions, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns in which two tables differ, in a row or in their number of rows.

    Words are compared as words, for dictionaries may be in another order.
    """

    def values(found: Predictions, name: str) -> Any:  # noqa: ANN401  Arrow's
        column: Any = found.table.column(name)
        is_words = pa.types.is_dictionary(column.type)
        return column.cast(column.type.value_type) if is_words else column

    return tuple(name for name in columns if not values(first, name).equals(values(second, name)))


def in_order(whole: Predictions) -> Predictions:
    """Return tiles by the name of their slide and their number."""
    slides, tiles = whole.groups("slide_id").codes, whole.table.column("tile").to_numpy()
    order = np.lexsort((tiles, slides))
    return Predictions(table=whole.table.take(order), classes=whole.classes)


def tiles_digest(whole: Predictions) -> str:
    """Return 16 hexadecimal digits that change with a tile, its order, label or weight."""
    slides = whole.groups("slide_id")
    tiles = np.asarray(whole.table.column("tile").to_numpy(), np.float64)
    numbers = np.stack([slides.codes, tiles, whole.targets, whole.weights]).tobytes()
    return hashlib.sha256(repr(slides.names).encode() + numbers).hexdigest()[:16]


def read_predictions(path: Path) -> Predictions:
    """Return the predictions of a file.

    Raises
    ------
    ConfigError
        There is none, or it is another table.
    """
    try:
        table = read_table(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file; make it with wsi-pipeline evaluate"
        ) from error
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path}: {_LOST} ({error})") from error
    about: Mapping[str, str] = table_metadata(table)
    if CLASSES not in about:
        raise ConfigError(f"{path}: {_LOST}")
    return Predictions(table=table, classes=tuple(json.loads(about[CLASSES])))
