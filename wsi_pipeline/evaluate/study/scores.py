"""The scores of a study, from those of one evaluation. Pure.

>>> found = {"accuracy": 0.8, "recall_benign": 0.9, "recall_cancer": 0.7, "auroc": None}
>>> study_scores(found, classes=("benign", "cancer"))
{'accuracy': 0.8, 'recall': 0.7, 'specificity': 0.9, 'auroc': None}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wsi_pipeline.evaluate.study.config import SCORES
from wsi_pipeline.train.metrics import logit_shifts


def study_scores(
    found: Mapping[str, Any],
    *,
    classes: Sequence[str],
    train: Mapping[str, Any] | None = None,
) -> dict[str, float | None]:
    """Return the scores that are known, those of ``SCORES`` first.

    Of two classes recall is that of the second and specificity that of the first; of more there is
    ``recall_CLASS`` of each.

    Parameters
    ----------
    found
        Scores by their names, as ``train.metrics.evaluation`` gives them.
    classes
        In order of their numbers.
    train
        The same of training tiles: with it come the shifts of the logits, ``logit_shift_CLASS``.
    """
    named = dict(found)
    if len(classes) == 2:
        named["specificity"], named["recall"] = (found.get(f"recall_{name}") for name in classes)
    else:
        named |= {name: value for name, value in found.items() if name.startswith("recall_")}
    wanted = [*SCORES, *(f"recall_{name}" for name in classes if len(classes) > 2)]
    scores = {name: _number(named[name]) for name in wanted if name in named}
    return scores | _shifts(found, classes, train)


def _shifts(
    found: Mapping[str, Any], classes: Sequence[str], train: Mapping[str, Any] | None
) -> dict[str, float | None]:
    means = [f"logit_mean_{name}" for name in classes]
    if train is None or not all(name in each for name in means for each in (found, train)):
        return {}
    return logit_shifts(train, found, classes=classes)


def _number(value: Any) -> float | None:  # noqa: ANN401  of JSON or of a table
    return None if value is None else float(value)


def mean_scores(
    rows: Sequence[Mapping[str, float | None]],
) -> dict[str, float | None]:
    """Return the mean of every score over rows, None where one of them lacks it.

    >>> mean_scores([{"accuracy": 0.5, "auroc": None}, {"accuracy": 1.0, "auroc": 0.5}])
    {'accuracy': 0.75, 'auroc': None}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    found: dict[str, float | None] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        found[name] = sum(values) / len(values) if len(values) == len(rows) else None
    return found


def tile_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the scores of all tiles at 0.5, or without a cut-off, from rows of a table of scores."""
    return {
        row["score"]: row["value"]
        for row in rows
        if (row["unit"], row["by"]) == ("tile", "all") and row["cutoff"] in ("0.5", "none")
    }
