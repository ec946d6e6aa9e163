"""What tiles say of their slide, and slides of their patient."""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from wsi_pipeline.train.metrics import Floats, Ints, Judged

Aggregate: TypeAlias = Literal["mean", "max", "top_k", "share"]

AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
OF_MANY_CLASSES: tuple[Aggregate, ...] = ("mean", "share")
"""Aggregates of more than two classes; the largest of each class's probabilities would not add up to 1."""

TOP_K = 10
_CERTAIN = 1000.0  # logarithm of odds that stands for a share of 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Tiles, slides or patients, and what is said of them."""

    judged: Judged
    slides: Ints = field(repr=False)
    """Number of each one's slide, ``(units,)``; of patients their own number."""
    patients: Ints = field(repr=False)
    """Number of each one's patient, ``(units,)``."""
    left_out: int = 0
    """Slides or patients without a target, as they hold several classes."""

    def only(self, chosen: Ints) -> "Units":
        """Return some of them, by place."""
        whole = self.judged
        judged = Judged(
            odds=whole.odds[chosen],
            chosen=whole.chosen[chosen],
            targets=whole.targets[chosen],
            weights=whole.weights[chosen],
            classes=whole.classes,
        )
        return replace(
            self, judged=judged, slides=self.slides[chosen], patients=self.patients[chosen]
        )


def by_slide(tiles: Units, how: Aggregate, *, chosen: Ints | None = None) -> Units:
    """Return the slides of tiles.

    A slide's probability is of its tiles' probabilities: ``mean``, weighted; ``max``; ``top_k``, the mean of
    the ten largest, or of all where there are fewer; ``share``: how much of the weight is called so. Its
    target is that of its tiles. Where these differ it is positive, as one positive tile makes a positive
    slide; of more than two classes it is not defined, and the slide is left out.

    Parameters
    ----------
    tiles
        Labelled tiles.
    how
        Of ``AGGREGATES``; of more than two classes one of ``OF_MANY_CLASSES``.
    chosen
        The class of each tile at a cut-off, for ``share``; the likeliest one by default.

    Returns
    -------
    Units
        Slides in order of number, each of weight 1.
    """
    return _gathered(tiles, tiles.slides, how, tiles.judged.chosen if chosen is None else chosen)


def by_patient(slides: Units, how: Aggregate) -> Units:
    """Return the patients of slides: the mean over slides, however large they are; of ``max`` the largest."""
    rule: Aggregate = "max" if how == "max" else "mean"
    return _gathered(slides, slides.patients, rule, slides.judged.chosen)


def _gathered(units: Units, owners: Ints, how: Aggregate, chosen: Ints) -> Units:
    names, codes = np.unique(owners, return_inverse=True)
    yes, no = _sides(units.judged, codes, how, chosen)
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(yes) - np.log(no), -_CERTAIN, _CERTAIN)
    targets = _targets(units.judged, codes, count=len(names))
    first = np.unique(codes, return_index=True)[1]
    two = units.judged.is_binary
    found = Judged(
        odds=odds,
        chosen=(odds[:, 1] > 0).astype(np.int64) if two else odds.argmax(axis=1),
        targets=targets,
        weights=np.ones(len(names)),
        classes=units.judged.classes,
    )
    whole = Units(judged=found, slides=names, patients=units.patients[first])
    defined = np.flatnonzero(targets >= 0)
    return replace(whole.only(defined), left_out=units.left_out + len(names) - len(defined))


def _sides(tiles: Judged, codes: Ints, how: Aggregate, chosen: Ints) -> tuple[Floats, Floats]:
    """Return the probability of each class and that of all others, ``(owners, classes)`` each.

    Both, for of one near 1 the other cannot be had by subtraction.
    """
    yes, no = tiles.probabilities, np.exp(-np.logaddexp(0.0, tiles.odds))
    weights, places = tiles.weights, np.arange(len(codes))
    if how == "share":
        yes = np.eye(len(tiles.classes))[chosen]
        no = 1 - yes
    elif how in ("max", "top_k"):
        places = _largest(tiles.margins, codes, most=1 if how == "max" else TOP_K)
        weights = np.ones(len(codes))
    return _means(yes, weights, codes, places), _means(no, weights, codes, places)


def _largest(values: Floats, codes: Ints, *, most: int) -> Ints:
    """Return places of the largest values of each owner."""
    order = np.lexsort((-values, codes))
    start = np.flatnonzero(np.diff(codes[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return order[rank < most]


def _means(values: Floats, weights: Floats, codes: Ints, places: Ints) -> Floats:
    count, at, w = int(codes.max(initial=-1)) + 1, codes[places], weights[places]
    sums = [np.bincount(at, w * column[places], count) for column in values.T]
    return np.stack(sums, axis=1) / np.bincount(at, w, count)[:, None]


def _targets(tiles: Judged, codes: Ints, *, count: int) -> Ints:
    """Return the class of each owner, -1 where it is not defined."""
    least, most = np.full(count, len(tiles.classes)), np.full(count, -1)
    np.minimum.at(least, codes, tiles.targets)
    np.maximum.at(most, codes, tiles.targets)
    return most if tiles.is_binary else np.where(least == most, most, -1)
