"""Scores of tiles, slides or patients at stated cut-offs, as they are and in every draw of patients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.evaluate.score.aggregate import (
    AGGREGATES,
    OF_MANY_CLASSES,
    Aggregate,
    Units,
    by_patient,
    by_slide,
)
from wsi_pipeline.evaluate.score.bootstrap import Key, Statistic
from wsi_pipeline.evaluate.score.calibrate import Temperature, fit_temperature, tempered
from wsi_pipeline.evaluate.score.cutoff import best_cutoff, chosen_at
from wsi_pipeline.evaluate.score.ranking import Area, precision_area, ranked, roc_area
from wsi_pipeline.evaluate.score.tally import (
    confusion_counts,
    count_scores,
    counted,
    loss_scores,
    losses,
    prevalences,
)
from wsi_pipeline.train.metrics import Floats, Ints, Judged, area_under_roc, average_precision

AFTER = "_after_temperature"
VALIDATION = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is scored, and with which numbers that validation tiles have settled."""

    unit: str
    """tile, slide or patient."""
    aggregate: Aggregate | None
    """How tiles become slides and patients."""
    cutoffs: Mapping[str, float | None]
    """By name as logits; None: the likeliest class."""
    tile_cutoff: float | None = None
    """Logit above which a tile counts for the aggregate ``share``; None: its likeliest class."""
    ranks_at: str = "none"
    """Cut-off in the keys of scores that need none: that of the tiles for ``share``, which depends on it."""
    temperature: Temperature | None = None

    @property
    def is_probability(self) -> bool:
        """Whether log loss and calibration can be asked of the number; a share of tiles is none."""
        return self.aggregate != "share"

    def of(self, tiles: Units) -> Units:
        """Return the units of tiles; see ``aggregate``."""
        if self.aggregate is None:
            return tiles
        chosen = None if self.tile_cutoff is None else chosen_at(tiles.judged, self.tile_cutoff)
        slides = by_slide(tiles, self.aggregate, chosen=chosen)
        return slides if self.unit == "slide" else by_patient(slides, self.aggregate)


def measures_of(classes: tuple[str, ...], validation: Units | None) -> Iterator[Measure]:
    """Yield what is scored of such classes; without validation tiles at 0.5 alone, and no temperature."""
    two = len(classes) == 2
    tiles = _with_cutoffs(Measure(unit="tile", aggregate=None, cutoffs={}), validation, two=two)
    temperature = None if validation is None else fit_temperature(validation.judged)
    yield replace(tiles, temperature=temperature)
    for unit in ("slide", "patient"):
        for how in AGGREGATES if two else OF_MANY_CLASSES:
            if how == "share" and two:
                yield from _shares(unit, tiles.cutoffs, validation)
            else:
                plain = Measure(unit=unit, aggregate=how, cutoffs={})
                yield _with_cutoffs(plain, validation, two=two)


def tiles_at_half(classes: tuple[str, ...]) -> Measure:
    """Return scores of tiles at 0.5, of more than two classes by the likeliest; nothing need be settled."""
    plain = Measure(unit="tile", aggregate=None, cutoffs={})
    return _with_cutoffs(plain, None, two=len(classes) == 2)


def _shares(
    unit: str, cutoffs: Mapping[str, float | None], validation: Units | None
) -> Iterator[Measure]:
    """Yield the share of positive tiles at each cut-off of tiles, judged at the cut-off of that name."""
    for name, cutoff in cutoffs.items():
        plain = Measure(unit=unit, aggregate="share", cutoffs={}, tile_cutoff=cutoff, ranks_at=name)
        own = _with_cutoffs(plain, validation, two=True).cutoffs
        if name in own:
            yield replace(plain, cutoffs={name: own[name]})


def _with_cutoffs(measure: Measure, validation: Units | None, *, two: bool) -> Measure:
    cutoffs: dict[str, float | None] = {"0.5": 0.0} if two else {"none": None}
    if two and validation is not None:
        best = best_cutoff(measure.of(validation).judged)
        cutoffs |= {} if best is None else {VALIDATION: best}
    return replace(measure, cutoffs=cutoffs)


def values_of(units: Units, measure: Measure, codes: Ints, *, groups: int) -> dict[Key, Floats]:
    """Return every score of each group of units, ``(groups,)``, NaN where it cannot be said."""
    found: dict[Key, Floats] = {}
    for name, confusion in _confusions(units.judged, measure, codes, groups).items():
        found |= count_scores(confusion, units.judged.classes, cutoff=name)
    for after, sums in _losses(units.judged, measure, codes, groups).items():
        found |= _loss_scores(sums, measure, units.judged.classes, after=after)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=groups))[:-1])
    for number, suffix in _one_against_rest(units.judged):
        for name, area in (("auroc", area_under_roc), ("auprc", average_precision)):
            areas = [_area(area(*_ranks(units.judged, number, part))) for part in parts]
            found[f"{name}{suffix}", measure.ranks_at] = np.array(areas)
    return found | _macro(found, units.judged, measure)


def _area(value: float | None) -> float:
    return np.nan if value is None else value


def _ranks(tiles: Judged, number: int, part: Ints) -> tuple[Floats, NDArray[np.bool_], Floats]:
    return tiles.odds[part, number], tiles.targets[part] == number, tiles.weights[part]


def _one_against_rest(tiles: Judged) -> list[tuple[int, str]]:
    """Return the classes that areas are of, with what is added to the score's name."""
    if tiles.is_binary:
        return [(1, "")]
    return [(number, f"_{name}") for number, name in enumerate(tiles.classes)]


def _macro(found: Mapping[Key, Floats], tiles: Judged, measure: Measure) -> dict[Key, Floats]:
    """Return the mean area over classes; NaN where that of any cannot be said."""
    if tiles.is_binary:
        return {}
    return {
        (f"{name}_macro", measure.ranks_at): np.mean(
            [found[f"{name}_{each}", measure.ranks_at] for each in tiles.classes], axis=0
        )
        for name in ("auroc", "auprc")
    }


def statistic_of(units: Units, measure: Measure, *, draws: int) -> tuple[Statistic, int]:
    """Return every score by weights of patients, and how many patients there are.

    Parameters
    ----------
    draws
        How many will be asked for: what is prepared depends on it, the scores do not.
    """
    tiles = units.judged
    names, codes = np.unique(units.patients, return_inverse=True)
    count = len(names)
    counts = [
        counted(held, tiles.classes, cutoff=name)
        for name, held in _confusions(tiles, measure, codes, count).items()
    ]
    sums = _losses(tiles, measure, codes, count)
    areas: dict[Key, Area] = {}
    for number, suffix in _one_against_rest(tiles):
        ranks = ranked(
            tiles.odds[:, number], tiles.targets == number, tiles.weights, codes, count=count
        )
        areas[f"auroc{suffix}", measure.ranks_at] = roc_area(ranks, draws=draws)
        areas[f"auprc{suffix}", measure.ranks_at] = precision_area(ranks)

    def statistic(weights: Floats) -> Mapping[Key, Floats]:
        found: dict[Key, Floats] = {}
        for count_of in counts:
            found |= count_of(weights)
        for after, held in sums.items():
            found |= _loss_scores(weights @ held, measure, tiles.classes, after=after)
        found |= {key: area(weights) for key, area in areas.items()}
        return found | _macro(found, tiles, measure)

    return statistic, count


def _confusions(tiles: Judged, measure: Measure, codes: Ints, groups: int) -> dict[str, Floats]:
    count = partial(confusion_counts, tiles, codes=codes, groups=groups)
    return {
        name: count(tiles.chosen if cutoff in (None, 0.0) else chosen_at(tiles, cutoff))
        for name, cutoff in measure.cutoffs.items()
    }


def _losses(tiles: Judged, measure: Measure, codes: Ints, groups: int) -> dict[str, Floats]:
    """Return sums of losses by what is added to the scores' names."""
    found = {"": losses(tiles, codes, groups=groups)}
    if measure.temperature is not None:
        after = tempered(tiles, measure.temperature.value)
        found[AFTER] = losses(after, codes, groups=groups)
    return found


def _loss_scores(
    sums: Floats, measure: Measure, classes: tuple[str, ...], *, after: str
) -> dict[Key, Floats]:
    found = loss_scores(sums, after=after) if measure.is_probability else {}
    return found if after else found | prevalences(sums, classes)
