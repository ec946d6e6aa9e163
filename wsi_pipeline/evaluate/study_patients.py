"""How far a study's scores and differences would lie with other seeds and other patients; no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.bootstrap import REPLICATES, Interval
from wsi_pipeline.evaluate.nested import Drawn, by_score, drawn_of, over_repeats
from wsi_pipeline.evaluate.predictions import read_predictions
from wsi_pipeline.evaluate.study_records import Told
from wsi_pipeline.evaluate.study_table import Cell, Nested
from wsi_pipeline.train.model_directory import model_directory


def nested_of(
    run: str, answers: Sequence[Told], *, reference: str, replicates: int = REPLICATES
) -> dict[Cell, Nested]:
    """Return the intervals of every arm on all tiles whose predictions are stored; sweeps store none.

    Parameters
    ----------
    run
        Whose models have the predictions.
    answers
        Of the study.
    reference
        Arm that the others are compared with.
    replicates
        Draws of patients.
    """
    cells: dict[Cell, dict[int, Path]] = {}
    for each in answers:
        if not each.answer.curve:
            path = model_directory(run, each.record.model).path / each.answer.source
            cells.setdefault((each.experiment, each.answer.tiles, each.arm), {})[each.seed] = path
    drawn: dict[Path, Drawn] = {}
    for path in dict.fromkeys(path for cell in cells.values() for path in cell.values()):
        drawn[path] = drawn_of(read_predictions(path), replicates=replicates)
    by_seed = {
        cell: {seed: drawn[path] for seed, path in sorted(paths.items())}
        for cell, paths in cells.items()
    }
    return {cell: _nested(cell, by_seed, reference) for cell in cells}


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
