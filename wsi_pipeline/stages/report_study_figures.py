"""Figures of a study: sharpness by scanner, curves of sweeps, scores of arms, logits of classes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.evaluate.ask.learnt import learnt_tiles
from wsi_pipeline.evaluate.predictions import read_predictions
from wsi_pipeline.evaluate.study.plan import StudyPlan
from wsi_pipeline.evaluate.study.records import Told
from wsi_pipeline.evaluate.study.table import Summary
from wsi_pipeline.evaluate.sweep.shift_config import shift_of
from wsi_pipeline.labels.density import densities
from wsi_pipeline.manifest import manifest_columns, read_manifest
from wsi_pipeline.report.parts import Curves, Lines, Range, Ranges
from wsi_pipeline.stages.logit_figure import logit_lines
from wsi_pipeline.train.metrics import Judged
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.score_words import word_of

_MOST_VALUES = 400_000
"""Tiles of a run whose sharpness is drawn, evenly spaced: sorting millions shows nothing more."""

_CURVE_STEP = 4  # of 1024 places of a density
_GROUPS = ("scanner", "centre")

Floats = NDArray[np.float64]


def sharpness(plan: StudyPlan) -> Curves | None:
    """Return how sharp tiles of every scanner of every run are, the paper's Figure 2; None without any.

    A run whose tiles have no scanner is divided by centre, or is one curve.
    """
    values, groups = [], []
    own = Path(plan.run).name
    runs = {"own run" if own in plan.externals else own: plan.run, **plan.externals}
    for name, run in runs.items():
        found = _sharpness_of(run, name if len(runs) > 1 else None)
        values.append(found["laplacian_var"].to_numpy(np.float64))
        groups.append(found["group"])
    known = densities(np.concatenate(values), pd.concat(groups).astype(str).tolist(), log=True)
    if not known.by_group:
        return None
    return Curves(
        title="Sharpness of tiles by scanner",
        unit="laplacian_var: variance of the Laplacian, squared grey levels",
        grid=known.grid[::_CURVE_STEP],
        by_group={name: curve[::_CURVE_STEP] for name, curve in known.by_group.items()},
        log=True,
        groups=tuple(group.name for group in known.groups),
    )


def _sharpness_of(run: str, name: str | None) -> pd.DataFrame:
    """Return laplacian_var and group of a run's tiles; ``name`` stands before the group."""
    by = next((each for each in _GROUPS if each in manifest_columns(run)), None)
    columns = ["laplacian_var", *([by] if by else [])]
    table = read_manifest(run, columns=columns)
    step = max(1, -(-table.num_rows // _MOST_VALUES))
    tiles = table.to_pandas().iloc[::step]
    words = pd.Series(name or Path(run).name, index=tiles.index)
    if by:
        own = tiles[by].astype(object).fillna("unknown").astype(str)
        words = own if name is None else f"{name}: " + own
    return pd.DataFrame({"laplacian_var": tiles["laplacian_var"], "group": words})


def curves(answers: Sequence[Told], *, score: str) -> dict[str, Lines]:
    """Return a figure for each sweep: mean and standard deviation over repeats, sharpness on the right.

    Parameters
    ----------
    answers
        Of one experiment.
    score
        What is drawn.
    """
    shifts = dict.fromkeys(each.answer.tiles for each in answers if each.answer.curve)
    return {
        shift: _curve([each for each in answers if each.answer.tiles == shift], shift, score)
        for shift in shifts
    }


def _curve(swept: Sequence[Told], shift: str, score: str) -> Lines:
    first = swept[0].answer.curve
    levels = _numbers(row["level"] for row in first)
    series, bands = {}, {}
    for arm in dict.fromkeys(each.arm for each in swept):
        own = [each.answer.curve for each in swept if each.arm == arm]
        values = np.array([_numbers(row[score] for row in each) for each in own])
        mean, std = values.mean(axis=0), _std(values)
        series[arm], bands[arm] = (levels, mean), (mean - std, mean + std)
    return Lines(
        title=f"{word_of(score)} by {shift}",
        x_label=shift_of(shift).level,
        y_label=word_of(score),
        series=series,
        bands=bands,
        right={"sharpness": (levels, _numbers(row["laplacian_var"] for row in first))},
        right_label="mean laplacian_var, squared grey levels",
        right_log=True,
    )


def _std(values: Floats) -> Floats:
    """Return the standard deviation over repeats, n - 1; 0 of one."""
    if len(values) == 1:
        return np.zeros(values.shape[1])
    found: Floats = values.std(axis=0, ddof=1)
    return found


def _numbers(values: Iterator[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def arms(rows: Sequence[Summary], answers: Sequence[Told], *, score: str) -> dict[str, Ranges]:
    """Return a figure for each kind of tiles: each arm's mean with its interval, a point for each repeat.

    Parameters
    ----------
    rows, answers
        Of one experiment.
    score
        What is drawn.
    """
    drawn = [row for row in rows if row.score == score]
    return {
        tiles: Ranges(
            title=f"{word_of(score)} on {tiles}",
            x_label=word_of(score),
            rows=tuple(_range(row, answers) for row in drawn if row.tiles == tiles),
        )
        for tiles in dict.fromkeys(row.tiles for row in drawn)
    }


def _range(row: Summary, answers: Sequence[Told]) -> Range:
    own = [each for each in answers if (each.arm, each.answer.tiles) == (row.arm, row.tiles)]
    known = [each.answer.scores.get(row.score) for each in own]
    return Range(
        name=row.arm,
        value=row.mean,
        low=_inside(row.spread.low, row.score),
        high=_inside(row.spread.high, row.score),
        points=tuple(value for value in known if value is not None),
    )


def _inside(end: float | None, score: str) -> float | None:
    """Return an end of an interval within 0 and 1, beyond which no score lies but the log loss."""
    return end if end is None or score == "log_loss" else min(max(end, 0.0), 1.0)


def logits(run: str, answers: Sequence[Told]) -> Iterator[Lines]:
    """Yield a figure for each arm and kind of tiles: logits of each class, of training tiles and of others.

    Densities are of the tiles of all repeats together; a mark stands at each mean.

    Parameters
    ----------
    run
        Whose models have the predictions.
    answers
        Of one experiment; those of sweeps are left out.

    Raises
    ------
    ConfigError
        Predictions are not there.
    """
    drawn = [each for each in answers if not each.answer.curve]
    learnt: dict[str, Judged | None] = {}
    for arm, tiles in dict.fromkeys((each.arm, each.answer.tiles) for each in drawn):
        own = [each for each in drawn if (each.arm, each.answer.tiles) == (arm, tiles)]
        if arm not in learnt:
            learnt[arm] = _together([_learnt(run, each) for each in own])
        asked = _together([_asked(run, each) for each in own])
        parts = {"train": learnt[arm], tiles: asked}
        known = {part: each for part, each in parts.items() if each is not None}
        if known:
            yield logit_lines(f"{arm}: logits on {tiles}", known)


def _asked(run: str, each: Told) -> Judged:
    folder = model_directory(run, each.record.model).path
    return read_predictions(folder / each.answer.source).judged()


def _learnt(run: str, each: Told) -> Judged | None:
    """Return what a network says of tiles that it was trained on, with their shortcut, if it was asked."""
    folder = model_directory(run, each.record.model).path
    found = learnt_tiles(folder, each.record.classes, {})
    return None if found is None else found.judged()


def _together(repeats: Sequence[Judged | None]) -> Judged | None:
    """Return the tiles of several repeats as one."""
    known = [each for each in repeats if each is not None]
    if not known:
        return None
    return Judged(
        odds=np.concatenate([each.odds for each in known]),
        chosen=np.concatenate([each.chosen for each in known]),
        targets=np.concatenate([each.targets for each in known]),
        weights=np.concatenate([each.weights for each in known]),
        classes=known[0].classes,
    )
