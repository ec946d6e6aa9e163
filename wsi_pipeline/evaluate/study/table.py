"""Scores of all repeats of a study as one table: spread over seeds, and each arm beside the reference. Pure.

>>> rows = [Measured(experiment="e", tiles="test", arm=arm, model=f"{arm}-{seed}", seed=seed,
...                  scores={"auroc": value + seed / 100})
...         for arm, value in (("plain", 0.7), ("sd", 0.75)) for seed in range(3)]
>>> plain, sd = summaries(rows, reference="plain")
>>> f"{sd.mean:.2f}", f"{sd.against.mean:.2f}", sd.against.least_p
('0.76', '0.05', 0.25)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from scipy import stats

from wsi_pipeline.evaluate.score.bootstrap import LEVEL, Interval
from wsi_pipeline.evaluate.score.paired import paired
from wsi_pipeline.evaluate.study.columns import STUDY_COLUMNS, STUDY_SCORE_COLUMNS
from wsi_pipeline.evaluate.study.config import SCORES, Paper
from wsi_pipeline.tables import table_of_rows

Cell: TypeAlias = tuple[str, str, str]
"""Experiment, tiles and arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """Intervals of one arm on some tiles, by score, over seeds and patients together."""

    means: Mapping[str, Interval] = field(repr=False, default_factory=dict)
    differences: Mapping[str, Interval] = field(repr=False, default_factory=dict)
    """From the reference; of the seeds that both have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one network is worth on some tiles."""

    experiment: str
    tiles: str
    arm: str
    model: str
    seed: int
    scores: Mapping[str, float | None] = field(repr=False)
    """None where a score cannot be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Numbers of several repeats: how they lie, and where their mean may be."""

    count: int
    mean: float
    std: float | None
    """With n - 1; None of one number, as the ends are."""
    low: float | None
    high: float | None
    """Of Student's t with n - 1 degrees of freedom, 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """An arm less the reference, seed by seed; tests as ``score.paired`` has them."""

    pairs: int
    mean: float
    low: float | None
    high: float | None
    """95 % interval of the mean difference, Student's t; None of one pair."""
    p: float | None
    """Of the paired t test, two-sided; None where all differences are the same or there is one."""
    p_signs: float | None
    """Of the test that tries every pattern of signs."""
    least_p: float
    """Below which the latter cannot come with so many pairs."""
    nested: Interval | None = None
    """Over seeds and patients together; None of scores that are not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One score of one arm on some tiles."""

    experiment: str
    tiles: str
    arm: str
    score: str
    spread: Spread
    against: Against | None
    """None of the reference itself, or where no seed is common to both."""
    nested: Interval | None = None
    """Of the mean over seeds and patients together; None of scores that are not drawn."""
    paper: tuple[float, float | None] | None
    """Mean and standard deviation that the paper gives."""

    @property
    def mean(self) -> float:
        """Over repeats."""
        return self.spread.mean


def spread_of(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation and interval of numbers that were drawn alike.

    >>> spread_of([1.0, 2.0, 3.0]).std
    1.0

    Raises
    ------
    ValueError
        There is no number.
    """
    if not values:
        raise ValueError("values: expected at least one, got none")
    numbers = np.asarray(values, np.float64)
    mean, count = float(numbers.mean()), len(numbers)
    if count == 1:
        return Spread(count=1, mean=mean, std=None, low=None, high=None)
    std = float(numbers.std(ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * std / count**0.5
    return Spread(count=count, mean=mean, std=std, low=mean - half, high=mean + half)


def against(ours: Mapping[int, float], reference: Mapping[int, float]) -> Against | None:
    """Return the differences of the seeds that both have; None if there is none.

    Repeats of one seed share order and random changes of their tiles, so that differences scatter less.

    Parameters
    ----------
    ours, reference
        Score by seed.
    """
    both = sorted(ours.keys() & reference.keys())
    if not both:
        return None
    first, second = ([scores[seed] for seed in both] for scores in (ours, reference))
    if len(both) == 1:
        return Against(
            pairs=1,
            mean=first[0] - second[0],
            low=None,
            high=None,
            p=None,
            p_signs=None,
            least_p=1.0,
        )
    found = paired(first, second)
    return Against(
        pairs=found.pairs,
        mean=found.mean,
        low=found.interval.low,
        high=found.interval.high,
        p=found.t.p,
        p_signs=found.sign_flip.p,
        least_p=found.sign_flip.least,
    )


def summaries(
    measured: Sequence[Measured],
    *,
    reference: str,
    papers: Mapping[str, Paper] | None = None,
    nested: Mapping[Cell, Nested] | None = None,
) -> tuple[Summary, ...]:
    """Return every score of every arm over its repeats, in order of the first row of each.

    Parameters
    ----------
    measured
        A row for each network and tiles.
    reference
        Arm that the others are compared with.
    papers
        Numbers of the paper by experiment; they belong to its first tiles.
    nested
        Intervals over seeds and patients, as far as they are known.
    """
    cells: dict[tuple[str, str, str], dict[int, Mapping[str, float | None]]] = {}
    first: dict[str, str] = {}
    for row in measured:
        first.setdefault(row.experiment, row.tiles)
        cells.setdefault((row.experiment, row.tiles, row.arm), {})[row.seed] = row.scores
    found = []
    for (experiment, tiles, arm), by_seed in cells.items():
        others = {} if arm == reference else cells.get((experiment, tiles, reference), {})
        given = (papers or {}).get(experiment, {}) if first[experiment] == tiles else {}
        drawn = (nested or {}).get((experiment, tiles, arm), Nested())
        for score in _scores(by_seed):
            values, other = _of(by_seed, score), _of(others, score)
            apart = against(values, other)
            found.append(
                Summary(
                    experiment=experiment,
                    tiles=tiles,
                    arm=arm,
                    score=score,
                    spread=spread_of(list(values.values())),
                    against=apart and replace(apart, nested=drawn.differences.get(score)),
                    nested=drawn.means.get(score),
                    paper=given.get(arm, {}).get(score),
                )
            )
    return tuple(found)


def _scores(by_seed: Mapping[int, Mapping[str, float | None]]) -> list[str]:
    """Return the scores that a repeat has, those of ``SCORES`` first and in their order."""
    there = dict.fromkeys(
        name for each in by_seed.values() for name, value in each.items() if value is not None
    )
    return [*(name for name in SCORES if name in there), *(n for n in there if n not in SCORES)]


def _of(by_seed: Mapping[int, Mapping[str, float | None]], score: str) -> dict[int, float]:
    known = {seed: each.get(score) for seed, each in sorted(by_seed.items())}
    return {seed: value for seed, value in known.items() if value is not None}


def summary_table(found: Sequence[Summary]) -> pa.Table:
    """Return summaries as table2.parquet holds them."""
    return table_of_rows(STUDY_COLUMNS, [_row(each) for each in found])


def measured_table(measured: Sequence[Measured]) -> pa.Table:
    """Return one row for each network, tiles and score."""
    return table_of_rows(STUDY_SCORE_COLUMNS, list(_long(measured)))


def _long(measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    for row in measured:
        about = {
            name: getattr(row, name) for name in ("experiment", "tiles", "arm", "model", "seed")
        }
        for score, value in row.scores.items():
            yield {**about, "score": score, "value": value}


def _row(each: Summary) -> dict[str, Any]:
    mean, std = each.paper or (None, None)
    row: dict[str, Any] = {
        name: getattr(each, name) for name in ("experiment", "tiles", "arm", "score")
    }
    row |= {"repeats": each.spread.count, "mean": each.mean, "std": each.spread.std}
    row |= {"low": each.spread.low, "high": each.spread.high}
    row |= {"paper_mean": mean, "paper_std": std, **_ends("nested", each.nested)}
    other = each.against
    if other is not None:
        row |= {"pairs": other.pairs, "difference": other.mean}
        row |= {"difference_low": other.low, "difference_high": other.high}
        row |= _ends("difference_nested", other.nested)
        row |= {"p": other.p, "p_signs": other.p_signs, "least_p": other.least_p}
    return row


def _ends(name: str, found: Interval | None) -> dict[str, Any]:
    return {} if found is None else {f"{name}_low": found.low, f"{name}_high": found.high}
