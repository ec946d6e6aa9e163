"""Several models asked together: which they are by name, and what they say as one."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.config import first_of
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.repeats import repeat_of
from wsi_pipeline.evaluate.predictions import Predictions, differing
from wsi_pipeline.files import exists, names_below
from wsi_pipeline.remote import absolute
from wsi_pipeline.train.metrics import log_probabilities
from wsi_pipeline.train.model_directory import ModelDirectory, model_directory
from wsi_pipeline.train.prediction_table import number_column

_GLOB = re.compile(r"[*?\[]")
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Models that are asked."""

    names: tuple[str, ...]
    ensemble: str | None
    """What they are called as one, where they are several that belong together."""


def chosen_models(run: str | Path, asked: Sequence[str], *, ensemble: str | None = None) -> Chosen:
    """Return the models of a run that are meant.

    Parameters
    ----------
    asked
        Names of models; ``sd`` for the repeats ``sd-0``, ``sd-1``, ... where there is no model ``sd``; or
        patterns such as ``sd-*``.
    ensemble
        What they are called as one. All repeats of one name are called by that name if it is not given;
        other models are then no ensemble.

    Raises
    ------
    ConfigError
        There is no such model, or the ensemble would have the name of one.
    """
    there = trained_models(run)
    if not there and not exists(absolute(run)):
        raise ConfigError(f"{absolute(run)}: expected a run, there is nothing; correct the path")
    names = tuple(dict.fromkeys(name for each in asked for name in _meant(run, each, there)))
    if ensemble is None:
        repeats = [repeat_of(name) for name in names]
        bases = {repeat[0] if repeat else None for repeat in repeats}
        base = bases.pop() if len(bases) == 1 and len(names) > 1 else None
        is_all = base is not None and set(names) == set(_repeats(base, there))
        return Chosen(names=names, ensemble=base if is_all and base not in there else None)
    if ensemble in there:
        raise ConfigError(f"ensemble: {ensemble} is the name of a model of its own; take another")
    model_directory(run, ensemble)
    return Chosen(names=names, ensemble=ensemble)


def trained_models(run: str | Path) -> list[str]:
    """Return the names of models whose training has begun, in order, numbers by their size."""
    folder = absolute(run) / "models"
    try:
        names = names_below(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    trained = [name for name in names if exists(ModelDirectory(path=folder / name).train_json)]
    return sorted(trained, key=_natural)


def _meant(run: str | Path, asked: str, there: Sequence[str]) -> list[str]:
    if _GLOB.search(asked):
        found = [name for name in there if fnmatchcase(name, asked)]
    elif asked in there or exists(model_directory(run, asked).best):
        found = [asked]
    else:
        found = _repeats(asked, there)
    if found:
        return found
    close = difflib.get_close_matches(asked, there, 1)
    bases = [repeat[0] for repeat in map(repeat_of, there) if repeat]
    repeats = f"; try --model {bases[0]}, which asks all its repeats" if bases else ""
    guess = f"; did you mean {close[0]}?" if close else repeats
    known = f"there are {first_of(there, _SHOWN)}" if there else "there is none"
    raise ConfigError(
        f"{absolute(run) / 'models' / asked}: expected a model that was trained (wsi-pipeline train)"
        f"{guess}; {known}"
    )


def _repeats(base: str, there: Sequence[str]) -> list[str]:
    found = [(name, repeat_of(name)) for name in there]
    return [name for name, repeat in found if repeat and repeat[0] == base]


def _natural(name: str) -> tuple[str, int]:
    """Return what names are ordered by: sd-2 before sd-10.

    >>> sorted(["sd-10", "sd-2", "a"], key=_natural)
    ['a', 'sd-2', 'sd-10']
    """
    return repeat_of(name) or (name, -1)


def mean_predictions(members: Sequence[Predictions]) -> Predictions:
    """Return what several networks say as one: the mean of their probabilities, and the logit of that mean.

    The mean is of probabilities, as of deep ensembles (Lakshminarayanan, Pritzel and Blundell, Simple and
    scalable predictive uncertainty estimation using deep ensembles, 2017, section 2.4). It is taken of their
    logarithms, so that a logit of 40 stays one. Networks of one and of two logits go together; the answer
    has a single logit then.

    Raises
    ------
    ConfigError
        They are of other classes or tiles.
    """
    first = members[0]
    for each in members[1:]:
        _refuse_other(first, each)
    logs = _mean_of_logs([log_probabilities(each.logits) for each in members])
    is_single = len(first.classes) == 2
    logits = (logs[:, 1] - logs[:, 0] if is_single else logs).astype(np.float32)
    probability = np.exp(logs[:, 1] if is_single else logs).astype(np.float32)
    table = first.table
    for name, values in (("logit", logits), ("probability", probability)):
        column = number_column(values)
        table = table.set_column(table.column_names.index(name), name, column)
    return Predictions(table=table, classes=first.classes)


def _mean_of_logs(members: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the logarithm of the mean of numbers that are given by their logarithms."""
    summed = members[0]
    for each in members[1:]:
        summed = np.logaddexp(summed, each)
    mean: NDArray[np.float64] = summed - np.log(len(members))
    return mean


def _refuse_other(first: Predictions, other: Predictions) -> None:
    if first.classes != other.classes:
        raise ConfigError(
            f"ensemble: expected networks of the same classes, got {', '.join(first.classes)} and "
            f"{', '.join(other.classes)}"
        )
    if differing(first, other, ("slide_id", "tile", "target")):
        raise ConfigError(
            "ensemble: expected networks that were asked for the same tiles; those of another fold or with "
            "another condition are not"
        )
