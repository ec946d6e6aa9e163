"""What a study is asked for: arms that are trained alike, and experiments that tell them apart; no torch.

>>> asked = study_config({"arms": {"plain": {}, "sd": {"loss.decoupling": 0.01}}, "reference": "plain",
...                       "method": "sd", "experiments": {"elsewhere": {"kind": "external"}}})
>>> asked.experiments["elsewhere"].part_asked, asked.repeats
('all', 5)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, did_you_mean, expected, make_config, read_yaml
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.sweep.shift_config import sweeps_of
from wsi_pipeline.train.config import TrainConfig, WorkConfig, train_configs

ScoreName: TypeAlias = Literal[
    "accuracy",
    "recall",
    "specificity",
    "balanced_accuracy",
    "auroc",
    "log_loss",
    "brier",
    "ece",
    "ece_after_temperature",
]

SCORES: Mapping[str, bool] = {
    "accuracy": True,
    "recall": True,
    "specificity": True,
    "balanced_accuracy": True,
    "auroc": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "ece_after_temperature": False,
}
"""Whether more of a score is better; recall is of the second class, specificity of the first."""

PAPER_SWEEPS = ("box_blur", "sharpen")
"""The paper's two shifts (arXiv 2103.17171, section 2.4)."""

Kind: TypeAlias = Literal["shortcut", "sweep", "external"]
Part: TypeAlias = Literal["train", "validation", "test", "all"]
Paper: TypeAlias = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""Arm to score to mean and standard deviation, as a paper gives them."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


def _settings(value: object) -> object:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004  pydantic's word for a value that is refused
    return {str(name): each for name, each in value.items()}


def _arms(value: object) -> object:
    """Return settings by name from a mapping, or from names alone; empty settings may be left out."""
    named = {name: {} for name in value} if isinstance(value, list) else _settings(value)
    if not isinstance(named, Mapping) or not all(_NAME.fullmatch(str(name)) for name in named):
        raise ValueError
    return {str(name): _settings(each) for name, each in named.items()}


def _paper(value: object) -> object:
    """Return mean and standard deviation of every number; one number alone is a mean."""
    return {arm: _means(scores) for arm, scores in dict(_mapping(value)).items()}


def _means(scores: object) -> dict[str, tuple[float, float | None]]:
    return {name: _mean(each) for name, each in dict(_mapping(scores)).items() if _score(name)}


def _mean(value: object) -> tuple[float, float | None]:
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value, None]
    if len(numbers) != 2 or not isinstance(numbers[0], int | float):
        raise ValueError
    mean, spread = numbers
    return float(mean), None if spread is None else float(spread)


def _score(name: object) -> bool:
    if name not in SCORES:
        raise ValueError
    return True


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004  pydantic's word for a value that is refused
    return value


_WORDS = "letters, digits and '_', beginning with a letter, up to 40"
Settings: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_settings)]
Arms: TypeAlias = Annotated[dict[str, dict[str, Any]], BeforeValidator(_arms)]


class ExperimentConfig(Config):
    """One question that arms are compared on."""

    kind: Kind = Field(
        description="`shortcut`: tiles of training carry a shortcut that the test reverses (settings of the "
        "section `shortcut`); `sweep`: the test tiles are shifted step by step; `external`: tiles of the "
        "runs of `--external`.",
        json_schema_extra=expected("shortcut, sweep or external"),
    )
    title: str = Field(
        "",
        description="Heading on the page; the experiment's name if not given.",
        json_schema_extra=expected("words"),
    )
    train: Settings = Field(
        {},
        description="Settings of all its arms, in place of those of `base`; its arms are then trained for it "
        "alone.",
        json_schema_extra=expected("settings of train"),
    )
    arms: Arms = Field(
        {},
        description="Names of its arms, or names with further settings; every arm of the study if not given. "
        "An arm that the study does not have is trained for this experiment alone.",
        json_schema_extra=expected(
            f"names of arms ({_WORDS}), each with settings of train or none"
        ),
    )
    part: Part | None = Field(
        None,
        description="Tiles that are asked: `all` of external runs and `test` elsewhere if not given.",
        json_schema_extra=expected("train, validation, test or all"),
    )
    where: str | None = Field(
        None,
        min_length=1,
        description="Further condition on these tiles.",
        json_schema_extra=expected("an expression of the manifest's columns"),
    )
    shifts: tuple[str, ...] = Field(
        PAPER_SWEEPS,
        strict=False,
        min_length=1,
        description="Of a sweep: names of shifts, also with levels as `box_blur:2,5,10`.",
        json_schema_extra=expected("names of shifts"),
    )
    apply_at: Literal["source", "input"] = Field(
        "source",
        description="Of a sweep: whether stored tiles are shifted, or the images that the network sees.",
        json_schema_extra=expected("source or input"),
    )
    score: ScoreName | None = Field(
        None,
        description="By which the answer is given; AUROC of a shortcut, whose Eq. 2 also moves the cut-off, "
        "else balanced accuracy.",
        json_schema_extra=expected(f"one of {', '.join(SCORES)}"),
    )
    control: str | None = Field(
        None,
        description="Arm to which the shortcut tells nothing: what could be reached.",
        json_schema_extra=expected("the name of an arm"),
    )
    paper: Annotated[dict[str, dict[str, Any]], BeforeValidator(_paper)] = Field(
        {},
        description="Numbers that a paper gives, shown beside: {arm: {score: [mean, standard deviation]}}.",
        json_schema_extra=expected(
            f"{{arm: {{score: [mean, SD]}}}} with scores of {', '.join(SCORES)}"
        ),
    )

    @model_validator(mode="after")
    def _knows_its_shifts(self) -> Self:
        sweeps_of(self.shifts)  # here, for a sweep comes after trainings that take days
        return self

    @property
    def part_asked(self) -> Part:
        """Tiles that are asked."""
        return self.part or ("all" if self.kind == "external" else "test")

    @property
    def score_asked(self) -> ScoreName:
        """The score that gives the answer."""
        return self.score or ("auroc" if self.kind == "shortcut" else "balanced_accuracy")


class StudyConfig(Config):
    """Arms, experiments, and how often each arm is trained."""

    name: str = Field(
        "study",
        pattern=f"^{_NAME.pattern}$",
        description="Begins the names of its models: RUN/models/NAME.ARM-SEED.",
        json_schema_extra=expected(_WORDS),
    )
    title: str = Field(
        "",
        description="Heading of the page; the name if not given.",
        json_schema_extra=expected("words"),
    )
    base: Settings = Field(
        {},
        description="Settings of every training, as `train` takes them; or the file that has them.",
        json_schema_extra=expected("settings of train, or a file of them"),
    )
    arms: Arms = Field(
        description="What is compared: a name and the settings that differ from `base`.",
        json_schema_extra=expected(f"names ({_WORDS}), each with settings of train or none"),
    )
    experiments: Annotated[dict[str, ExperimentConfig], BeforeValidator(_arms)] = Field(
        min_length=1,
        description="Questions by name.",
        json_schema_extra=expected(f"names ({_WORDS}), each with a kind"),
    )
    repeats: int = Field(
        5,
        ge=1,
        description="Trainings of every arm, whose seeds count from that of `base`.",
        json_schema_extra=expected("a number of trainings, 1 or more"),
    )
    reference: str = Field(
        description="Arm that every other one is compared with, seed by seed.",
        json_schema_extra=expected("the name of an arm"),
    )
    method: str = Field(
        description="Arm that the answer is about.",
        json_schema_extra=expected("the name of an arm"),
    )

    @model_validator(mode="after")
    def _has_its_arms(self) -> Self:
        for name, experiment in self.experiments.items():
            known = arm_names(self, name)
            asked = {"reference": self.reference, "method": self.method}
            asked |= {"control": experiment.control} if experiment.control else {}
            asked |= {f"paper {arm}": arm for arm in experiment.paper}
            for field_, arm in asked.items():
                if arm not in known:
                    raise ConfigError(
                        f"experiments.{name}: expected {field_} to be an arm of it, got {arm!r}"
                        f"{did_you_mean(arm, known)}; its arms are {', '.join(known)}"
                    )
        if self.reference == self.method:
            raise ConfigError(
                f"method: expected another arm than the reference, got {self.method!r} for both"
            )
        return self


def arm_names(study: StudyConfig, experiment: str) -> tuple[str, ...]:
    """Return the arms of an experiment in order."""
    return tuple(study.experiments[experiment].arms or study.arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm of an experiment: what is trained, and what its models are called."""

    experiment: str
    arm: str
    models: str
    """Name without the seed; the same in every experiment that changes nothing about the arm."""
    config: TrainConfig = field(repr=False)


def arms_of(study: StudyConfig, experiment: str) -> tuple[Arm, ...]:
    """Return the arms of an experiment with their settings.

    Raises
    ------
    ConfigError
        A setting is refused; the arm is named.
    """
    return tuple(_arm(study, experiment, name) for name in arm_names(study, experiment))


def _arm(study: StudyConfig, experiment: str, arm: str) -> Arm:
    asked = study.experiments[experiment]
    own, further = study.arms.get(arm, {}), asked.arms.get(arm, {})
    try:
        config, _ = train_configs(study.base, asked.train, own, further)
    except ConfigError as error:
        raise ConfigError(f"arm {arm} of experiment {experiment}: {error}") from error
    is_shared = arm in study.arms and not asked.train and not further
    models = f"{study.name}.{arm}" if is_shared else f"{study.name}.{experiment}.{arm}"
    return Arm(experiment=experiment, arm=arm, models=models, config=config)


def work_of(study: StudyConfig, flags: Mapping[str, Any]) -> WorkConfig:
    """Return how trainings are carried out: as ``base`` says, flags win."""
    return train_configs(study.base, flags)[1]


def study_config(values: Mapping[str, Any], folder: Path | None = None) -> StudyConfig:
    """Return a checked study, every setting of every arm looked at.

    Parameters
    ----------
    values
        Of its file.
    folder
        In which a file that ``base`` names is looked for.

    Raises
    ------
    ConfigError
        A key is unknown or a value is not what is expected; the experiment or arm is named.
    """
    known = dict(values)
    if isinstance(known.get("base"), str):
        known["base"] = read_yaml((folder or Path()) / known["base"])
    given = known.get("experiments")
    if isinstance(given, Mapping):
        known["experiments"] = {str(name): _experiment(name, each) for name, each in given.items()}
    study = make_config(StudyConfig, known)
    for name in study.experiments:
        arms_of(study, name)
    return study


def _experiment(name: object, values: object) -> Mapping[str, Any]:
    """Return the values of an experiment, once they are checked; errors say which it is."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"experiments.{name}: expected a section with a kind, got {values!r}")
    try:
        make_config(ExperimentConfig, values)
    except ConfigError as error:
        raise ConfigError(f"experiments.{name}: {error}") from error
    return values


def chosen(study: StudyConfig, names: Sequence[str]) -> StudyConfig:
    """Return a study with some of its experiments; all of them for none.

    Raises
    ------
    ConfigError
        There is no experiment of a name.
    """
    for name in names:
        if name not in study.experiments:
            raise ConfigError(
                f"only: expected experiments of the study, {', '.join(study.experiments)}, got {name!r}"
                f"{did_you_mean(name, study.experiments)}"
            )
    kept = {name: each for name, each in study.experiments.items() if not names or name in names}
    return study.model_copy(update={"experiments": kept})
