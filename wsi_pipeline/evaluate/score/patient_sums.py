"""Means of tiles in cells, such as classes or bins, over patients who are drawn again. Pure, no torch.

Sums and weights are kept by patient, so that a draw of patients is one product of matrices.
"""

import numpy as np

from wsi_pipeline.evaluate.score.bootstrap import draws_of, effective_patients
from wsi_pipeline.randomness import generator
from wsi_pipeline.train.metrics import Floats, Ints
from wsi_pipeline.train.weighted import shares


def summed_in_cells(cells: Ints, values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the sum of the values in each cell, of such a shape.

    Parameters
    ----------
    cells
        Place of each tile's cell among all of them, ``(tiles,)``.
    """
    sums = np.bincount(cells, values, int(np.prod(shape))).astype(np.float64)
    return sums.reshape(shape)


def drawn_means(sums: Floats, weights: Floats, *, replicates: int, seed: int) -> Floats:
    """Return means over drawn patients, ``(replicates, cells)``; NaN where none with a weight is drawn.

    Parameters
    ----------
    sums, weights
        Of each patient's tiles, ``(patients, cells)``.
    replicates
        How often as many patients are drawn, at least once.
    """
    if not len(sums):
        return np.full((replicates, sums.shape[1]), np.nan)
    blocks = draws_of(len(sums), replicates, seed=seed)
    return np.concatenate([shares(draws @ sums, draws @ weights) for draws in blocks])


def effective_of_each(weights: Floats) -> Floats:
    """Return the effective number of patients of each cell, ``(cells,)``, of their weights."""
    return np.array([effective_patients(each) for each in weights.T])


def seed_of(seed: int, part: str) -> int:
    """Return a seed of its own for a part: the patients of two parts are drawn independently."""
    return int(generator(seed, "asymmetry", part).integers(2**31))
