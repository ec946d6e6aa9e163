"""Logits of tiles as columns of a table, whoever asked: a training of its validation tiles, or evaluate."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.loader.rows import NO_WORD, Column, Rows
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.train.metrics import log_probabilities

CLASSES, EPOCH = "classes", "epoch"
"""Keys of the table's metadata: names of the classes in order of their number, as JSON; the epoch, from 0."""

SHORTCUT = "shortcut"
"""Column that says whether a tile carried the shortcut; only there where some could."""

NO_TARGET = -1
"""Number in place of a class's where a tile has no label."""

Floats: TypeAlias = NDArray[np.float32]


def answer_columns(
    rows: Rows,
    chosen: NDArray[np.int64],
    *,
    targets: NDArray[np.int64],
    weights: Floats,
    logits: Floats,
) -> dict[str, Any]:
    """Return ``schema.PREDICTION_COLUMNS`` of some tiles.

    Parameters
    ----------
    rows
        Of the loader.
    chosen
        Rows of the tiles, ``(tiles,)``; everything else beside it.
    targets
        Numbers of classes; -1 without a label, which the table has as null and of weight 0.
    logits
        ``(tiles,)`` of a single logit, or ``(tiles, C)``.
    """
    without = targets < 0
    slides = Column(values=rows.array, words=tuple(name for _, name in rows.arrays))
    return {
        "slide_id": words_of(slides, chosen),
        "tile": pa.array(rows.tile[chosen], pa.int32()),
        "target": pa.array(targets, pa.int64(), mask=without),
        "weight": pa.array(np.where(without, np.float32(0), weights), pa.float32()),
        "logit": number_column(logits),
        "probability": number_column(probabilities(logits)),
    }


def answer_metadata(classes: Sequence[str], *, epoch: int) -> dict[str, str]:
    """Return what is written beside the columns."""
    return {
        "schema_version": SCHEMA_VERSION,
        CLASSES: json.dumps(list(classes), ensure_ascii=False),
        EPOCH: str(epoch),
    }


def probabilities(logits: Floats) -> Floats:
    """Return the sigmoid of single logits ``(tiles,)``, or the softmax of ``(tiles, C)``, in float32.

    >>> probabilities(np.array([0.0, 200.0, -200.0], np.float32)).tolist()
    [0.5, 1.0, 0.0]
    """
    logs = log_probabilities(logits)
    return np.exp(logs[:, 1] if logits.ndim == 1 else logs).astype(np.float32)


def words_of(column: Column, chosen: NDArray[np.int64]) -> Any:  # noqa: ANN401  Arrow's
    """Return words of some rows as a dictionary column, whose dictionary is that of all rows."""
    codes = column.values[chosen].astype(np.int32)
    indices = pa.array(codes, pa.int32(), mask=codes == NO_WORD)
    return pa.DictionaryArray.from_arrays(indices, pa.array(column.words or (), pa.string()))


def number_column(values: Floats) -> Any:  # noqa: ANN401  Arrow's
    """Return a column of numbers, or of lists with one of each class."""
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim == 1:
        return pa.array(values, pa.float32())
    tiles, classes = values.shape
    ends = pa.array(np.arange(tiles + 1) * classes, pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(values.reshape(-1), pa.float32()))
