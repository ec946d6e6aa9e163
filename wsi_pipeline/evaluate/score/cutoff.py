"""A cut-off that is chosen on validation tiles and then stands."""

import numpy as np

from wsi_pipeline.train.metrics import Floats, Ints, Judged


def best_cutoff(tiles: Judged) -> float | None:
    """Return the logit above which a tile is called positive, so that balanced accuracy is largest.

    That is where Youden's index J = recall + specificity - 1 is, for balanced accuracy is (J + 1) / 2. All
    cut-offs that part the tiles differently are tried, by counting once through the ordered tiles. It lies
    halfway between two neighbouring logits; of equally good ones it is the one nearest 0, a probability of
    0.5. A network that is worse than chance at every cut-off gets one that calls all tiles alike.

    Parameters
    ----------
    tiles
        Of two classes.

    Returns
    -------
    float or None
        None where a class has no tiles.

    >>> from wsi_pipeline.train.metrics import judged
    >>> best_cutoff(judged([-3.0, -2.0, -1.0, 2.0], [0, 0, 1, 1], [1, 1, 1, 1], classes=("no", "yes")))
    -1.5
    """
    values, at = np.unique(tiles.margins, return_inverse=True)
    positive = tiles.targets == 1
    ours, theirs = (
        np.bincount(at, tiles.weights * kind, len(values)) for kind in (positive, ~positive)
    )
    if not ours.any() or not theirs.any():
        return None
    recall = 1 - np.concatenate([[0.0], np.cumsum(ours)]) / ours.sum()
    specificity = np.concatenate([[0.0], np.cumsum(theirs)]) / theirs.sum()
    cutoffs = _between(values)
    index = recall + specificity
    best = np.flatnonzero(index >= index.max() - 1e-12)  # equal but for rounding
    return float(cutoffs[best[np.abs(cutoffs[best]).argmin()]])


def _between(values: Floats) -> Floats:
    """Return a number below all values, one between each two neighbours, and the largest value."""
    lower, upper = values[:-1], values[1:]
    halfway = np.minimum(lower + (upper - lower) / 2, np.nextafter(upper, -np.inf))
    return np.concatenate([[np.nextafter(values[0], -np.inf)], halfway, [values[-1]]])


def chosen_at(tiles: Judged, cutoff: float) -> Ints:
    """Return the class of each tile, ``(tiles,)``: 1 where the logit is above the cut-off."""
    return (tiles.margins > cutoff).astype(np.int64)
