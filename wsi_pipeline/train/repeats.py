"""The same training with several seeds: what they are called, and how far their scores are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SCORES = ("loss", "log_loss", "accuracy", "balanced_accuracy", "auroc", "brier", "ece")
"""Columns of metrics.parquet of which mean and spread are said; the recall of each class follows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One of several trainings that differ in nothing but their seed."""

    name: str
    """Of its model, which is one like any other and can be trained alone, on another node."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A score over repeats."""

    score: str
    mean: float
    std: float | None
    """With n - 1, as papers give it; None of one repeat."""
    repeats: int
    """That have the score."""


def repeats_of(name: str, count: int, *, first_seed: int = 0) -> tuple[Repeat, ...]:
    """Return names and seeds.

    >>> [(each.name, each.seed) for each in repeats_of("sd", 3)]
    [('sd-0', 0), ('sd-1', 1), ('sd-2', 2)]
    """
    return tuple(
        Repeat(name=f"{name}-{seed}", seed=seed) for seed in range(first_seed, first_seed + count)
    )


def spreads_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Spread, ...]:
    """Return mean and spread of every score of the repeats' rows of one part; None is left out.

    Parameters
    ----------
    rows
        Of metrics.parquet, a repeat each.
    """
    recalls = sorted({name for row in rows for name in row if name.startswith("recall_")})
    found = []
    for score in (*SCORES, *recalls):
        known = [float(row[score]) for row in rows if row.get(score) is not None]
        if known:
            std = float(np.std(known, ddof=1)) if len(known) > 1 else None
            mean = float(np.mean(known))
            found.append(Spread(score=score, mean=mean, std=std, repeats=len(known)))
    return tuple(found)
