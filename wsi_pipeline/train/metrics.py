"""How good logits are: numbers of one pass over tiles. Pure: arrays in, numbers out, no torch.

Every number is weighted: a tile of weight 2 counts as two tiles, one of weight 0 is not there.

>>> import numpy as np
>>> found = scores(np.array([2.0, -1.0, 0.5]), np.array([1, 0, 0]), np.ones(3), classes=("benign", "cancer"))
>>> found["balanced_accuracy"], found["auroc"], found["recall_benign"]
(0.75, 1.0, 0.5)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_pipeline.errors import PipelineError
from wsi_pipeline.train.weighted import mean_and_std, quantiles, shares

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

ECE_BINS = 15
"""Bins of equal width of a probability, [k/15, (k + 1)/15), the last one closed."""

LOGIT_EDGES: Floats = np.linspace(-24.0, 24.0, 97)
"""Edges of the 96 bins of logits, the same in every run; what lies beyond is in the first or last bin."""

LOGIT_PERCENT = (5, 25, 50, 75, 95)
"""Quantiles of logits that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Tiles that count and what a network says of them."""

    odds: Floats = field(repr=False)
    """Logarithm of the odds of each class against all others, ``(tiles, classes)``."""
    chosen: Ints = field(repr=False)
    """The likeliest class, the first of equals: with a single logit the second class above 0."""
    targets: Ints = field(repr=False)
    weights: Floats = field(repr=False)
    """Above 0, all of them."""
    classes: tuple[str, ...]

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, of which the second is the positive one."""
        return len(self.classes) == 2

    @property
    def margins(self) -> Floats:
        """Distance to the boundary, which is at 0, in logits, ``(tiles,)``.

        Of two classes it is the single logit, or the second less the first: positive on the second's side.
        Of more it is the logit of the tile's own class less the largest other one: negative means wrong.
        """
        if self.is_binary:
            return self.odds[:, 1]
        logs = self.log_probabilities  # they differ as the logits do
        rows = np.arange(len(logs))
        own = logs[rows, self.targets].copy()
        logs[rows, self.targets] = -np.inf
        margins: Floats = own - logs.max(axis=1)
        return margins

    @property
    def probabilities(self) -> Floats:
        """Probability of each class, ``(tiles, classes)``."""
        return np.exp(self.log_probabilities)

    @property
    def log_probabilities(self) -> Floats:
        """Their natural logarithms, which tell probabilities apart that are 0 or 1 to the last digit."""
        return -np.logaddexp(0.0, -self.odds)


def judged(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike, *, classes: Sequence[str]
) -> Judged:
    """Return the tiles of weight above 0.

    Parameters
    ----------
    logits
        ``(tiles,)`` of a single logit, or ``(tiles, classes)``.
    targets
        Numbers of classes, ``(tiles,)``.
    weights
        ``(tiles,)``, 0 or more.
    classes
        Names in order of their numbers; of two, the second is the positive one.

    Raises
    ------
    ValueError
        Shapes, classes or weights do not fit together.
    PipelineError
        A logit is not a finite number.
    """
    z, y, w = np.asarray(logits, np.float64), np.asarray(targets), np.asarray(weights, np.float64)
    _check(z, y, w, len(classes))
    there = w > 0
    z, y, w = z[there], y[there].astype(np.int64), w[there]
    finite = np.isfinite(z).all(axis=tuple(range(1, z.ndim)))
    if lost := int((~finite).sum()):
        raise PipelineError(
            f"logits: expected finite numbers, got others for {lost} of {len(z)} tiles: the network has "
            "diverged; lower the learning rate, or clip gradients"
        )
    odds = np.stack([-z, z], axis=1) if z.ndim == 1 else odds_of(z)
    chosen = (z > 0).astype(np.int64) if z.ndim == 1 else z.argmax(axis=1)
    return Judged(odds=odds, chosen=chosen, targets=y, weights=w, classes=tuple(classes))


def _check(z: Floats, y: NDArray[Any], w: Floats, classes: int) -> None:
    if z.shape not in ((len(y), classes), (len(y),)) or (z.ndim == 1 and classes != 2):
        raise ValueError(
            f"logits: expected ({len(y)}, {classes}), or ({len(y)},) of 2 classes; got {z.shape}"
        )
    if w.shape != y.shape or not (w >= 0).all():
        raise ValueError(f"weights: expected {y.shape} numbers of 0 or more, got {w.shape}")
    known = y[w > 0]
    if known.size and (known.min() < 0 or known.max() >= classes):
        raise ValueError(
            f"targets: expected 0 to {classes - 1}, got {known.min()} to {known.max()}"
        )


def odds_of(z: Floats) -> Floats:
    """Return each logit less the logarithm of the sum of the exponentials of the others."""
    others = [np.logaddexp.reduce(np.delete(z, each, axis=1), axis=1) for each in range(z.shape[1])]
    odds: Floats = z - np.stack(others, axis=1)
    return odds


def log_probabilities(logits: ArrayLike) -> Floats:
    """Return the natural logarithm of the probability of each class, ``(tiles, classes)``.

    Of logits as far apart as 1000 too, where probabilities themselves are 0 and 1.

    Parameters
    ----------
    logits
        ``(tiles,)`` of a single logit, or ``(tiles, classes)``.
    """
    z = np.asarray(logits, np.float64)
    if z.ndim == 1:
        return np.stack([-np.logaddexp(0.0, z), -np.logaddexp(0.0, -z)], axis=1)
    logs: Floats = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return logs


def scores(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike, *, classes: Sequence[str]
) -> dict[str, float | None]:
    """Return every score of logits; None where it cannot be said.

    ``accuracy``; ``recall_CLASS``, the share of a class that is found; ``balanced_accuracy``, the mean of
    the recalls of classes that have tiles; ``auroc``, which see; ``log_loss`` in nats; ``brier``, the mean
    square of the positive class's probability less 0 or 1, of more classes summed over them; ``ece``, see
    ``calibration``.

    Parameters
    ----------
    logits, targets, weights, classes
        As for ``judged``, which see for errors too.
    """
    return scores_of(judged(logits, targets, weights, classes=classes))


def scores_of(tiles: Judged) -> dict[str, float | None]:
    """Return every score; see ``scores``."""
    recalls = _recalls(tiles)
    known = [recall for recall in recalls if recall is not None]
    right = (tiles.chosen == tiles.targets).astype(np.float64)
    named = {f"recall_{name}": recall for name, recall in zip(tiles.classes, recalls, strict=True)}
    return {
        "log_loss": _mean(log_losses(tiles), tiles.weights),
        "accuracy": _mean(right, tiles.weights),
        "balanced_accuracy": float(np.mean(known)) if known else None,
        "auroc": auroc(tiles),
        "brier": _mean(briers(tiles), tiles.weights),
        "ece": calibration(tiles).error,
        **named,
    }


def _mean(values: Floats, weights: Floats) -> float | None:
    return float(np.average(values, weights=weights)) if values.size else None


def _recalls(tiles: Judged) -> list[float | None]:
    right = (tiles.chosen == tiles.targets).astype(np.float64)
    own = [tiles.targets == number for number in range(len(tiles.classes))]
    return [_mean(right[each], tiles.weights[each]) for each in own]


def log_losses(tiles: Judged) -> Floats:
    """Return -log of the probability of each tile's own class, nats, ``(tiles,)``."""
    losses: Floats = np.logaddexp(0.0, -tiles.odds[np.arange(len(tiles.targets)), tiles.targets])
    return losses


def briers(tiles: Judged) -> Floats:
    """Return the squared error of each tile's probability, ``(tiles,)``; of more classes summed over them."""
    one_hot = np.eye(len(tiles.classes))[tiles.targets]
    squares = (tiles.probabilities - one_hot) ** 2
    summed: Floats = squares[:, 1] if tiles.is_binary else squares.sum(axis=1)
    return summed


def auroc(tiles: Judged) -> float | None:
    """Return the area under the ROC curve: how often a positive tile has the larger logit, ties half.

    Of logits, for probabilities near 1 are equal in their last digit. Of more than two classes it is the mean
    over one class against the rest. None where a class has no tiles.
    """
    numbers = (1,) if tiles.is_binary else range(len(tiles.classes))
    areas = [
        area_under_roc(tiles.odds[:, number], tiles.targets == number, tiles.weights)
        for number in numbers
    ]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if len(known) == len(areas) else None


def area_under_roc(values: Floats, positive: NDArray[np.bool_], weights: Floats) -> float | None:
    """Return the weighted Mann-Whitney statistic as a share, ``(tiles,)`` each; None without both kinds."""
    distinct, at = np.unique(values, return_inverse=True)
    ours = np.bincount(at, weights=weights * positive, minlength=len(distinct))
    theirs = np.bincount(at, weights=weights * ~positive, minlength=len(distinct))
    pairs = ours.sum() * theirs.sum()
    if pairs == 0:
        return None
    below = np.cumsum(theirs) - theirs
    return float((ours * (below + theirs / 2)).sum() / pairs)


def average_precision(values: Floats, positive: NDArray[np.bool_], weights: Floats) -> float | None:
    """Return the mean precision at each positive tile, equal values told apart by nobody.

    It is the area under the curve of precision by recall as a sum of steps, not of trapezoids, which would
    flatter (Davis and Goadrich, The relationship between precision-recall and ROC curves, 2006); that of
    chance is the share of positive tiles. ``(tiles,)`` each; None where there are not tiles of both kinds, as
    it is 1 of positive ones alone.
    """
    distinct, at = np.unique(-values, return_inverse=True)
    ours = np.bincount(at, weights=weights * positive, minlength=len(distinct))
    every = np.bincount(at, weights=weights, minlength=len(distinct))
    if ours.sum() == 0 or not (weights * ~positive).any():
        return None
    precision = np.cumsum(ours) / np.cumsum(every)
    return float((ours * precision).sum() / ours.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Probabilities against what came true, in bins."""

    weight: Floats
    """Of the tiles of each bin, ``(15,)``."""
    forecast: Floats
    """Their mean probability; NaN in an empty bin."""
    share: Floats
    """How many of them it came true of; NaN in an empty bin."""

    @property
    def error(self) -> float | None:
        """The expected calibration error: the mean distance of forecast and share, weighted by tiles."""
        held = self.weight > 0
        distance = np.abs(self.forecast - self.share)[held]
        return _mean(distance, self.weight[held])


def forecasts(tiles: Judged) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the probability that ``calibration`` speaks of, and whether it came true, ``(tiles,)`` each."""
    if tiles.is_binary:
        return tiles.probabilities[:, 1], tiles.targets == 1
    return tiles.probabilities.max(axis=1), tiles.chosen == tiles.targets


def bins_of(forecast: Floats) -> Ints:
    """Return the bin of each probability, 0 to 14."""
    return np.minimum((forecast * ECE_BINS).astype(np.int64), ECE_BINS - 1)


def calibration(tiles: Judged) -> Calibration:
    """Return how probabilities agree with what came true.

    Of two classes it is the probability of the second against how many are of it; of more, the probability
    of the likeliest class against how often that is right (Guo et al., On Calibration of Modern Neural
    Networks, 2017).
    """
    forecast, true = forecasts(tiles)
    at = bins_of(forecast)

    def summed(values: Floats) -> Floats:
        sums: Floats = np.bincount(at, values, ECE_BINS).astype(np.float64)
        return sums

    weight = summed(tiles.weights)
    return Calibration(
        weight=weight,
        forecast=shares(summed(tiles.weights * forecast), weight),
        share=shares(summed(tiles.weights * true), weight),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitSpread:
    """How the margins of one class's tiles are spread; see ``Judged.margins``."""

    mean: float | None
    std: float | None
    """Of the tiles themselves, not an estimate for others."""
    quantiles: tuple[float | None, ...]
    """At ``LOGIT_PERCENT``: the least value that so much of the weight does not exceed."""
    counts: Floats = field(repr=False)
    """Weight in each bin of ``LOGIT_EDGES``, ``(96,)``."""


def logit_spreads(tiles: Judged) -> dict[str, LogitSpread]:
    """Return the spread of every class, empty ones too."""
    margins = tiles.margins
    own = [tiles.targets == number for number in range(len(tiles.classes))]
    spreads = [_spread(margins[each], tiles.weights[each]) for each in own]
    return dict(zip(tiles.classes, spreads, strict=True))


def _spread(values: Floats, weights: Floats) -> LogitSpread:
    inside = np.clip(values, LOGIT_EDGES[0], LOGIT_EDGES[-1])
    counts: Floats = np.histogram(inside, bins=LOGIT_EDGES, weights=weights)[0].astype(np.float64)
    if not values.size:
        empty = (None,) * len(LOGIT_PERCENT)
        return LogitSpread(mean=None, std=None, quantiles=empty, counts=counts)
    mean, std = mean_and_std(values, weights)
    found = quantiles(values, weights, [each / 100 for each in LOGIT_PERCENT])
    return LogitSpread(mean=mean, std=std, quantiles=tuple(found), counts=counts)


def evaluation(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike, *, classes: Sequence[str]
) -> dict[str, Any]:
    """Return everything that one row of metrics.parquet says of a pass: scores, calibration and logits.

    Parameters
    ----------
    logits, targets, weights, classes
        As for ``judged``, which see for errors too.
    """
    tiles = judged(logits, targets, weights, classes=classes)
    bins = calibration(tiles)
    row: dict[str, Any] = {"tiles": len(tiles.targets), **scores_of(tiles)}
    row["calibration_weight"] = bins.weight.tolist()
    row["calibration_forecast"] = _without_nan(bins.forecast)
    row["calibration_share"] = _without_nan(bins.share)
    for name, spread in logit_spreads(tiles).items():
        row[f"logit_mean_{name}"] = spread.mean
        row[f"logit_std_{name}"] = spread.std
        row[f"logit_counts_{name}"] = spread.counts.tolist()
        for percent, value in zip(LOGIT_PERCENT, spread.quantiles, strict=True):
            row[f"logit_q{percent:02d}_{name}"] = value
    return row


def _without_nan(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def logit_shifts(
    train: Mapping[str, Any], other: Mapping[str, Any], *, classes: Sequence[str]
) -> dict[str, float | None]:
    """Return how far each class's mean margin of other tiles is from that of tiles that were trained on.

    For the rare class of an imbalanced task the shift is towards the boundary (Li, Kamnitsas and Glocker,
    Overfitting of neural nets under class imbalance, MICCAI 2019). ``logit_shift_CLASS`` = other - train.

    Parameters
    ----------
    train, other
        What ``evaluation`` gave.
    """
    means = {name: (train[f"logit_mean_{name}"], other[f"logit_mean_{name}"]) for name in classes}
    return {
        f"logit_shift_{name}": None if ours is None or theirs is None else theirs - ours
        for name, (ours, theirs) in means.items()
    }
