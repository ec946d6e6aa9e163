"""How one number of all tiles is spread in each scanner, centre or other group, and how far groups are apart.

The paper's Figure 2 is this, of ``laplacian_var`` and scanners. Pure: arrays in, arrays out.

>>> import numpy as np
>>> values = np.array([1, 2, 3, 100, 200, 300], dtype=np.float32)
>>> found = densities(values, ["a", "a", "a", "b", "b", "b"], log=True)
>>> [f"{pair.first}-{pair.second}: KS {pair.ks:.0f}" for pair in found.pairs]
['a-b: KS 1']
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats: TypeAlias = NDArray[np.float64]

GRID_POINTS = 1024

HARDLY_OVERLAP = 0.2
"""Overlap coefficient below which hardly any value of one group occurs in the other."""

_TAILS = 4.0  # bandwidths beyond the outermost value: a Gaussian's mass there is 3e-5
_SAME_SHARE = 1e-3  # half width of a group whose values are all the same, as a share of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The values of one group, in their own unit."""

    name: str
    count: int
    """Values looked at."""
    left_out: int
    """Missing values, and on a logarithmic axis those that are not above 0."""
    q25: float
    median: float
    q75: float
    """Quartiles; NaN where there is no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """How far two groups are apart."""

    first: str
    second: str
    overlap: float
    """Integral of the smaller of the two densities: 1 where they are the same, 0 where they do not meet."""
    ks: float
    """Two-sample Kolmogorov-Smirnov statistic: largest distance of the distribution functions, 0 to 1."""
    wasserstein: float
    """Mean way that values would have to move, in units of the axis: decades where it is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Densities:
    """One density per group on a common axis, and what tells every two groups apart."""

    log: bool
    """The axis is the base-10 logarithm of the values."""
    grid: Floats = field(repr=False)
    """``(1024,)`` places in the values' own unit, evenly spaced on the axis."""
    by_group: Mapping[str, Floats] = field(repr=False)
    """Density at every place per unit of the axis (per decade where it is logarithmic); groups without
    values have none."""
    groups: tuple[Group, ...]
    """In order of name."""
    pairs: tuple[Pair, ...]
    """Every two groups that have values, in order of name."""

    def far_apart(self, *, limit: float = HARDLY_OVERLAP) -> tuple[Pair, ...]:
        """Return the pairs whose densities overlap by less than ``limit``, 0 to 1."""
        return tuple(pair for pair in self.pairs if pair.overlap < limit)


def densities(
    values: NDArray[Any], groups: Sequence[str] | pd.Categorical, *, log: bool
) -> Densities:
    """Return Gaussian kernel densities per group and the distances between every two groups.

    Bandwidths are Silverman's, one per group: 0.9 min(standard deviation, interquartile range / 1.34)
    n^(-1/5). The distances are of the values themselves, not of the smoothed densities; only the overlap
    is of the densities.

    Parameters
    ----------
    values
        ``(count,)``, any unit; NaN is left out.
    groups
        Group of every value; a value without one (None) is in none. A ``pandas.Categorical`` is quickest.
    log
        Whether the axis is logarithmic; values that are not above 0 are then left out.

    Raises
    ------
    ValueError
        There are not as many groups as values.
    """
    names = groups if isinstance(groups, pd.Categorical) else pd.Categorical(list(groups))
    if len(names) != len(values):
        raise ValueError(f"groups: expected one for each of {len(values)} values, got {len(names)}")
    on_axis = _on_axis(values, log=log)
    split = {
        str(name): np.sort(on_axis[np.asarray(names.codes) == code])
        for code, name in enumerate(names.categories)
    }
    described = tuple(_group(name, split[name], log=log) for name in sorted(split))
    usable = {group.name: split[group.name][: group.count] for group in described if group.count}
    axis, by_group = _densities(usable)
    pairs = tuple(
        _pair(first, second, usable=usable, by_group=by_group, step=float(axis[1] - axis[0]))
        for first, second in combinations(usable, 2)
    )
    grid = 10.0**axis if log else axis
    return Densities(log=log, grid=grid, by_group=by_group, groups=described, pairs=pairs)


def distances(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov statistic and the Wasserstein distance of two sorted samples, both exact.

    Each sample is ``(count,)`` with at least one value, sorted upwards, without NaN.
    """
    together = np.sort(np.concatenate((first, second)), kind="stable")
    steps = [np.searchsorted(each, together, side="right") / len(each) for each in (first, second)]
    apart = np.abs(steps[0] - steps[1])
    return float(apart.max()), float(apart[:-1] @ np.diff(together))


def _on_axis(values: NDArray[Any], *, log: bool) -> Floats:
    """Return the values on the axis; NaN where they have no place on it."""
    plain = np.asarray(values, dtype=np.float64)
    if not log:
        return np.where(np.isfinite(plain), plain, np.nan)
    above = np.isfinite(plain) & (plain > 0)
    return np.log10(plain, out=np.full_like(plain, np.nan), where=above)


def _group(name: str, ordered: Floats, *, log: bool) -> Group:
    """Return what a group is like; ``ordered`` is on the axis, NaN at the end."""
    count = int(np.count_nonzero(~np.isnan(ordered)))
    quartiles = np.percentile(ordered[:count], (25, 50, 75)) if count else np.full(3, np.nan)
    q25, median, q75 = (10.0**quartiles if log else quartiles).tolist()
    return Group(
        name=name, count=count, left_out=len(ordered) - count, q25=q25, median=median, q75=q75
    )


def _densities(usable: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
    """Return the axis and a density for each group of sorted values on it."""
    if not usable:
        return np.linspace(0.0, 1.0, GRID_POINTS), {}
    low = min(float(ordered[0]) for ordered in usable.values())
    high = max(float(ordered[-1]) for ordered in usable.values())
    same = max(abs(low), abs(high), 1.0) * _SAME_SHARE if high - low < 1e-9 else 0.0
    bandwidths = {name: max(_bandwidth(ordered), same) for name, ordered in usable.items()}
    # No kernel is narrower than two steps of the axis: its density would fall between them.
    least = 2 * (high - low + 2 * _TAILS * max(bandwidths.values())) / (GRID_POINTS - 17)
    margin = _TAILS * max(*bandwidths.values(), least)
    axis = np.linspace(low - margin, high + margin, GRID_POINTS)
    found = {
        name: _density(ordered, axis, bandwidth=max(bandwidths[name], least))
        for name, ordered in usable.items()
    }
    return axis, found


def _bandwidth(ordered: Floats) -> float:
    q25, q75 = np.percentile(ordered, (25, 75))
    spreads = [spread for spread in (float(ordered.std()), float(q75 - q25) / 1.34) if spread > 0]
    return float(0.9 * min(spreads, default=0.0) * len(ordered) ** -0.2)


def _density(ordered: Floats, axis: Floats, *, bandwidth: float) -> Floats:
    """Return the density by sharing every value between its two neighbours on the axis, then smoothing.

    That is linear in the values, and off by less than a thousandth of the peak with two steps a bandwidth.
    """
    step = float(axis[1] - axis[0])
    places = (ordered - axis[0]) / step
    left = np.floor(places).astype(np.intp)
    share = places - left
    counts = np.bincount(left, 1 - share, len(axis)) + np.bincount(left + 1, share, len(axis))
    smooth = gaussian_filter1d(counts, bandwidth / step, mode="constant", truncate=_TAILS)
    return np.asarray(smooth / (len(ordered) * step), dtype=np.float64)


def _pair(
    first: str,
    second: str,
    *,
    usable: Mapping[str, Floats],
    by_group: Mapping[str, Floats],
    step: float,
) -> Pair:
    ks, wasserstein = distances(usable[first], usable[second])
    overlap = float(np.minimum(by_group[first], by_group[second]).sum() * step)
    return Pair(
        first=first, second=second, overlap=min(overlap, 1.0), ks=ks, wasserstein=wasserstein
    )
