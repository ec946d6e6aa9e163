"""Patients drawn again and again: how far a score would lie elsewhere. Pure, and the same by seed.

Tiles of a patient are alike, so they are no independent witnesses: whole patients are drawn with replacement,
as many as there are, and keep all their tiles (cluster bootstrap; Field and Welsh, Bootstrapping clustered
data, 2007).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import comb
from typing import TypeAlias

import numpy as np
from scipy import special

from wsi_pipeline.randomness import generator
from wsi_pipeline.train.metrics import Floats

Key: TypeAlias = tuple[str, str]
"""Name of a score, and of the cut-off that it is at."""

Statistic: TypeAlias = Callable[[Floats], Mapping[Key, Floats]]
"""Weights of patients, ``(draws, patients)``, to every score of each draw, NaN where it cannot be said."""

LEVEL = 0.95
REPLICATES = 2000
FEW = 10
"""Patients below which the number of different draws is told."""

_AT_ONCE = 2**21  # weights of patients in memory: 16 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where the score of such patients lies, as far as these can say; both None where they cannot."""

    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Scores of all draws."""

    values: Mapping[Key, Floats] = field(repr=False)
    """``(draws,)`` each."""
    patients: int


def draws_of(patients: int, replicates: int, *, seed: int) -> Iterator[Floats]:
    """Yield how often each patient is drawn, ``(some draws, patients)``, until there are enough draws.

    They depend on the arguments alone.
    """
    random = generator(seed, "bootstrap", patients)
    block = max(1, _AT_ONCE // max(patients, 1))
    for start in range(0, replicates, block):
        count = min(block, replicates - start)
        drawn = random.integers(0, patients, (count, patients))
        drawn += np.arange(count)[:, None] * patients
        times = np.bincount(drawn.ravel(), minlength=count * patients)
        yield times.reshape(count, patients).astype(np.float64)


def replicated(
    statistic: Statistic, *, patients: int, replicates: int = REPLICATES, seed: int = 0
) -> Replicates:
    """Return the scores of so many draws of patients."""
    blocks = [statistic(draws) for draws in draws_of(patients, replicates, seed=seed)]
    names = blocks[0] if blocks else {}
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in names}
    return Replicates(values=joined, patients=patients)


def interval_of(
    values: Floats, patients: int, *, effective: float | None = None, level: float = LEVEL
) -> Interval:
    """Return the interval of a score by its draws.

    The percentile interval is too short for few patients: draws of n patients vary as if the variance were
    over n, not n - 1, and a normal quantile stands where Student's t belongs. Both are made good by reading
    the percentiles further out, at the normal probability of ``-sqrt(n / (n - 1)) t`` (Hesterberg, What
    teachers should know about the bootstrap, 2015), where n is the effective number of patients.
    docs/concepts/statistics.md says what was measured.

    Parameters
    ----------
    values
        Of the draws, ``(draws,)``; those that are NaN are left out, and counted in the note.
    patients
        How many were drawn from.
    effective
        What they count for, see ``effective_patients``; all of them by default.
    level
        Probability that the interval is to hold the truth with.
    """
    if patients < 2:
        return Interval(low=None, high=None, note="1 patient: no interval")
    known = values[~np.isnan(values)]
    lost = len(values) - len(known)
    if 2 * len(known) < len(values):
        note = f"no interval: {lost} of {len(values)} resamples lack what it counts"
        return Interval(low=None, high=None, note=note)
    tail = tail_of(patients if effective is None else effective, level=level)
    low, high = np.quantile(known, [tail, 1 - tail])
    notes = [few(patients)] if few(patients) else []
    if lost:
        notes.append(f"{lost} of {len(values)} resamples lack what it counts, and are left out")
    return Interval(low=float(low), high=float(high), note="; ".join(notes))


def tail_of(patients: float, *, level: float) -> float:
    """Return the share of draws that lie beyond either end; fewer than two patients count as two."""
    n = max(patients, 2.0)
    return float(special.ndtr(special.stdtrit(n - 1, (1 - level) / 2) * np.sqrt(n / (n - 1))))


def effective_patients(weights: Floats) -> float:
    """Return how many patients of equal weight vary as much as these (Kish, Survey Sampling, 1965).

    >>> effective_patients(np.array([5.0, 5.0, 5.0]))
    3.0
    >>> round(effective_patients(np.array([98.0, 1.0, 1.0])), 3)
    1.041
    """
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))


def few(patients: int) -> str:
    """Return what is to be said of very few patients, or nothing.

    >>> few(5)
    '5 patients: only 126 distinct resamples'
    """
    if patients >= FEW:
        return ""
    return f"{patients} patients: only {comb(2 * patients - 1, patients)} distinct resamples"
