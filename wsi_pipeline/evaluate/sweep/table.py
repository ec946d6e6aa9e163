"""Sweeps as tables: a row for each level, and curves over repeats. Pure, no torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.evaluate.ask.repeats import repeat_of
from wsi_pipeline.evaluate.sweep.columns import CURVE_COLUMNS, SWEEP_COLUMNS
from wsi_pipeline.tables import table_of_rows
from wsi_pipeline.train.metrics import Floats, judged, scores_of
from wsi_pipeline.train.weighted import quantiles

QUARTILES = (0.25, 0.5, 0.75)

_PLACE = ("shift", "apply_at", "level", "is_clean")


def level_scores(
    logits: NDArray[np.float32],
    *,
    targets: NDArray[np.int64],
    weights: NDArray[np.float32],
    sharpness: NDArray[np.float32],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Return what one level's row says: scores of the tiles that count, and how sharp they are.

    A score that needs tiles of a class without any is None, as balanced accuracy is of a single class.

    Parameters
    ----------
    logits
        ``(tiles,)`` or ``(tiles, C)``.
    targets, weights
        ``(tiles,)``; a tile without a label has the target -1 and counts in nothing.
    sharpness
        Variance of the Laplacian of each tile, ``(tiles,)``.
    classes
        In order of their number.

    Raises
    ------
    PipelineError
        A logit is not a finite number.
    """
    mass = np.where(targets >= 0, weights, 0).astype(np.float64)
    counts = mass > 0
    scores = scores_of(judged(logits, targets, mass, classes=classes))
    recalls = [scores[f"recall_{name}"] for name in classes]
    if sum(recall is not None for recall in recalls) < 2:
        scores["balanced_accuracy"] = None
    sharp = _sharpness(sharpness[counts].astype(np.float64), mass[counts])
    return {"tiles": int(counts.sum()), **sharp, **scores}


def _sharpness(values: Floats, weights: Floats) -> dict[str, float | None]:
    names = [f"laplacian_var_{name}" for name in ("mean", "q25", "median", "q75")]
    if not values.size:
        return dict.fromkeys(names)
    mean = float(np.average(values, weights=weights))
    return dict(zip(names, [mean, *quantiles(values, weights, QUARTILES)], strict=True))


def sweep_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows of one change at one place as a table, ascending by level; of equal levels the last."""
    by_level = {row["level"]: row for row in rows}
    return table_of_rows(SWEEP_COLUMNS, [by_level[level] for level in sorted(by_level)])


def arm_of(model: str) -> str:
    """Return the name that repeats of one training have in common.

    >>> arm_of("sd-3"), arm_of("sd"), arm_of("sd-3b")
    ('sd', 'sd', 'sd-3b')
    """
    repeat = repeat_of(model)
    return model if repeat is None else repeat[0]


def curves(sweeps: Mapping[str, Sequence[pa.Table]]) -> pa.Table:
    """Return means and standard deviations over repeats, level by level and score by score.

    Parameters
    ----------
    sweeps
        Tables of sweeps by model; models ``NAME-0``, ``NAME-1``, … are repeats of the arm ``NAME``. A score
        that is null for a network is left out of the mean, and ``repeats`` counts the others.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for model, tables in sweeps.items():
        for row in (row for table in tables for row in table.to_pylist()):
            groups.setdefault((arm_of(model), *(row[name] for name in _PLACE)), []).append(row)
    rows = [
        {**dict(zip(("arm", *_PLACE), key, strict=True)), **scored}
        for key, group in sorted(groups.items())
        for scored in _over_repeats(group)
    ]
    return table_of_rows(CURVE_COLUMNS, rows)


def _over_repeats(group: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    own = [each.name for each in SWEEP_COLUMNS]
    names = list(dict.fromkeys(key for row in group for key in row))
    scores = [name for name in names if name not in own or own.index(name) >= own.index("accuracy")]
    sharp = _known(group, "laplacian_var_median")
    return [
        {
            "score": name,
            "repeats": len(values),
            "mean": float(np.mean(values)) if values else None,
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "laplacian_var": float(np.mean(sharp)) if sharp else None,
        }
        for name in scores
        for values in [_known(group, name)]
    ]


def _known(group: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(row[name]) for row in group if row.get(name) is not None]
