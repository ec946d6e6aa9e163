"""Sums over the tiles of groups, from which scores follow; those of several groups add up.

Precision and its like are quotients of sums, so a draw of patients is one product of matrices.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.evaluate.score.bootstrap import Key, Statistic
from wsi_pipeline.train.metrics import (
    ECE_BINS,
    Floats,
    Ints,
    Judged,
    bins_of,
    briers,
    forecasts,
    log_losses,
)
from wsi_pipeline.train.weighted import shares

POSITIVE = ("recall", "specificity", "precision", "f1")
"""Scores of one class against the others: of two classes those of the second, of more their mean too."""


def confusion_counts(tiles: Judged, chosen: Ints, codes: Ints, *, groups: int) -> Floats:
    """Return the weight of tiles by group, class and chosen class, ``(groups, classes, classes)``."""
    classes = len(tiles.classes)
    at = (codes * classes + tiles.targets) * classes + chosen
    counts = np.bincount(at, tiles.weights, groups * classes**2).astype(np.float64)
    return counts.reshape(groups, classes, classes)


def count_scores(
    confusion: Floats,
    classes: Sequence[str],
    *,
    cutoff: str = "0.5",
    needed: Mapping[str, NDArray[np.bool_]] | None = None,
) -> dict[Key, Floats]:
    """Return the scores of counts, ``(groups,)`` each, NaN where one cannot be said.

    Balanced accuracy needs tiles of two classes; recall and F1 of a class need tiles of it, precision needs
    others too: of tiles of one class it is 1 whatever is said. Means over more than two classes count a class
    that is said and not there as 0.

    Parameters
    ----------
    confusion
        See ``confusion_counts``.
    classes
        Names; of two, the scores are those of the second.
    cutoff
        What ``confusion`` was counted at, for the keys.
    needed
        Of each of ``POSITIVE`` the classes without which its mean over classes cannot be said,
        ``(classes,)``; by default a class that cannot be scored is left out of it.
    """
    each = _of_classes(confusion)
    means = {name: _mean(each[name], None if needed is None else needed[name]) for name in POSITIVE}
    true = np.trace(confusion, axis1=1, axis2=2)
    there = confusion.sum(axis=2) > 0
    found = {
        "accuracy": shares(true, confusion.sum(axis=(1, 2))),
        "balanced_accuracy": np.where(there.sum(axis=1) > 1, means["recall"], np.nan),
    }
    for name in POSITIVE:
        if len(classes) == 2:
            found[name] = _known(name, each[name], there)[:, 1]
            continue
        found[f"{name}_macro"] = means[name]
        known = _known(name, each[name], there)
        found |= {f"{name}_{word}": known[:, at] for at, word in enumerate(classes)}
    return {(name, cutoff): values for name, values in found.items()}


def _known(name: str, values: Floats, there: NDArray[np.bool_]) -> Floats:
    """Return scores of classes, ``(groups, classes)``, without those that say nothing of the network.

    Without a tile of the class precision is 0, and without any other it is 1, whatever the network says;
    specificity is of the other classes' tiles.
    """
    if name == "specificity":
        return values
    if name == "precision":
        there = there & (there.sum(axis=1) > 1)[:, None]
    return np.where(there, values, np.nan)


def _of_classes(confusion: Floats) -> dict[str, Floats]:
    """Return the scores of every class against the others, ``(groups, classes)`` each."""
    total = confusion.sum(axis=(1, 2))[:, None]
    true = np.diagonal(confusion, axis1=1, axis2=2)
    own, said = confusion.sum(axis=2), confusion.sum(axis=1)
    return {
        "recall": shares(true, own),
        "specificity": shares(total - own - said + true, total - own),
        "precision": shares(true, said),
        "f1": shares(2 * true, own + said),
    }


def losses(tiles: Judged, codes: Ints, *, groups: int) -> Floats:
    """Return the sums that log loss, Brier score and calibration follow from, ``(groups, 45 + 2 + classes)``.

    Weight, forecast and what came true in each bin of probability; log loss and Brier score; the weight of
    each class.
    """
    forecast, true = forecasts(tiles)
    w = tiles.weights
    plain = [np.bincount(codes, w * each, groups) for each in (log_losses(tiles), briers(tiles))]
    plain += [
        np.bincount(codes, w * (tiles.targets == at), groups) for at in range(len(tiles.classes))
    ]
    at = codes * ECE_BINS + bins_of(forecast)
    binned = [
        np.bincount(at, values, groups * ECE_BINS).reshape(groups, ECE_BINS)
        for values in (w, w * forecast, w * true)
    ]
    return np.concatenate([*binned, np.stack(plain, axis=1)], axis=1)


def loss_scores(sums: Floats, *, after: str = "") -> dict[Key, Floats]:
    """Return log loss, Brier score and calibration error of sums, ``(groups,)`` each; see ``losses``."""
    bins, (log_loss, brier) = sums[:, : 3 * ECE_BINS], sums.T[3 * ECE_BINS : 3 * ECE_BINS + 2]
    weights, forecast, true = np.split(bins, 3, axis=1)
    weight = weights.sum(axis=1)
    found = {
        "log_loss": shares(log_loss, weight),
        "brier": shares(brier, weight),
        "ece": shares(np.abs(forecast - true).sum(axis=1), weight),
    }
    return {(f"{name}{after}", "none"): values for name, values in found.items()}


def prevalences(sums: Floats, classes: Sequence[str]) -> dict[Key, Floats]:
    """Return the share of each class, of two that of the second: the average precision of chance."""
    held = sums[:, 3 * ECE_BINS + 2 :]
    found = shares(held, held.sum(axis=1)[:, None])
    if len(classes) == 2:
        return {("prevalence", "none"): found[:, 1]}
    return {(f"prevalence_{name}", "none"): found[:, at] for at, name in enumerate(classes)}


def counted(confusion: Floats, classes: Sequence[str], *, cutoff: str) -> Statistic:
    """Return the scores of counts by weights of patients; ``confusion`` is that of each patient.

    A draw in which a class cannot be scored that can be in the whole has no mean over classes: that of the
    others is another number.
    """
    flat = confusion.reshape(len(confusion), -1)
    whole = _of_classes(confusion.sum(axis=0, keepdims=True))
    needed = {name: ~np.isnan(values[0]) for name, values in whole.items()}

    def statistic(draws: Floats) -> Mapping[Key, Floats]:
        drawn = (draws @ flat).reshape(-1, *confusion.shape[1:])
        return count_scores(drawn, classes, cutoff=cutoff, needed=needed)

    return statistic


def _mean(values: Floats, needed: NDArray[np.bool_] | None) -> Floats:
    if needed is not None:
        return np.asarray(values[:, needed].mean(axis=1))
    known = ~np.isnan(values)
    return shares(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))
