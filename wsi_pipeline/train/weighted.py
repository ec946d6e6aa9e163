"""Numbers of tiles that count as much as their weights say. Pure: arrays in, numbers out, no torch."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def shares(part: Floats, whole: Floats) -> Floats:
    """Return ``part / whole``, NaN where the whole is 0.

    Parameters
    ----------
    part
        Of any shape.
    whole
        0 or more, of a shape that fits it.

    >>> shares(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[4.0], [0.0]])).tolist()
    [[0.25, 0.5], [nan, nan]]
    """
    found: Floats = np.full(part.shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def quantiles(values: Floats, weights: Floats, wanted: Sequence[float]) -> list[float]:
    """Return the least values that so much of the weight does not exceed.

    Parameters
    ----------
    values
        ``(tiles,)``, at least one.
    weights
        ``(tiles,)``, above 0.
    wanted
        Shares of the weight, 0 to 1.

    >>> quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), (0.25, 0.5, 0.76))
    [1.0, 2.0, 3.0]
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    least = np.array(wanted) * reached[-1] * (1 - 1e-12)  # equal but for rounding is reached
    places = np.minimum(np.searchsorted(reached, least), len(values) - 1)
    found: list[float] = values[order][places].tolist()
    return found


def mean_and_std(values: Floats, weights: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of the tiles themselves, not an estimate for others.

    Parameters
    ----------
    values, weights
        ``(tiles,)``, at least one of weight above 0.
    """
    mean = float(np.average(values, weights=weights))
    return mean, float(np.average((values - mean) ** 2, weights=weights)) ** 0.5
