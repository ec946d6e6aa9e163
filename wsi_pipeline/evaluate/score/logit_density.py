"""How logits of each class of each part are spread: curves along them, or cells in their plane. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.train.metrics import Floats, Judged
from wsi_pipeline.train.weighted import mean_and_std, quantiles

GRID_POINTS = 240
_TAILS = (0.0005, 0.9995)  # of the weight: beyond them a curve is on its axis
_FAR_OUT = 3.0  # interquartile ranges beyond the quartiles (Tukey, Exploratory Data Analysis, 1977)
_BANDWIDTHS = 3.0  # beyond the tails: a Gaussian's mass there is 0.1 %
_LEAST_BANDWIDTH = 0.5  # points of the grid: of a class whose logits are all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """How the margins of one class's tiles of one part are spread."""

    name: str
    part: str
    values: Floats = field(repr=False)
    """Per logit, ``(240,)``."""
    mean: float
    beyond: float
    """Share of the tiles that lie beyond the places."""


def densities(parts: Mapping[str, Judged]) -> tuple[Floats, tuple[Density, ...]]:
    """Return places along the logits, ``(240,)``, and the density of each class of each part there.

    Gaussian kernels, one bandwidth a curve: 0.9 min(standard deviation, interquartile range / 1.34) n^(-1/5)
    (Silverman), n the tiles that the weights are worth. The places reach from the 0.05 % to the 99.95 %
    quantile of every curve, but not far out (three interquartile ranges beyond its quartiles): a few logits
    of -1000 would leave no room for the others. What lies beyond is not drawn, and counted.

    Parameters
    ----------
    parts
        Name to its tiles; a class without tiles has no density.
    """
    held = [
        (tiles.classes[number], part, tiles.margins[own], tiles.weights[own])
        for number in range(max((len(each.classes) for each in parts.values()), default=0))
        for part, tiles in parts.items()
        if (own := tiles.targets == number).any()
    ]
    if not held:
        return np.zeros(0), ()
    widths = [_bandwidth(values, weights) for *_, values, weights in held]
    ends = [_ends(values, weights) for *_, values, weights in held]
    reach = _BANDWIDTHS * max(*widths, 1e-3)
    low, high = min(each[0] for each in ends) - reach, max(each[1] for each in ends) + reach
    grid = np.linspace(low, high, GRID_POINTS)
    return grid, tuple(
        Density(
            name=name,
            part=part,
            values=_smoothed(values, weights, grid, width),
            mean=float(np.average(values, weights=weights)),
            beyond=float(weights[(values < low) | (values > high)].sum() / weights.sum()),
        )
        for (name, part, values, weights), width in zip(held, widths, strict=True)
    )


def _ends(values: Floats, weights: Floats) -> tuple[float, float]:
    """Return between which values a class is drawn."""
    low, lower, upper, high = quantiles(values, weights, (_TAILS[0], 0.25, 0.75, _TAILS[1]))
    reach = _FAR_OUT * (upper - lower)
    if reach == 0:
        return low, high
    return max(low, lower - reach), min(high, upper + reach)


def _bandwidth(values: Floats, weights: Floats) -> float:
    _, std = mean_and_std(values, weights)
    lower, upper = quantiles(values, weights, (0.25, 0.75))
    spread = min(std, (upper - lower) / 1.34) or std
    worth = float(weights.sum() ** 2 / (weights**2).sum())
    return float(0.9 * spread * worth**-0.2)


def _smoothed(values: Floats, weights: Floats, grid: Floats, width: float) -> Floats:
    step = float(grid[1] - grid[0])
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    counts = np.histogram(values, bins=edges, weights=weights)[0].astype(np.float64)
    sigma = max(width / step, _LEAST_BANDWIDTH)
    smooth = gaussian_filter1d(counts, sigma, mode="constant", truncate=4.0)
    density: Floats = smooth / (weights.sum() * step)
    return density


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Where the tiles of one class of one part lie in the plane of both logits."""

    name: str
    part: str
    share: Floats = field(repr=False)
    """Of the tiles in each cell, ``(cells, cells)``: the first class's logit, then the second's."""
    mean: tuple[float, float]


def clouds(
    parts: Mapping[str, Predictions], *, cells: int = 32
) -> tuple[Floats, tuple[Cloud, ...]]:
    """Return edges along both logits, ``(cells + 1,)``, and each part's tiles of each class in the cells.

    Both axes have the same ends, so that the boundary, where both logits are equal, is the diagonal. Tiles
    beyond the ends, which are those of a density of all logits, are in the outermost cells.

    Parameters
    ----------
    parts
        Name to its tiles, with two logits each.
    cells
        Along each axis.

    Raises
    ------
    ValueError
        There are not two logits.
    """
    kept = {part: each.labelled() for part, each in parts.items()}
    if wrong := [part for part, each in kept.items() if each.logits.shape[1:] != (2,)]:
        raise ValueError(f"{', '.join(wrong)}: expected two logits of every tile")
    z = np.concatenate([each.logits.ravel() for each in kept.values()]).astype(np.float64)
    if not z.size:
        return np.zeros(0), ()
    low, high = _ends(z, np.ones(len(z)))
    edges = np.linspace(low, high if high > low else low + 1.0, cells + 1)
    found = [
        _cloud(each, number, part, edges)
        for number in range(2)
        for part, each in kept.items()
        if (each.targets == number).any()
    ]
    return edges, tuple(found)


def _cloud(predictions: Predictions, number: int, part: str, edges: Floats) -> Cloud:
    own = predictions.only(predictions.targets == number)
    z, weights = own.logits.astype(np.float64), own.weights.astype(np.float64)
    inside = np.clip(z, edges[0], edges[-1])
    counts = np.histogram2d(inside[:, 0], inside[:, 1], bins=(edges, edges), weights=weights)[0]
    mean = np.average(z, axis=0, weights=weights)
    return Cloud(
        name=predictions.classes[number],
        part=part,
        share=counts / weights.sum(),
        mean=(float(mean[0]), float(mean[1])),
    )
