"""Predictions slide by slide, and as probabilities of every class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.slides.names import safe_names
from wsi_pipeline.train.metrics import Judged, judged

_NAMED = 8  # slides in a message


def rows_of_slides(found: Predictions, asked: Sequence[str] | None) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each slide, in order of name.

    Raises
    ------
    ConfigError
        A slide that is asked for has no predictions.
    """
    groups = found.groups("slide_id")
    order = np.argsort(groups.codes, kind="stable")
    ends = np.cumsum(np.bincount(groups.codes, minlength=len(groups.names)))
    rows = dict(zip(groups.names, np.split(order, ends[:-1]), strict=True))
    if lost := [name for name in asked or () if name not in rows]:
        there = ", ".join([*list(rows)[:_NAMED], *(["…"] if len(rows) > _NAMED else [])])
        raise ConfigError(f"slides: no predictions of {', '.join(lost)}; there are {there}")
    return {name: own for name, own in rows.items() if asked is None or name in asked}


def of_rows(found: Predictions, rows: NDArray[np.int64]) -> Predictions:
    """Return the predictions of some rows."""
    return Predictions(table=found.table.take(rows), classes=found.classes)


def probabilities_of(found: Predictions) -> NDArray[np.float64]:
    """Return the probability of every class, ``(tiles, classes)``, of tiles without a label too."""
    return _judged_by_nobody(found).probabilities


def odds_of(found: Predictions) -> NDArray[np.float64]:
    """Return the logarithm of the odds of every class, ``(tiles, classes)``: 1 and almost 1 differ."""
    return _judged_by_nobody(found).odds


def _judged_by_nobody(found: Predictions) -> Judged:
    """Return every tile with weight 1, and with the first class in place of its label."""
    label, weight = np.zeros(len(found), np.int64), np.ones(len(found))
    return judged(found.logits, label, weight, classes=found.classes)


def class_numbers(found: Predictions, asked: Sequence[str] | None) -> list[int]:
    """Return the numbers of the classes that are meant: of two the second, of more all, if none is asked for.

    Raises
    ------
    ConfigError
        The network knows no such class.
    """
    if asked is None:
        return [1] if len(found.classes) == 2 else list(range(len(found.classes)))
    if lost := [name for name in asked if name not in found.classes]:
        raise ConfigError(
            f"classes: expected some of {', '.join(found.classes)}, got {', '.join(lost)}"
        )
    return [found.classes.index(name) for name in asked]


def class_stems(stem: str, classes: Sequence[str], numbers: Sequence[int]) -> dict[int, str]:
    """Return what the files of each class are called; a single class needs no name.

    >>> class_stems("s1", ("benign", "cancer"), [1]), class_stems("s1", ("a", "b", "c"), [0, 2])
    ({1: 's1'}, {0: 's1-a', 2: 's1-c'})
    """
    if len(numbers) == 1:
        return {numbers[0]: stem}
    safe = safe_names(classes)
    return {number: f"{stem}-{safe[classes[number]]}" for number in numbers}
