"""Two reasons why a score scatters: the seed of the training, and who the patients are.

The repeats of a training judge the same patients. A draw takes repeats with replacement and patients with
replacement, the same patients for all of its repeats: were each repeat given patients of its own, what all
repeats get wrong of a patient would average out as if it were chance (Owen, The pigeonhole bootstrap, 2007).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.bootstrap import (
    LEVEL,
    REPLICATES,
    Interval,
    Key,
    interval_of,
    replicated,
)
from wsi_pipeline.evaluate.holders import holders, holders_of
from wsi_pipeline.evaluate.measures import Measure, statistic_of, values_of
from wsi_pipeline.evaluate.paired import aligned
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.scores import units_of
from wsi_pipeline.randomness import generator
from wsi_pipeline.train.metrics import Floats


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
    if not repeats:
        raise ConfigError("repeats: expected predictions of one or more, got none")
    whole = [aligned(repeats[0], each)[1] for each in repeats]
    classes = repeats[0].classes
    name = "0.5" if len(classes) == 2 else "none"
    measure = Measure(unit="tile", aggregate=None, cutoffs={name: 0.0 if name == "0.5" else None})
    units = [units_of(each) for each in whole]
    once = np.zeros(len(units[0].slides), np.int64)
    values = [values_of(each, measure, once, groups=1) for each in units]
    drawn = []
    for each in units:
        statistic, patients = statistic_of(each, measure, draws=replicates)
        drawn.append(
            replicated(statistic, patients=patients, replicates=replicates, seed=seed).values
        )
    held = holders(units[0])
    picked = generator(seed, "repeats").integers(0, len(units), (replicates, len(units)))

    def one(key: Key) -> Repeated:
        found = np.array([each[key][0] for each in values])
        both = np.stack([each[key] for each in drawn])
        of = holders_of(held, key[0], classes)
        interval = nested_interval(
            found, both, picked, patients=len(held), effective=of.effective, level=level
        )
        spread = float(found.std(ddof=1)) if len(found) > 1 else None
        return Repeated(
            values=tuple(found.tolist()), mean=float(found.mean()), spread=spread, interval=interval
        )

    return {
        key: one(key) for key in values[0] if not any(np.isnan(each[key][0]) for each in values)
    }


def nested_interval(
    values: Floats,
    drawn: Floats,
    picked: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]",
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
    of_patients = float(np.nanvar(drawn.mean(axis=0)))
    of_seeds = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    n = max(effective, 2.0)
    least = of_patients**2 / (n - 1) + of_seeds**2 / max(len(values) - 1, 1)
    freedom = (of_patients + of_seeds) ** 2 / least if least > 0 else n - 1
    found = interval_of(means, patients, effective=freedom + 1, level=level)
    few = f"{len(values)} repeats" if len(values) > 1 else "1 repeat: seeds are not drawn"
    return Interval(
        low=found.low, high=found.high, note="; ".join(each for each in (few, found.note) if each)
    )
