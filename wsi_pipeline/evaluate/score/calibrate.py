"""One temperature for all logits, found on validation tiles (Guo et al., 2017).

A temperature above 1 makes a network less sure of itself, one below 1 surer; ranks stay as they are, so
neither the area under the curve nor the likeliest class changes.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from wsi_pipeline.train.metrics import Judged, log_losses, odds_of

BOUNDS = (0.01, 100.0)
"""Between which a temperature is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """What logits are divided by."""

    value: float
    at_bound: bool
    """Whether it would go beyond ``BOUNDS``: validation tiles are parted without a miss, or not at all."""


def fit_temperature(tiles: Judged) -> Temperature | None:
    """Return the temperature whose mean log loss is the least, found by Brent's bounded search.

    The loss is convex in the inverse of the temperature, so there is one least value.

    Parameters
    ----------
    tiles
        Validation tiles, of any number of classes.

    Returns
    -------
    Temperature or None
        None without tiles.
    """
    if not len(tiles.targets):
        return None

    def loss(log: float) -> float:
        return float(np.average(log_losses(tempered(tiles, np.exp(log))), weights=tiles.weights))

    low, high = np.log(BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    at_bound = min(found.x - low, high - found.x) < 1e-3
    return Temperature(value=float(np.exp(found.x)), at_bound=bool(at_bound))


def tempered(tiles: Judged, temperature: float) -> Judged:
    """Return the tiles with logits divided by a temperature; see ``judged`` for what else they are."""
    if tiles.is_binary:
        return replace(tiles, odds=tiles.odds / temperature)
    logits = tiles.log_probabilities  # but for a constant of each tile
    return replace(tiles, odds=odds_of(logits / temperature))
