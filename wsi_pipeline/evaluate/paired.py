"""Two ways of training compared: by repeats of the same seeds, or two networks on the same tiles.

Repeats say whether a way of training is better for whatever seed, on these patients; a draw of patients says
whether a network is better for whatever patients. docs/concepts/statistics.md says when which is asked.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.bootstrap import (
    LEVEL,
    REPLICATES,
    Interval,
    Key,
    interval_of,
    replicated,
)
from wsi_pipeline.evaluate.holders import holders, holders_of
from wsi_pipeline.evaluate.measures import Measure, statistic_of, values_of
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.scores import units_of
from wsi_pipeline.train.metrics import Floats

NOT_ALIKE = (
    "two networks can be compared on the same labelled tiles only; evaluate both on the same part, with the "
    "same condition"
)

MOST_PAIRS = 20
"""Pairs of which every pattern of signs is tried: a million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
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
    t: Verdict
    """Student's paired test; assumes differences to be normal."""
    sign_flip: Verdict
    """Every pattern of signs of the differences; assumes only that they are symmetric if there is none."""
    wilcoxon: Verdict
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


def _student(differences: Floats, spread: float) -> Verdict:
    if not spread:
        return Verdict(p=None, least=0.0, note="all differences are equal")
    n = len(differences)
    t = differences.mean() / (spread / np.sqrt(n))
    return Verdict(p=float(2 * stats.t.sf(abs(t), n - 1)), least=0.0)


def _sign_flip(values: Floats) -> Verdict:
    """Return how many patterns of signs make the sum as large as it is, or larger, either way."""
    n = len(values)
    if not 0 < n <= MOST_PAIRS:
        why = "no pair differs" if n == 0 else f"more than {MOST_PAIRS} pairs: take Student's test"
        return Verdict(p=None, least=1.0 if n == 0 else 0.0, note=why)
    least = 2 / 2**n
    signs = np.array(list(product((1.0, -1.0), repeat=min(n, 10))))
    sums = signs @ np.abs(values[:10])
    for value in np.abs(values[10:]):
        sums = np.concatenate([sums + value, sums - value])
    extreme = np.abs(sums) >= abs(values.sum()) - 1e-12 * np.abs(values).sum()
    note = f"with {n} pairs p cannot be below {least:.4g}" if least > 0.05 else ""
    return Verdict(p=float(extreme.mean()), least=least, note=note)


def unpaired(first: ArrayLike, second: ArrayLike) -> Verdict:
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
    return Verdict(p=float(found.pvalue), least=min(least, 1.0), note="; ".join(notes))


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
    pair = [units_of(each) for each in aligned(first, second)]
    name = "0.5" if len(first.classes) == 2 else "none"
    measure = Measure(unit="tile", aggregate=None, cutoffs={name: 0.0 if name == "0.5" else None})
    whole = np.zeros(len(pair[0].slides), np.int64)
    ours, theirs = (values_of(each, measure, whole, groups=1) for each in pair)
    drawn = []
    for units in pair:
        statistic, patients = statistic_of(units, measure, draws=replicates)
        drawn.append(
            replicated(statistic, patients=patients, replicates=replicates, seed=seed).values
        )
    held = holders(pair[0])

    def difference(key: Key) -> Difference:
        of = holders_of(held, key[0], first.classes)
        interval = interval_of(
            drawn[0][key] - drawn[1][key], len(held), effective=of.effective, level=level
        )
        return Difference(value=float(ours[key][0] - theirs[key][0]), interval=interval)

    return {key: difference(key) for key in ours if not np.isnan(ours[key][0] - theirs[key][0])}


def aligned(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Return the labelled tiles of both in the same order.

    Raises
    ------
    ConfigError
        They are of other tiles, labels, or classes.
    """
    pair = (in_order(first.labelled()), in_order(second.labelled()))
    same = first.classes == second.classes and _said_of(pair[0]) == _said_of(pair[1])
    if not same:
        raise ConfigError(NOT_ALIKE)
    return pair


def in_order(whole: Predictions) -> Predictions:
    """Return tiles by the name of their slide and their number."""
    slides, tiles = whole.groups("slide_id").codes, whole.table.column("tile").to_numpy()
    order = np.lexsort((tiles, slides))
    return Predictions(table=whole.table.take(order), classes=whole.classes)


def tiles_digest(whole: Predictions) -> str:
    """Return 16 hexadecimal digits that change with a tile, its order, label or weight."""
    names, numbers = _said_of(whole)
    return hashlib.sha256(repr(names).encode() + numbers).hexdigest()[:16]


def _said_of(whole: Predictions) -> tuple[tuple[str, ...], bytes]:
    """Return which tiles there are, with label and weight: names of slides, and numbers as bytes."""
    slides = whole.groups("slide_id")
    tiles = np.asarray(whole.table.column("tile").to_numpy(), np.float64)
    return slides.names, np.stack([slides.codes, tiles, whole.targets, whole.weights]).tobytes()


def delong(
    first: ArrayLike, second: ArrayLike, positive: NDArray[np.bool_], patients: ArrayLike
) -> tuple[float, Verdict]:
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
            "patient, or draw patients (evaluate.paired.differences)"
        )
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ConfigError("DeLong's test: expected two positive and two negative patients or more")
    pair = [_placements(np.asarray(each, np.float64), positive) for each in (first, second)]
    difference = float(pair[0][0].mean() - pair[1][0].mean())
    variance = sum(
        float(np.var(ours - theirs, ddof=1)) / len(ours) for ours, theirs in zip(*pair, strict=True)
    )
    if variance == 0:
        return difference, Verdict(p=None, least=0.0, note="both order the patients alike")
    z = difference / np.sqrt(variance)
    return difference, Verdict(p=float(2 * stats.norm.sf(abs(z))), least=0.0)


def _placements(values: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return of each positive one the share of negative ones below it, and of each of these that above it."""
    ours, theirs = values[positive], values[~positive]
    together = stats.rankdata(np.concatenate([ours, theirs]))
    above, below = together[: len(ours)], together[len(ours) :]
    return (
        (above - stats.rankdata(ours)) / len(theirs),
        1 - (below - stats.rankdata(theirs)) / len(ours),
    )
