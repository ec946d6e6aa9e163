"""What a search for settings is asked for; loads neither torch nor Optuna.

>>> config = TuneConfig(space={"optimise.lr": {"log": [1e-5, 1e-2]}}, sampler="tpe")
>>> config.dimensions[0]
Dimension(path='optimise.lr', kind='log', low=1e-05, high=0.01, choices=())
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError

STUDY_GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The study's S, of which it chose λ of spectral decoupling (arXiv 2103.17171, section 2.2)."""

Score: TypeAlias = Literal[
    "loss", "log_loss", "balanced_accuracy", "auroc", "auroc_worst", "brier", "ece"
]

SCORES: dict[Score, Literal["minimize", "maximize"]] = {
    "loss": "minimize",
    "log_loss": "minimize",
    "balanced_accuracy": "maximize",
    "auroc": "maximize",
    "auroc_worst": "maximize",
    "brier": "minimize",
    "ece": "minimize",
}
"""Scores of the validation part by which settings can be compared, and which end is the better one."""

_USUAL_TRIALS = 30
_DATA = ("split", "fold", "where", "target", "classes", "weight")
"""Settings that say which tiles are learnt and looked at: those are the same in all trials."""

_TEST = re.compile(r"(?i)(?<![a-z0-9])test(?![a-z0-9])")
_PATH = re.compile(r"[A-Za-z_]\w*(\.\w[\w -]*)*")

Kind: TypeAlias = Literal["choice", "uniform", "log", "whole"]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that is searched."""

    path: str
    """Such as ``loss.decoupling``."""
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()


def _space(value: object) -> object:
    if not isinstance(value, Mapping) or not value:
        raise ValueError
    for path, spec in value.items():
        dimension_of(str(path), spec)
    return dict(value)


_RANGES = "{choice: [a, b]}, {uniform: [low, high]}, {log: [low, high]} or {whole: [low, high]}"


class TuneConfig(Config):
    """A search for settings, on the validation part alone. All but `trials` are fixed once it has begun."""

    train: dict[str, Any] = Field(
        {},
        description="Settings of every trial, as `train` takes them.",
        json_schema_extra=expected("a section of settings of train"),
    )
    space: Annotated[dict[str, Any], BeforeValidator(_space)] = Field(
        {"loss.decoupling": {"choice": list(STUDY_GRID)}},
        description="What is searched: a path of a setting and {choice: [a, b]}, {uniform: [low, high]}, "
        "{log: [low, high]} (equal ratios), or {whole: [low, high]} (whole numbers). The study's grid of λ "
        "if not given.",
        json_schema_extra=expected(f"paths of settings, each with {_RANGES}"),
    )
    sampler: Literal["grid", "tpe", "gp", "random"] = Field(
        "grid",
        description="`grid`: every combination once. `tpe`: tree-structured Parzen estimator; `gp`: a "
        "Gaussian process; both learn from the trials before. `random`.",
        json_schema_extra=expected("grid, tpe, gp or random"),
    )
    trials: int | None = Field(
        None,
        ge=1,
        description=f"Trainings in all, of all nodes; the whole grid, or {_USUAL_TRIALS}, if not given. It "
        "can be raised later.",
        json_schema_extra=expected("a number of trials, 1 or more"),
    )
    score: Score = Field(
        "balanced_accuracy",
        description="Score of the validation part by which trials are compared. `loss` holds the penalties, "
        "so it compares no strengths of them. Where tiles carry a shortcut, all but `auroc_worst` are the "
        "better the more is made of it.",
        json_schema_extra=expected(
            "loss, log_loss, balanced_accuracy, auroc, auroc_worst, brier or ece"
        ),
    )
    split: Literal["validation"] = Field(
        "validation",
        description="The part that is looked at. The test part cannot be named: what was chosen on it says "
        "nothing about other slides.",
        json_schema_extra=expected("validation; settings are never chosen on the test part"),
    )
    prune: Literal["median", "none"] = Field(
        "median",
        description="`median`: end a trial whose best score so far is worse than the median of the others at "
        "the same epoch.",
        json_schema_extra=expected("median or none"),
    )
    prune_after_trials: int = Field(
        5,
        ge=1,
        description="Trials that are finished before any is ended early.",
        json_schema_extra=expected("a number of trials, 1 or more"),
    )
    prune_after_epochs: int = Field(
        2,
        ge=0,
        description="Epochs of a trial before it may be ended early.",
        json_schema_extra=expected("a number of epochs, 0 or more"),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Another one draws other settings. The seed of the trainings is `train: {seed: N}`.",
        json_schema_extra=expected("a whole number, 0 or more"),
    )

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is searched, in order of path: the order in a file does not change what is drawn."""
        return tuple(dimension_of(path, spec) for path, spec in sorted(self.space.items()))

    @property
    def grid(self) -> tuple[dict[str, Any], ...]:
        """Every combination of choices, the last path changing fastest."""
        paths = [each.path for each in self.dimensions]
        cells = itertools.product(*(each.choices for each in self.dimensions))
        return tuple(dict(zip(paths, cell, strict=True)) for cell in cells)

    @property
    def corners(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first and the last value of every path: what refuses none of these seldom refuses another."""
        ends = [(each.path, each.choices or (each.low, each.high)) for each in self.dimensions]
        return {path: two[0] for path, two in ends}, {path: two[-1] for path, two in ends}

    @property
    def trials_in_all(self) -> int:
        """How many trainings there are at the most."""
        if self.sampler == "grid":
            return min(len(self.grid), self.trials or len(self.grid))
        return self.trials or _USUAL_TRIALS

    @property
    def direction(self) -> str:
        """`minimize` or `maximize`, as Optuna says it."""
        return SCORES[self.score]

    @model_validator(mode="after")
    def _never_sees_the_test_part(self) -> Self:
        for path in self.space:
            if path.partition(".")[0] in (*_DATA, "shortcut"):
                raise ConfigError(
                    f"space: expected settings of a training, got {path}, which says what is learnt and "
                    "looked at; make a study for each"
                )
        for path, text in _texts(self.train):
            if path.split(".")[0] in _DATA and _TEST.search(text):
                raise ConfigError(
                    f"train.{path}: expected no word of the test part, got {text!r}; settings are chosen on "
                    "validation alone, leave it out"
                )
        return self

    @model_validator(mode="after")
    def _a_grid_has_choices(self) -> Self:
        ranges = [each.path for each in self.dimensions if each.kind != "choice"]
        if self.sampler == "grid" and ranges:
            raise ConfigError(
                f"sampler: expected tpe, gp or random for the range of {', '.join(ranges)}, got grid; or "
                "give {choice: [...]}"
            )
        return self


def dimension_of(path: str, spec: object) -> Dimension:
    """Return a setting that is searched.

    Parameters
    ----------
    path
        Such as ``loss.decoupling``.
    spec
        As ``TuneConfig.space`` has it.

    Raises
    ------
    ValueError
        It is none of those.
    """
    if not _PATH.fullmatch(path) or not isinstance(spec, Mapping) or len(spec) != 1:
        raise ValueError(path)
    kind, values = next(iter(spec.items()))
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(path)
    if kind == "choice":
        plain = [each for each in map(_number, values) if _is_plain(each)]
        if len(plain) != len(values) or len(set(map(repr, plain))) != len(plain):
            raise ValueError(path)
        return Dimension(path, "choice", choices=tuple(plain))
    return _range(path, str(kind), [_number(each) for each in values])


def _range(path: str, kind: str, ends: Sequence[Any]) -> Dimension:
    is_pair = len(ends) == 2 and all(type(each) in (int, float) for each in ends)
    if not is_pair or not ends[0] < ends[1] or not all(map(math.isfinite, ends)):
        raise ValueError(path)
    low, high = ends
    match kind:
        case "uniform":
            return Dimension(path, "uniform", low, high)
        case "log" if low > 0:
            return Dimension(path, "log", low, high)
        case "whole" if low == int(low) and high == int(high):
            return Dimension(path, "whole", low, high)
        case _:
            raise ValueError(path)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _number(value: Any) -> Any:  # noqa: ANN401  of YAML
    """Return 1e-6 as a number, which YAML 1.1 takes for a word."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _texts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return every word of the settings with its path."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{path}", text) for path, text in _texts(value)]
        else:
            many = value if isinstance(value, (list, tuple)) else [value]
            found += [(str(name), str(each)) for each in many]
    return found


def with_values(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with other values at some paths, as sections within sections.

    >>> with_values({"seed": 1, "loss": {"margin": 0.2}}, {"loss.decoupling": 0.01})
    {'seed': 1, 'loss': {'margin': 0.2, 'decoupling': 0.01}}
    """
    result: dict[str, Any] = {}
    for source in (settings, changes):
        for path, value in source.items():
            _put(result, str(path).split("."), value)
    return result


def _put(into: dict[str, Any], names: Sequence[str], value: object) -> None:
    first, *others = names
    there = into.get(first)
    if others or isinstance(value, Mapping):
        section = dict(there) if isinstance(there, dict) else {}
        parts = [(others, value)] if others else [([str(k)], v) for k, v in value.items()]  # type: ignore[attr-defined]
        for path, each in parts:
            _put(section, path, each)
        into[first] = section
    else:
        into[first] = value
