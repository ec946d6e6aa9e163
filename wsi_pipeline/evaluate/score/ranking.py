"""Areas under curves when patients count several times or not at all, for thousands of draws.

A draw of the bootstrap gives each patient a weight w. The area under the ROC curve is then

    sum over patients i, j of w_i w_j A_ij / ((sum of w_i p_i) (sum of w_j n_j))

where p_i and n_i are the weights of patient i's positive and negative tiles, and A_ij is the weight of
pairs whose positive tile is of i, whose negative one is of j, and whose positive one has the larger value,
ties half. A is made once from all tiles, in order; a draw then costs as many operations as there are pairs of
patients, however many tiles they have.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wsi_pipeline.train.metrics import Floats, Ints
from wsi_pipeline.train.weighted import shares

Area: TypeAlias = Callable[[Floats], Floats]
"""How often each patient is drawn, whole numbers ``(draws, patients)``, to each draw's area; NaN: none."""

MOST_PAIRED = 2048
"""Patients beyond which pairs of them are too many to be kept: 32 MiB."""

STEPS = 2048
"""Values of positive tiles, or groups of neighbours of them, that precision is asked for at."""

_AT_ONCE = 2**18  # numbers of a matrix of steps and draws: what a core's cache holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Tiles in order of a value, those of equal value side by side."""

    patients: Ints = field(repr=False)
    """Of each tile, from 0, ``(tiles,)``."""
    weights: Floats = field(repr=False)
    positive: NDArray[np.bool_] = field(repr=False)
    steps: Ints = field(repr=False)
    """Place of each tile's value among the distinct ones, from 0, the least."""
    count: int
    """Of patients."""

    def sums(self, positive: bool) -> Floats:  # noqa: FBT001
        """Return the weight of each patient's positive or negative tiles, ``(patients,)``."""
        weights = np.where(self.positive == positive, self.weights, 0.0)
        return np.bincount(self.patients, weights, self.count).astype(np.float64)


def ranked(
    values: Floats, positive: NDArray[np.bool_], weights: Floats, patients: Ints, *, count: int
) -> Ranks:
    """Return tiles in order.

    Parameters
    ----------
    values, positive, weights, patients
        Of each tile, ``(tiles,)``; patients are numbers below ``count``.
    """
    order = np.argsort(values, kind="stable")
    ahead = np.diff(values[order]) > 0
    steps = np.concatenate([[0], np.cumsum(ahead)]) if len(order) else np.zeros(0, np.int64)
    return Ranks(
        patients=patients[order],
        weights=weights[order],
        positive=positive[order],
        steps=steps.astype(np.int64),
        count=count,
    )


def roc_area(ranks: Ranks, *, draws: int) -> Area:
    """Return what gives the area under the ROC curve, the quicker way for so many draws; both are exact."""
    if ranks.count <= min(MOST_PAIRED, max(draws, 64)):
        return pair_area(ranks)
    return tile_area(ranks)


def pair_area(ranks: Ranks) -> Area:
    """Return the area as a quadratic form of the patients' weights; see the module."""
    pairs, ours, theirs = pairs_of(ranks), ranks.sums(positive=True), ranks.sums(positive=False)

    def area(draws: Floats) -> Floats:
        won = np.einsum("dp,dp->d", draws @ pairs, draws)
        return shares(won, (draws @ ours) * (draws @ theirs))

    return area


def pairs_of(ranks: Ranks) -> Floats:
    """Return the weight of pairs that are in order, ``(patients, patients)``: positive by negative."""
    mine, other = ranks.positive, ~ranks.positive
    first, last = _around(ranks)
    pairs = np.zeros((ranks.count, ranks.count))
    patients, weights = ranks.patients[mine], ranks.weights[mine]
    tied = bool((first != last).any())
    of_patient = np.argsort(ranks.patients[other], kind="stable")
    ends = np.cumsum(np.bincount(ranks.patients[other], minlength=ranks.count))
    passed = np.zeros(len(of_patient) + 1)
    for each, held in enumerate(np.split(of_patient, ends[:-1])):
        if not held.size:
            continue
        passed[:] = 0
        passed[held + 1] = ranks.weights[other][held]
        np.cumsum(passed, out=passed)
        below = (passed[first] + passed[last]) / 2 if tied else passed[first]
        pairs[:, each] = np.bincount(patients, weights * below, ranks.count)
    return pairs


def _around(ranks: Ranks) -> tuple[Ints, Ints]:
    """Return how many negative tiles are below each positive one, and how many below or equal."""
    steps = ranks.steps[~ranks.positive]
    wanted = ranks.steps[ranks.positive]
    return np.searchsorted(steps, wanted), np.searchsorted(steps, wanted, side="right")


def tile_area(ranks: Ranks) -> Area:
    """Return the area by going through all tiles in every draw: for more patients than draws."""
    won = _won(ranks)
    ours, theirs = ranks.sums(positive=True), ranks.sums(positive=False)

    def area(draws: Floats) -> Floats:
        pairs = np.array([won(each) for each in draws])
        return shares(pairs, (draws @ ours) * (draws @ theirs))

    return area


def _won(ranks: Ranks) -> Callable[[Floats], float]:
    """Return what gives the weight of pairs of tiles in order, of patients' weights, ``(patients,)``."""
    first, last = _around(ranks)
    tied = bool((first != last).any())
    mine, other = ranks.positive, ~ranks.positive
    ours_of, theirs_of = ranks.patients[mine], ranks.patients[other]
    our_weights, their_weights = ranks.weights[mine], ranks.weights[other]
    # Tiles that all weigh 1 are counted: whole numbers are summed up six times as fast, and as exactly.
    whole = bool((ranks.weights == 1).all())
    kind = np.int64 if whole else np.float64
    own, passed = np.empty(len(theirs_of), kind), np.zeros(len(theirs_of) + 1, kind)
    below, ours, pairs = np.empty(len(ours_of), kind), *np.empty((2, len(ours_of)))

    def won(weights: Floats) -> float:
        drawn = weights.astype(kind)
        # "clip" lets numpy write to ``out`` at once; every place is within bounds.
        np.take(drawn, theirs_of, out=own, mode="clip")
        if not whole:
            np.multiply(own, their_weights, out=own)
        np.cumsum(own, out=passed[1:])
        np.take(passed, first, out=below, mode="clip")
        if tied:
            np.add(below, np.take(passed, last, mode="clip"), out=below)
        np.take(weights, ours_of, out=ours, mode="clip")
        if not whole:
            np.multiply(ours, our_weights, out=ours)
        np.copyto(pairs, below)
        return float(np.dot(ours, pairs)) / (2 if tied else 1)

    return won


def precision_area(ranks: Ranks) -> Area:
    """Return what gives the average precision.

    Precision is asked for at every distinct value of a positive tile. Up to ``STEPS`` of these all is exact.
    Of more the upper ones stand alone still and the others are joined to groups of neighbours, where
    precision is taken halfway, as if positive and negative tiles were evenly mixed; the difference from what
    is exact, of all patients once, is then taken off every draw. A draw of positive tiles alone has none.
    """
    held = np.unique(ranks.steps[ranks.positive])[::-1]
    groups = _joined(len(held))
    joined, negative = _stepped(ranks, held, groups), ranks.sums(positive=False)
    once = np.ones((1, ranks.count))
    error = 0.0 if len(held) <= STEPS else joined(once) - _once(ranks)
    return lambda draws: np.where(draws @ negative > 0, joined(draws) - error, np.nan)


def _joined(count: int) -> Ints:
    """Return the group of each of so many values, the largest first: single ones, then joined ones."""
    places = np.arange(count)
    alone = min(count, STEPS // 2 if count > STEPS else count)
    return np.where(
        places < alone, places, alone + (places - alone) * (STEPS - alone) // max(count - alone, 1)
    )


def _stepped(ranks: Ranks, held: Ints, groups: Ints) -> Area:
    """Return the average precision over groups of values of positive tiles, the largest first."""
    below = np.searchsorted(held[::-1], ranks.steps, side="right") - 1
    counted = below >= 0  # others are below every positive tile
    at = groups[len(held) - 1 - below[counted]]
    count = int(groups.max(initial=0)) + 1

    def summed(weights: Floats) -> sparse.csr_array:
        where = (at, ranks.patients[counted])
        return sparse.csr_array(
            sparse.coo_array((weights[counted], where), shape=(count, ranks.count))
        )

    mine, both = summed(ranks.weights * ranks.positive), summed(ranks.weights)
    rest = np.where(np.bincount(groups, minlength=count) > 1, 0.5, 0.0)[:, None]

    def some(draws: Floats) -> Floats:
        ours, every = mine @ draws.T, both @ draws.T
        true = np.cumsum(ours, axis=0) - rest * ours
        reached = np.cumsum(every, axis=0) - rest * every
        np.divide(true, reached, out=true, where=reached > 0)  # else it is 0 already
        return shares(np.einsum("sd,sd->d", ours, true), ours.sum(axis=0))

    def area(draws: Floats) -> Floats:
        parts = -(-len(draws) * count // _AT_ONCE)
        return np.concatenate([some(each) for each in np.array_split(draws, max(parts, 1))])

    return area


def _once(ranks: Ranks) -> float:
    """Return the exact average precision of all patients once; see ``metrics.average_precision``."""
    ours = np.bincount(ranks.steps, ranks.weights * ranks.positive)[::-1]
    every = np.bincount(ranks.steps, ranks.weights)[::-1]
    return float((ours * np.cumsum(ours) / np.cumsum(every)).sum() / ours.sum())
