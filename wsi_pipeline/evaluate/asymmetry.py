"""Which way a network errs: where logits lie on tiles that were learnt and on others. Pure, no torch.

Under class imbalance the tiles of the rare class that were not learnt have logits nearer to the boundary, or
beyond it, and those of the common class hardly move (Li, Kamnitsas and Glocker, Overfitting of neural nets
under class imbalance, MICCAI 2019). The shift of class c is mean(z | c) of the other tiles less that of tiles
that were trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from wsi_pipeline.evaluate.bootstrap import (
    LEVEL,
    REPLICATES,
    Interval,
    draws_of,
    effective_patients,
    interval_of,
)
from wsi_pipeline.evaluate.cutoff import chosen_at
from wsi_pipeline.evaluate.predictions import Groups, Predictions
from wsi_pipeline.evaluate.tally import confusions as counts_of
from wsi_pipeline.randomness import generator
from wsi_pipeline.train.metrics import (
    Calibration,
    Judged,
    bins_of,
    calibration,
    forecasts,
    quantiles,
)

Floats: TypeAlias = NDArray[np.float64]

GRID_POINTS = 240
_TAILS = (0.0005, 0.9995)  # of the weight: beyond them a curve is on its axis
_BANDWIDTHS = 3.0  # beyond the tails: a Gaussian's mass there is 0.1 %
_LEAST_BANDWIDTH = 0.5  # points of the grid: of a class whose logits are all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far the tiles of one class have moved, in logits."""

    name: str
    """The class that the tiles are of."""
    logit: str | None
    """Whose logit it is; None: the distance to the boundary, see ``Judged.margins``."""
    learnt: float | None
    """Mean of the tiles that were trained on; None without any."""
    other: float | None
    interval: Interval
    """Of the shift; without ends where either part has fewer than two patients with the class."""

    @property
    def shift(self) -> float | None:
        """The other mean less the learnt one."""
        known = self.learnt is not None and self.other is not None
        return self.other - self.learnt if known else None  # type: ignore[operator]


def shifts(
    learnt: Predictions,
    other: Predictions,
    *,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[Shift, ...]:
    """Return the shift of every class: of the margin, then of each logit where there are several.

    Patients of both parts are drawn independently, each with all its tiles; see ``bootstrap.interval_of``,
    where the fewer effective patients of the two count.

    Parameters
    ----------
    learnt
        Tiles that were trained on, looked at without augmentation; those of the probe.
    other
        Tiles of another part, by the same network.
    replicates, level, seed
        Of the intervals; at least one replicate.

    Raises
    ------
    ValueError
        The two have other classes or other logits.
    PipelineError
        A logit is no finite number.
    """
    if learnt.classes != other.classes or learnt.logits.ndim != other.logits.ndim:
        raise ValueError(f"expected logits of {learnt.classes} twice, got {other.classes}")
    both = {"learnt": _sums(learnt), "other": _sums(other)}
    means = [_share(*(each.sum(axis=0) for each in pair)) for pair in both.values()]
    drawn = [
        _drawn(*pair, replicates=replicates, seed=_seed_of(seed, part))
        for part, pair in both.items()
    ]
    moved = drawn[1] - drawn[0]  # (replicates, classes x columns)
    held = np.minimum(*((weights > 0).sum(axis=0) for _, weights in both.values()))
    worth = np.minimum(*(_effective(weights) for _, weights in both.values()))
    labels = [(name, logit) for name in learnt.classes for logit in _columns(learnt)]
    return tuple(
        Shift(
            name=name,
            logit=logit,
            learnt=_number(means[0][at]),
            other=_number(means[1][at]),
            interval=interval_of(moved[:, at], int(held[at]), effective=worth[at], level=level),
        )
        for at, (name, logit) in enumerate(labels)
    )


def _drawn(sums: Floats, weights: Floats, *, replicates: int, seed: int) -> Floats:
    """Return means over drawn patients, ``(replicates, columns)``; NaN where none with a weight is drawn."""
    if not len(sums):
        return np.full((replicates, sums.shape[1]), np.nan)
    blocks = draws_of(len(sums), replicates, seed=seed)
    return np.concatenate([_share(draws @ sums, draws @ weights) for draws in blocks])


def _effective(weights: Floats) -> Floats:
    """Return the effective number of patients of each column, ``(columns,)``."""
    return np.array([effective_patients(each) for each in weights.T])


def _seed_of(seed: int, *names: str) -> int:
    """Return a seed of its own for a part: the patients of two parts are drawn independently."""
    return int(generator(seed, "asymmetry", *names).integers(2**31))


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _columns(predictions: Predictions) -> tuple[str | None, ...]:
    """Return whose logits there are, None for the margin, which comes first."""
    return (None,) if predictions.logits.ndim == 1 else (None, *predictions.classes)


def _sums(predictions: Predictions) -> tuple[Floats, Floats]:
    """Return sums of margins and logits and of weights by patient, ``(patients, classes x columns)`` each."""
    kept = predictions.labelled()
    tiles = kept.judged()
    patients = kept.groups("patient_id")
    raw = np.asarray(kept.logits, np.float64)
    values = np.column_stack([tiles.margins, raw] if raw.ndim > 1 else [tiles.margins])
    shape = (len(patients.names), len(tiles.classes))
    cells = patients.codes * shape[1] + tiles.targets
    weights = _counted(cells, tiles.weights, shape)
    sums = [_counted(cells, tiles.weights * each, shape) for each in values.T]
    flat = np.stack(sums, axis=2).reshape(shape[0], shape[1] * values.shape[1])
    return flat, np.repeat(weights, values.shape[1], axis=1)


def _counted(cells: NDArray[np.int64], values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the sum of the values in each cell, given by its place among all."""
    counted = np.bincount(cells, values, int(np.prod(shape))).astype(np.float64)
    return counted.reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """How the margins of one class's tiles of one part are spread."""

    name: str
    part: str
    values: Floats = field(repr=False)
    """Per logit, ``(240,)``."""
    mean: float


def densities(parts: Mapping[str, Judged]) -> tuple[Floats, tuple[Density, ...]]:
    """Return places along the logits, ``(240,)``, and the density of each class of each part there.

    Gaussian kernels, one bandwidth a curve: 0.9 min(standard deviation, interquartile range / 1.34) n^(-1/5)
    (Silverman), n the tiles that the weights are worth. The places reach from the 0.05 % to the 99.95 %
    quantile; what lies beyond is not drawn.

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
    ends = [quantiles(values, weights, _TAILS) for *_, values, weights in held]
    reach = _BANDWIDTHS * max(*widths, 1e-3)
    low, high = min(each[0] for each in ends) - reach, max(each[1] for each in ends) + reach
    grid = np.linspace(low, high, GRID_POINTS)
    return grid, tuple(
        Density(
            name=name,
            part=part,
            values=_smoothed(values, weights, grid, width),
            mean=float(np.average(values, weights=weights)),
        )
        for (name, part, values, weights), width in zip(held, widths, strict=True)
    )


def _bandwidth(values: Floats, weights: Floats) -> float:
    mean = np.average(values, weights=weights)
    std = float(np.average((values - mean) ** 2, weights=weights)) ** 0.5
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
    beyond the 0.05 % and 99.95 % quantiles of all logits are in the outermost cells.

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
    low, high = np.quantile(z, _TAILS)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBand:
    """How often what is said comes true, and how far that depends on who the patients are."""

    bins: Calibration
    low: Floats
    """Of the share in each bin, ``(15,)``; NaN where fewer than two patients are in it."""
    high: Floats


def calibration_band(
    predictions: Predictions, *, replicates: int = REPLICATES, level: float = LEVEL, seed: int = 0
) -> CalibrationBand:
    """Return calibration with intervals over resampled patients; see ``metrics.calibration``.

    Raises
    ------
    PipelineError
        A logit is no finite number.
    """
    kept = predictions.labelled()
    tiles = kept.judged()
    bins = calibration(tiles)
    patients = kept.groups("patient_id")
    forecast, true = forecasts(tiles)
    shape = (len(patients.names), len(bins.weight))
    cells = patients.codes * shape[1] + bins_of(forecast)
    came = _counted(cells, tiles.weights * true, shape)
    weight = _counted(cells, tiles.weights, shape)
    drawn = _drawn(came, weight, replicates=replicates, seed=_seed_of(seed, "calibration"))
    held = (weight > 0).sum(axis=0)
    worth = _effective(weight)
    found = [
        interval_of(drawn[:, at], int(there), effective=worth[at], level=level)
        for at, there in enumerate(held)
    ]
    low, high = (np.array([getattr(each, end) for each in found], float) for end in ("low", "high"))
    return CalibrationBand(bins=bins, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """What was said of the tiles of each class."""

    group: str
    counts: Floats
    """Weight of the tiles of a class (row) that were said to be of one (column), ``(classes, classes)``."""

    @property
    def shares(self) -> Floats:
        """The same as shares of each row; NaN of a class without tiles."""
        with np.errstate(invalid="ignore"):
            shares: Floats = self.counts / self.counts.sum(axis=1, keepdims=True)
        return shares


def confusions(
    predictions: Predictions, *, by: str | None = None, cutoff: float | None = None
) -> tuple[Confusion, ...]:
    """Return the confusion of each group in order of its name, or of all tiles.

    Parameters
    ----------
    by
        A column such as ``scanner``; without it all tiles are one group, ``all``.
    cutoff
        Of two classes: a tile is said to be of the second where its logit is above this, as
        ``best_cutoff`` gives it. Without it the likeliest class is said.

    Raises
    ------
    ConfigError
        There is no such column.
    PipelineError
        A logit is no finite number.
    """
    kept = predictions.labelled()
    tiles = kept.judged()
    said = tiles.chosen if cutoff is None else chosen_at(tiles, cutoff)
    alone = Groups(names=("all",), codes=np.zeros(len(said), np.int64))
    groups = alone if by is None else kept.groups(by)
    counts = counts_of(tiles, said, groups.codes, groups=len(groups.names))
    return tuple(
        Confusion(group=name, counts=each) for name, each in zip(groups.names, counts, strict=True)
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
