"""Two reasons why a score scatters: the seed of the training, and who the patients are.

The repeats of a training judge the same patients. A draw takes repeats with replacement and patients with
replacement, the same patients for all of its repeats: were each repeat given patients of its own, what all
repeats get wrong of a patient would average out as if it were chance (Owen, The pigeonhole bootstrap, 2007).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import Predictions, in_order, tiles_digest
from wsi_pipeline.evaluate.score.aggregate import Units
from wsi_pipeline.evaluate.score.bootstrap import (
    LEVEL,
    REPLICATES,
    Interval,
    Key,
    interval_of,
    replicated,
)
from wsi_pipeline.evaluate.score.holders import holders, holders_of
from wsi_pipeline.evaluate.score.measures import statistic_of, tiles_at_half, values_of
from wsi_pipeline.evaluate.score.table import units_of
from wsi_pipeline.randomness import generator
from wsi_pipeline.train.metrics import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A score of all repeats of a training."""

    values: tuple[float, ...]
    """Of each repeat."""
    mean: float
    spread: float | None
    """Standard deviation over repeats, n - 1 below; None of one."""
    interval: Interval
    """Of the mean over whatever seeds and patients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one network is worth, and what it would be worth on other patients."""

    classes: tuple[str, ...]
    tiles: str
    """Digest of the tiles, their labels and their weights."""
    values: Mapping[Key, float]
    """Scores of tiles at 0.5, NaN where one cannot be said."""
    draws: Mapping[Key, Floats] = field(repr=False)
    """Of each draw of patients, ``(draws,)``: the same patients for whatever network of the same tiles."""
    patients: int
    effective: Mapping[Key, float]


def drawn_of(predictions: Predictions, *, replicates: int = REPLICATES, seed: int = 0) -> Drawn:
    """Return the scores of a network's tiles, and those of draws of their patients."""
    whole = in_order(predictions.labelled())
    tiles = tiles_digest(whole)
    return drawn_of_units(units_of(whole), tiles=tiles, replicates=replicates, seed=seed)


def drawn_of_units(
    units: Units, *, tiles: str, replicates: int = REPLICATES, seed: int = 0
) -> Drawn:
    """Return the same of tiles in order of slide and number; ``tiles`` is their digest."""
    classes = units.judged.classes
    measure = tiles_at_half(classes)
    once = np.zeros(len(units.slides), np.int64)
    values = values_of(units, measure, once, groups=1)
    statistic, patients = statistic_of(units, measure, draws=replicates)
    found = replicated(statistic, patients=patients, replicates=replicates, seed=seed)
    held = holders(units)
    return Drawn(
        classes=classes,
        tiles=tiles,
        values={key: float(each[0]) for key, each in values.items()},
        draws=found.values,
        patients=len(held),
        effective={key: holders_of(held, key[0], classes).effective for key in values},
    )


def repeated(
    repeats: Sequence[Predictions],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> Mapping[Key, Repeated]:
    """Return scores of tiles over repeats, at 0.5, by score and cut-off; those of some repeats are left out.

    Raises
    ------
    ConfigError
        There are none, or repeats are of other tiles.
    """
    drawn = [drawn_of(each, replicates=replicates, seed=seed) for each in repeats]
    return over_repeats(drawn, seed=seed, level=level)


def over_repeats(
    ours: Sequence[Drawn],
    reference: Sequence[Drawn] = (),
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> Mapping[Key, Repeated]:
    """Return the mean of every score over repeats, or by how much it differs from that of a reference.

    Parameters
    ----------
    ours
        A network for each seed.
    reference
        Those that are compared with, of the same seeds in the same order; none: nothing is compared.
    seed
        Of the draws of repeats.
    level
        As for ``interval_of``.

    Raises
    ------
    ConfigError
        There are none, or they are of other tiles.
    """
    check_alike([*ours, *reference])
    first = ours[0]
    others: list[Drawn | None] = [*reference] or [None] * len(ours)
    pairs = list(zip(ours, others, strict=True))
    draws = len(next(iter(first.draws.values())))
    picked = generator(seed, "repeats").integers(0, len(ours), (draws, len(ours)))

    def one(key: Key) -> Repeated:
        values = [a.values[key] - (b.values[key] if b else 0.0) for a, b in pairs]
        both = [a.draws[key] - (b.draws[key] if b else 0.0) for a, b in pairs]
        found = np.array(values)
        interval = nested_interval(
            found,
            np.stack(both),
            picked,
            patients=first.patients,
            effective=first.effective[key],
            level=level,
        )
        spread = float(found.std(ddof=1)) if len(found) > 1 else None
        mean = float(found.mean())
        return Repeated(values=tuple(values), mean=mean, spread=spread, interval=interval)

    known = [*ours, *reference]
    keys = [key for key in first.values if not any(np.isnan(each.values[key]) for each in known)]
    return {key: one(key) for key in keys}


def check_alike(known: Sequence[Drawn]) -> None:
    """Refuse networks that were asked of different tiles.

    Raises
    ------
    ConfigError
        They are of other tiles, labels or classes, or there are none.
    """
    if not known:
        raise ConfigError("repeats: expected predictions of one or more, got none")
    if len({(each.classes, each.tiles) for each in known}) > 1:
        raise ConfigError(
            "two networks can be compared on the same labelled tiles only; evaluate both on the same part, "
            "with the same condition"
        )


def by_score(found: Mapping[Key, Repeated], classes: Sequence[str]) -> dict[str, Interval]:
    """Return intervals by score, as rows of metrics call it; each is at one cut-off."""
    named = {score: each.interval for (score, _), each in found.items()}
    aliases = {"auroc": "auroc_macro"}
    if len(classes) == 2:
        aliases |= {f"recall_{classes[0]}": "specificity", f"recall_{classes[1]}": "recall"}
    return named | {name: named[other] for name, other in aliases.items() if other in named}


def nested_interval(
    values: Floats,
    drawn: Floats,
    picked: Ints,
    *,
    patients: int,
    effective: float,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of a mean over repeats.

    Percentiles are read as far out as the degrees of freedom of both reasons together ask for (Satterthwaite,
    1946): few repeats or few patients, whichever scatter more, make it wider.

    Parameters
    ----------
    values
        Of each repeat, ``(repeats,)``.
    drawn
        Of each repeat in each draw of patients, ``(repeats, draws)``.
    picked
        Repeats that are drawn, ``(draws, repeats)``.
    patients, effective, level
        As for ``interval_of``.
    """
    means = np.take_along_axis(drawn.T, picked, axis=1).mean(axis=1)
    of_draws = drawn.mean(axis=0)
    known = of_draws[~np.isnan(of_draws)]
    of_patients = float(known.var()) if known.size else 0.0
    of_seeds = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    n = max(effective, 2.0)
    least = of_patients**2 / (n - 1) + of_seeds**2 / max(len(values) - 1, 1)
    freedom = (of_patients + of_seeds) ** 2 / least if least > 0 else n - 1
    found = interval_of(means, patients, effective=freedom + 1, level=level)
    few = f"{len(values)} repeats" if len(values) > 1 else "1 repeat: seeds are not drawn"
    return Interval(
        low=found.low, high=found.high, note="; ".join(each for each in (few, found.note) if each)
    )
