"""Which tiles a network is surest of: those that it is right about, and those that it is not."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FROM_ONE_SLIDE = 2
"""Tiles of one slide, while there are others: one slide is not the cohort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surest:
    """Tiles that are said to be of a class, the surest first."""

    number: int
    """Of the class that the network says."""
    is_right: bool
    rows: NDArray[np.int64] = field(repr=False)


def surest_tiles(
    odds: NDArray[np.float64],
    targets: NDArray[np.int64],
    slides: NDArray[np.int64],
    *,
    count: int,
) -> list[Surest]:
    """Return the surest hits and misses of each class; where there are none, they are left out.

    Parameters
    ----------
    odds
        Logarithm of the odds of each class, ``(tiles, classes)``; the largest is what the network says.
    targets
        Numbers of classes; tiles of -1 are left out.
    slides
        Number of each tile's slide; at most two tiles are of one slide while there are others.
    count
        Most tiles of each kind.
    """
    said = odds.argmax(axis=1)
    found = []
    for number in range(odds.shape[1]):
        for is_right in (True, False):
            meant = (targets >= 0) & (said == number) & ((targets == number) == is_right)
            rows = np.flatnonzero(meant)
            rows = rows[np.argsort(-odds[rows, number], kind="stable")]
            if len(rows):
                chosen = rows[_few_of_each(slides[rows], count)]
                found.append(Surest(number=number, is_right=is_right, rows=chosen))
    return found


def _few_of_each(slides: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the first places, few of one slide; later ones of the same slides fill up."""
    taken: dict[int, int] = {}
    first: list[int] = []
    for place, slide in enumerate(slides.tolist()):
        taken[slide] = taken.get(slide, 0) + 1
        if taken[slide] <= FROM_ONE_SLIDE:
            first.append(place)
        if len(first) == count:
            break
    rest = np.setdiff1d(np.arange(min(len(slides), 2 * count)), first)
    places = np.concatenate([np.array(first, np.int64), rest[: count - len(first)]])
    return np.sort(places.astype(np.int64))
