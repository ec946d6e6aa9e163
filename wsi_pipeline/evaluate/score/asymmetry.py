"""Which way a network errs: where logits lie on tiles that were learnt and on others. Pure, no torch.

Under class imbalance the tiles of the rare class that were not learnt have logits nearer to the boundary, or
beyond it, and those of the common class hardly move (Li, Kamnitsas and Glocker, Overfitting of neural nets
under class imbalance, MICCAI 2019). The shift of class c is mean(z | c) of the other tiles less that of tiles
that were trained on.
"""

from dataclasses import dataclass

import numpy as np

from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.bootstrap import LEVEL, REPLICATES, Interval, interval_of
from wsi_pipeline.evaluate.score.patient_sums import (
    drawn_means,
    effective_of_each,
    seed_of,
    summed_in_cells,
)
from wsi_pipeline.train.metrics import Floats
from wsi_pipeline.train.weighted import shares


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitShift:
    """How far the tiles of one class have moved, in logits."""

    name: str
    """The class that the tiles are of."""
    logit: str | None
    """Whose logit it is; None: the distance to the boundary, see ``Judged.margins``."""
    learnt: float | None
    """Mean of the tiles that were trained on; None without any."""
    other: float | None
    interval: Interval
    """Of the shift; without ends where either part has fewer than two patients with the class."""

    @property
    def shift(self) -> float | None:
        """The other mean less the learnt one."""
        if self.learnt is None or self.other is None:
            return None
        return self.other - self.learnt


def shifts_from_learnt(
    learnt: Predictions,
    other: Predictions,
    *,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[LogitShift, ...]:
    """Return the shift of every class: of the margin, then of each logit where there are several.

    Patients of both parts are drawn independently, each with all its tiles; see ``bootstrap.interval_of``,
    where the fewer effective patients of the two count.

    Parameters
    ----------
    learnt
        Tiles that were trained on, looked at without augmentation; those of the probe.
    other
        Tiles of another part, by the same network.
    replicates, level, seed
        Of the intervals; at least one replicate.

    Raises
    ------
    ValueError
        The two have other classes or other logits.
    PipelineError
        A logit is no finite number.
    """
    if learnt.classes != other.classes or learnt.logits.ndim != other.logits.ndim:
        raise ValueError(f"expected logits of {learnt.classes} twice, got {other.classes}")
    both = {"learnt": _sums(learnt), "other": _sums(other)}
    means = [shares(*(each.sum(axis=0) for each in pair)) for pair in both.values()]
    drawn = [
        drawn_means(*pair, replicates=replicates, seed=seed_of(seed, part))
        for part, pair in both.items()
    ]
    moved = drawn[1] - drawn[0]  # (replicates, classes x columns)
    held = np.minimum(*((weights > 0).sum(axis=0) for _, weights in both.values()))
    worth = np.minimum(*(effective_of_each(weights) for _, weights in both.values()))
    labels = [(name, logit) for name in learnt.classes for logit in _columns(learnt)]
    return tuple(
        LogitShift(
            name=name,
            logit=logit,
            learnt=_number(means[0][at]),
            other=_number(means[1][at]),
            interval=interval_of(moved[:, at], int(held[at]), effective=worth[at], level=level),
        )
        for at, (name, logit) in enumerate(labels)
    )


def _columns(predictions: Predictions) -> tuple[str | None, ...]:
    """Return whose logits there are, None for the margin, which comes first."""
    return (None,) if predictions.logits.ndim == 1 else (None, *predictions.classes)


def _sums(predictions: Predictions) -> tuple[Floats, Floats]:
    """Return sums of margins and logits and of weights by patient, ``(patients, classes x columns)`` each."""
    kept = predictions.labelled()
    tiles = kept.judged()
    patients = kept.groups("patient_id")
    raw = np.asarray(kept.logits, np.float64)
    values = np.column_stack([tiles.margins, raw] if raw.ndim > 1 else [tiles.margins])
    shape = (len(patients.names), len(tiles.classes))
    cells = patients.codes * shape[1] + tiles.targets
    weights = summed_in_cells(cells, tiles.weights, shape)
    sums = [summed_in_cells(cells, tiles.weights * each, shape) for each in values.T]
    flat = np.stack(sums, axis=2).reshape(shape[0], shape[1] * values.shape[1])
    return flat, np.repeat(weights, values.shape[1], axis=1)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
