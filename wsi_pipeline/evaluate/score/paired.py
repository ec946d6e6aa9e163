"""Two ways of training compared: by repeats of the same seeds, or two networks on the same tiles.

Repeats say whether a way of training is better for whatever seed, on these patients; a draw of patients says
whether a network is better for whatever patients. docs/concepts/statistics.md says when which is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.bootstrap import LEVEL, REPLICATES, Interval, Key, interval_of
from wsi_pipeline.evaluate.score.nested import check_alike, drawn_of
from wsi_pipeline.train.metrics import Floats

MOST_PAIRS = 20
"""Pairs of which every pattern of signs is tried: a million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Significance:
    """What a test says."""

    p: float | None
    """Two-sided; None where it cannot be said."""
    least: float
    """The smallest p that so few numbers can give."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Differences of scores, first less second, of repeats of the same seeds."""

    pairs: int
    mean: float
    interval: Interval
    """Of the mean difference over seeds, by Student's t."""
    effect: float | None
    """Cohen's d of paired differences: their mean over their standard deviation."""
    t: Significance
    """Student's paired test; assumes differences to be normal."""
    sign_flip: Significance
    """Every pattern of signs of the differences; assumes only that they are symmetric if there is none."""
    wilcoxon: Significance
    """The same of their ranks; a difference of 0 is left out."""


def paired(first: ArrayLike, second: ArrayLike, *, level: float = LEVEL) -> Paired:
    """Compare scores of two ways of training, a pair for each seed.

    >>> found = paired([0.81, 0.84, 0.80, 0.83, 0.82], [0.78, 0.80, 0.79, 0.81, 0.77])
    >>> round(found.mean, 3), found.t.p < 0.05, found.sign_flip.p
    (0.03, True, 0.0625)
    >>> found.sign_flip.note
    'with 5 pairs p cannot be below 0.0625'

    Raises
    ------
    ValueError
        They are not as many, or fewer than two.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(
            f"paired: expected two scores or more of each, pair by pair; got {a.shape} and {b.shape}"
        )
    differences = a - b
    n, mean, spread = len(a), float(differences.mean()), _spread(a, b)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread / n**0.5
    changed = differences[differences != 0]
    ranks = stats.rankdata(np.abs(changed)) * np.sign(changed)
    return Paired(
        pairs=n,
        mean=mean,
        interval=Interval(low=mean - half, high=mean + half),
        effect=mean / spread if spread else None,
        t=_student(differences, spread),
        sign_flip=_sign_flip(differences),
        wilcoxon=_sign_flip(ranks),
    )


def _spread(a: Floats, b: Floats) -> float:
    """Return the standard deviation of differences, 0 where they differ by rounding alone."""
    differences = a - b
    rounding = 8 * np.finfo(np.float64).eps * max(np.abs(a).max(), np.abs(b).max())
    return 0.0 if np.ptp(differences) <= rounding else float(differences.std(ddof=1))


def _student(differences: Floats, spread: float) -> Significance:
    if not spread:
        return Significance(p=None, least=0.0, note="all differences are equal")
    n = len(differences)
    t = differences.mean() / (spread / np.sqrt(n))
    return Significance(p=float(2 * stats.t.sf(abs(t), n - 1)), least=0.0)


def _sign_flip(values: Floats) -> Significance:
    """Return how many patterns of signs make the sum as large as it is, or larger, either way."""
    n = len(values)
    if not 0 < n <= MOST_PAIRS:
        why = "no pair differs" if n == 0 else f"more than {MOST_PAIRS} pairs: take Student's test"
        return Significance(p=None, least=1.0 if n == 0 else 0.0, note=why)
    least = 2 / 2**n
    signs = np.array(list(product((1.0, -1.0), repeat=min(n, 10))))
    sums = signs @ np.abs(values[:10])
    for value in np.abs(values[10:]):
        sums = np.concatenate([sums + value, sums - value])
    extreme = np.abs(sums) >= abs(values.sum()) - 1e-12 * np.abs(values).sum()
    note = f"with {n} pairs p cannot be below {least:.4g}" if least > 0.05 else ""
    return Significance(p=float(extreme.mean()), least=least, note=note)


def unpaired(first: ArrayLike, second: ArrayLike) -> Significance:
    """Compare scores whose seeds do not match: Mann and Whitney's test, exact without ties.

    Raises
    ------
    ValueError
        There are none of one.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(a) or not len(b):
        raise ValueError("unpaired: expected scores of both, got none of one")
    least = 2 / comb(len(a) + len(b), len(a))
    tied = len(np.unique(np.concatenate([a, b]))) < len(a) + len(b)
    found = stats.mannwhitneyu(a, b, method="asymptotic" if tied else "exact")
    notes = [f"with {len(a)} and {len(b)} p cannot be below {least:.4g}"] if least > 0.05 else []
    notes += ["scores are tied: p is that of a normal distribution"] if tied else []
    return Significance(p=float(found.pvalue), least=min(least, 1.0), note="; ".join(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A score of two networks on the same tiles, first less second."""

    value: float
    interval: Interval
    """By drawing patients, the same ones for both networks."""


def differences(
    first: Predictions,
    second: Predictions,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> Mapping[Key, Difference]:
    """Return by how much scores of tiles differ, at 0.5, by score and cut-off.

    Raises
    ------
    ConfigError
        They are of other tiles, labels, or classes.
    """
    ours, theirs = (drawn_of(each, replicates=replicates, seed=seed) for each in (first, second))
    check_alike([ours, theirs])

    def difference(key: Key) -> Difference:
        interval = interval_of(
            ours.draws[key] - theirs.draws[key],
            ours.patients,
            effective=ours.effective[key],
            level=level,
        )
        return Difference(value=ours.values[key] - theirs.values[key], interval=interval)

    known = [key for key in ours.values if not np.isnan(ours.values[key] - theirs.values[key])]
    return {key: difference(key) for key in known}


def delong(
    first: ArrayLike, second: ArrayLike, positive: NDArray[np.bool_], patients: ArrayLike
) -> tuple[float, Significance]:
    """Compare two areas under the ROC curve on the same patients (DeLong, DeLong and Clarke-Pearson, 1988).

    It takes every number for an independent witness, which tiles of a patient are not: there the intervals of
    ``differences`` hold.

    Parameters
    ----------
    first, second
        What two networks say of each slide or patient, ``(patients,)``.
    positive
        What they are.
    patients
        Whose they are, all different.

    Returns
    -------
    tuple
        The difference of areas, first less second, and its test.

    Raises
    ------
    ConfigError
        A patient comes twice, or there are fewer than two of a kind.
    """
    names = np.asarray(patients)
    if len(np.unique(names)) < len(names):
        raise ConfigError(
            f"DeLong's test: expected one number per patient, got {len(names)} of {len(np.unique(names))} "
            "patients, whose tiles or slides are alike and no independent witnesses; aggregate them by "
            "patient, or draw patients (evaluate.score.paired.differences)"
        )
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ConfigError("DeLong's test: expected two positive and two negative patients or more")
    pair = [_placements(np.asarray(each, np.float64), positive) for each in (first, second)]
    difference = float(pair[0][0].mean() - pair[1][0].mean())
    variance = sum(
        float(np.var(ours - theirs, ddof=1)) / len(ours) for ours, theirs in zip(*pair, strict=True)
    )
    if variance == 0:
        return difference, Significance(p=None, least=0.0, note="both order the patients alike")
    z = difference / np.sqrt(variance)
    return difference, Significance(p=float(2 * stats.norm.sf(abs(z))), least=0.0)


def _placements(values: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return of each positive one the share of negative ones below it, and of each of these that above it."""
    ours, theirs = values[positive], values[~positive]
    together = stats.rankdata(np.concatenate([ours, theirs]))
    above, below = together[: len(ours)], together[len(ours) :]
    return (
        (above - stats.rankdata(ours)) / len(theirs),
        1 - (below - stats.rankdata(theirs)) / len(ours),
    )
