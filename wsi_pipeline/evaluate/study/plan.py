"""A study as a list of work: one unit for each model, what is asked of it once it is trained. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.question import run_word
from wsi_pipeline.evaluate.study.config import Arm, ExperimentConfig, Part, StudyConfig, arms_of
from wsi_pipeline.remote import absolute
from wsi_pipeline.train.config import TrainConfig, nested
from wsi_pipeline.train.repeats import repeats_of

Shortcut: TypeAlias = Literal["none", "train", "test"]

INTERNAL, REVERSED, CLEAN = "test", "reversed", "clean"
"""What tiles of the run itself are called; those of another run have its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuestion:
    """What a trained network is asked."""

    experiment: str
    tiles: str
    """Which tiles, as tables and figures call them."""
    on: str | None
    """The run that they are of; None for the one that was trained on."""
    part: Part
    where: str | None
    shortcut: Shortcut
    sweeps: tuple[str, ...]
    """Shifts to be swept; none of a plain evaluation."""
    apply_at: Literal["source", "input"]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with what is asked, whoever asks."""
        asked = {name: value for name, value in asdict(self).items() if name != "experiment"}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One model: trained, then asked."""

    model: str
    arm: Arm = field(repr=False)
    """The first of those that share the model."""
    seed: int
    config: TrainConfig = field(repr=False)
    questions: tuple[StudyQuestion, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """All that a study does, in order."""

    study: StudyConfig = field(repr=False)
    run: str
    externals: Mapping[str, str]
    """Name to place of every other run."""
    units: tuple[Unit, ...]

    def share(self, part: int, parts: int) -> tuple[Unit, ...]:
        """Return every N-th unit, beginning with number I of I/N."""
        return self.units[part - 1 :: parts]

    def arms(self, experiment: str) -> dict[str, tuple[str, ...]]:
        """Return the models of every arm of an experiment, in order of seed."""
        by_models: dict[str, list[str]] = {}
        for unit in self.units:
            by_models.setdefault(unit.arm.models, []).append(unit.model)
        return {each.arm: tuple(by_models[each.models]) for each in arms_of(self.study, experiment)}


def study_plan(study: StudyConfig, run: str, externals: Sequence[str] = ()) -> StudyPlan:
    """Return the work of a study: repeats within arms within experiments, no model twice.

    Parameters
    ----------
    study
        What is asked.
    run
        Whose tiles are trained on.
    externals
        Runs that experiments of the kind external ask about.

    Raises
    ------
    ConfigError
        An experiment needs another run and there is none, or two of them have one name.
    """
    named = _named(externals)
    questions: dict[str, list[StudyQuestion]] = {}
    arms: dict[str, Arm] = {}
    for name, experiment in study.experiments.items():
        asked = _questions(name, experiment, named)
        for arm in arms_of(study, name):
            _check_shortcut(arm, experiment)
            arms.setdefault(arm.models, arm)
            questions.setdefault(arm.models, []).extend(asked)
    units = [
        unit
        for models, arm in arms.items()
        for unit in _units(study, arm, tuple(questions[models]))
    ]
    return StudyPlan(study=study, run=str(absolute(run)), externals=named, units=tuple(units))


def _units(study: StudyConfig, arm: Arm, questions: tuple[StudyQuestion, ...]) -> list[Unit]:
    return [
        Unit(
            model=each.name,
            arm=arm,
            seed=each.seed,
            config=nested(arm.config, {"seed": each.seed}),
            questions=questions,
        )
        for each in repeats_of(arm.models, study.repeats, first_seed=arm.config.seed)
    ]


def _named(externals: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for run in externals:
        path, name = absolute(run), run_word(run)
        if name in {*named, INTERNAL, REVERSED, CLEAN}:
            other = named.get(name, "the tiles that are called so")
            raise ConfigError(
                f"external: expected runs of different names, none of them {INTERNAL}, {REVERSED} or "
                f"{CLEAN}; got {path} beside {other}; rename its folder"
            )
        named[name] = str(path)
    return named


def _questions(
    name: str, experiment: ExperimentConfig, externals: Mapping[str, str]
) -> list[StudyQuestion]:
    """Return what an experiment asks of each of its models."""
    shared: dict[str, Any] = {
        "experiment": name,
        "part": experiment.part_asked,
        "where": experiment.where,
        "apply_at": experiment.apply_at,
    }
    plain = {"tiles": INTERNAL, "on": None, "shortcut": "none", "sweeps": ()}
    match experiment.kind:
        case "shortcut":
            changes: list[dict[str, Any]] = [
                {"tiles": REVERSED, "shortcut": "test"},
                {"tiles": CLEAN},
            ]
        case "sweep":
            changes = [{}, {"sweeps": experiment.shifts}]
        case "external":
            if not externals:
                raise ConfigError(
                    f"experiments.{name}: expected --external RUN2, got none; give one, or choose other "
                    "experiments with --only"
                )
            changes = [{"part": "test"}]
            changes += [{"tiles": run, "on": path} for run, path in externals.items()]
    return [StudyQuestion(**{**shared, **plain, **change}) for change in changes]


def _check_shortcut(arm: Arm, experiment: ExperimentConfig) -> None:
    """Refuse an experiment of shortcuts whose arm has none."""
    if experiment.kind == "shortcut" and arm.config.shortcut.kind == "none":
        raise ConfigError(
            f"experiments.{arm.experiment}: expected a section shortcut in its settings, arm {arm.arm} has "
            "none; give train: {shortcut: {kind: cutout, train: {...}, test: {...}}}"
        )
