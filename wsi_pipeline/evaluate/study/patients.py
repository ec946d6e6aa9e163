"""How far a study's scores and differences would lie with other seeds and other patients; no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import read_predictions
from wsi_pipeline.evaluate.score.bootstrap import REPLICATES, Interval
from wsi_pipeline.evaluate.score.nested import Drawn, by_score, drawn_of, over_repeats
from wsi_pipeline.evaluate.study.records import Told
from wsi_pipeline.evaluate.study.table import Cell, Nested
from wsi_pipeline.evaluate.sweep.patients import read_drawn
from wsi_pipeline.evaluate.sweep.shift_config import shift_of
from wsi_pipeline.train.model_directory import model_directory


@dataclass(frozen=True, slots=True)
class _Source:
    """Where draws of patients come from: predictions, or some levels of a file of a sweep."""

    path: Path
    levels: tuple[float, ...] | None
    classes: tuple[str, ...]

    def drawn(self, replicates: int) -> Drawn:
        if self.levels is None:
            return drawn_of(read_predictions(self.path), replicates=replicates)
        return read_drawn(self.path, self.levels, self.classes, replicates=replicates)


def nested_of(
    run: str, answers: Sequence[Told], *, reference: str, replicates: int = REPLICATES
) -> dict[Cell, Nested]:
    """Return the intervals of every arm on all tiles: of stored predictions, or of a sweep's draws.

    Of a sweep it is the mean over its levels but the clean one, in every draw of patients.

    Parameters
    ----------
    run
        Whose models have the predictions.
    answers
        Of the study.
    reference
        Arm that the others are compared with.
    replicates
        Draws of patients of predictions; those of sweeps are there, and as many.

    Raises
    ------
    ConfigError
        A file is not there, or has other draws.
    """
    cells: dict[Cell, dict[int, _Source]] = {}
    for each in answers:
        source = _source(run, each)
        if source is not None:
            cell = (each.experiment, each.answer.tiles, each.arm)
            cells.setdefault(cell, {})[each.seed] = source
    sources = dict.fromkeys(source for cell in cells.values() for source in cell.values())
    drawn = {source: source.drawn(replicates) for source in sources}
    by_seed = {
        cell: {seed: drawn[source] for seed, source in sorted(of_seeds.items())}
        for cell, of_seeds in cells.items()
    }
    return {cell: _nested(cell, by_seed, reference) for cell in cells}


def _source(run: str, each: Told) -> _Source | None:
    """Return where an answer's draws come from; None of a sweep that shifts nothing."""
    folder, answer = model_directory(run, each.record.model).path, each.answer
    classes = each.record.classes
    if not answer.curve:
        return _Source(folder / answer.source, None, classes)
    clean = shift_of(answer.tiles).clean
    known = (row["level"] for row in answer.curve)
    levels = tuple(level for level in known if level is not None and level != clean)
    return _Source(folder / answer.draws, levels, classes) if levels else None


def _nested(cell: Cell, by_seed: Mapping[Cell, Mapping[int, Drawn]], reference: str) -> Nested:
    ours = by_seed[cell]
    other = {} if cell[2] == reference else by_seed.get((*cell[:2], reference), {})
    both = [seed for seed in ours if seed in other]
    means = _over([*ours.values()], [])
    differences = _over([ours[seed] for seed in both], [other[seed] for seed in both])
    return Nested(means=means, differences=differences)


def _over(ours: Sequence[Drawn], reference: Sequence[Drawn]) -> dict[str, Interval]:
    """Return intervals by score; none where there are no networks or they are of other tiles."""
    if not ours:
        return {}
    try:
        return by_score(over_repeats(ours, reference), ours[0].classes)
    except ConfigError:  # such as arms of another target
        return {}
