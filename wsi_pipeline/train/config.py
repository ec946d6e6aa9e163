"""What a training is asked for: sections of a YAML file, paths such as ``loss.decoupling``, and flags."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from wsi_pipeline.augment.config import AugmentConfig
from wsi_pipeline.augment.shortcut_config import ShortcutConfig
from wsi_pipeline.config import Config, ConfigT, expected, make_config, split_values
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.loss_config import LossConfig
from wsi_pipeline.train.model_config import ModelConfig
from wsi_pipeline.train.optimise_config import OptimiseConfig

DEFAULT_DECAY = 0.01
"""Weight decay where there is no decoupling: AdamW's usual one."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""What YAML 1.1 takes for a word: 1e-3 without a dot."""


class TrainConfig(Config):
    """What is learnt, from which tiles. Every field changes the result, so every field is in the digest."""

    model: ModelConfig = Field(
        ModelConfig(),
        description="The network.",
        json_schema_extra=expected("the section model"),
    )
    loss: LossConfig = Field(
        LossConfig(),
        description="What is minimised.",
        json_schema_extra=expected("the section loss"),
    )
    augment: AugmentConfig = Field(
        AugmentConfig(),
        description="How training images are changed.",
        json_schema_extra=expected("the section augment"),
    )
    shortcut: ShortcutConfig = Field(
        ShortcutConfig(),
        description="What is put into some tiles on purpose, to see whether it is learnt.",
        json_schema_extra=expected("the section shortcut"),
    )
    optimise: OptimiseConfig = Field(
        OptimiseConfig(),
        description="How weights are changed.",
        json_schema_extra=expected("the section optimise"),
    )
    target: str = Field(
        "label",
        min_length=1,
        description="Column of the manifest that is learnt: words, or whole numbers from 0.",
        json_schema_extra=expected("the name of a column"),
    )
    classes: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Words of the target in order of their number; of two, the second is the positive one. "
        "In order of the alphabet if not given.",
        json_schema_extra=expected("words"),
    )
    where: str | None = Field(
        None,
        min_length=1,
        description="Further condition on tiles of both parts, such as `laplacian_var > 50`.",
        json_schema_extra=expected("an expression of the manifest's columns"),
    )
    split: str = Field(
        "split",
        pattern=r"^split(_[0-9]+)?$",
        description="Column that says train or validation; `split_2` is the second draw of "
        "`split --repeats`.",
        json_schema_extra=expected("split, split_2, ..."),
    )
    fold: int | None = Field(
        None,
        ge=0,
        description="Fold that validates; the others train. Without it the parts of `split`.",
        json_schema_extra=expected("the number of a fold, 0 or more"),
    )
    weight: str | None = Field(
        None,
        description="Column of numbers that are the tiles' weights; 1 if not given.",
        json_schema_extra=expected("the name of a column"),
    )
    balance: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Columns by which an epoch has as many training tiles of each.",
        json_schema_extra=expected("names of columns"),
    )
    per_group: int | None = Field(
        None,
        ge=1,
        description="Tiles of each group of `balance` in an epoch; as many as the smallest has if not given.",
        json_schema_extra=expected("a number of tiles, 1 or more"),
    )
    load_px: int | None = Field(
        None,
        ge=1,
        description="Side to which tiles are averaged before they are cropped; their own if not given.",
        json_schema_extra=expected("pixels, 1 or more"),
    )
    shrink: Literal[1, 2, 4] = Field(
        1,
        description="JPEG tiles are decoded at 1, 1/2 or 1/4 of their size first, which is quicker.",
        json_schema_extra=expected("1, 2 or 4"),
    )
    decoder: Literal["cpu", "cuda"] = Field(
        "cpu",
        description="What decodes JPEG tiles: `cuda` is the GPU (nvJPEG), whose pixels differ by a few gray "
        "levels; needs the extra `gpu`.",
        json_schema_extra=expected("cpu or cuda"),
    )
    batch_size: int = Field(
        64,
        ge=1,
        description="Tiles of a step, of all ranks together.",
        json_schema_extra=expected("a number of tiles, 1 or more"),
    )
    epochs: int = Field(
        30,
        ge=1,
        description="Times that training tiles are gone through, at the most.",
        json_schema_extra=expected("a number of epochs, 1 or more"),
    )
    patience: int | None = Field(
        10,
        ge=1,
        description="Epochs without a lower validation loss after which training ends; `null`: it does not.",
        json_schema_extra=expected("a number of epochs, 1 or more, or null"),
    )
    probe_tiles: int = Field(
        2048,
        ge=0,
        description="Training tiles, always the same ones, that are looked at unchanged beside validation.",
        json_schema_extra=expected("a number of tiles, 0 or more"),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Another one is another order, other first weights and other random changes.",
        json_schema_extra=expected("a whole number, 0 or more"),
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Of the network's arithmetic; weights and losses are float32 in any case.",
        json_schema_extra=expected("fp32, bf16 or fp16"),
    )

    @property
    def weight_decay(self) -> float:
        """What the optimiser takes: as asked for, else 0 beside decoupling."""
        if self.optimise.weight_decay is not None:
            return self.optimise.weight_decay
        return 0.0 if self.loss.decouples else DEFAULT_DECAY


class WorkConfig(Config):
    """How a training is carried out. Nothing here changes what is learnt by more than rounding."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$",
        description="`auto` is the GPU of this rank where there is one, else the CPU.",
        json_schema_extra=expected("auto, cpu, cuda or cuda:N"),
    )
    workers: int = Field(
        0,
        ge=0,
        description="Processes that decode tiles; with 0 threads of this one do.",
        json_schema_extra=expected("a number of processes, 0 or more"),
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="Threads that decode tiles; every core if not given.",
        json_schema_extra=expected("a number of threads, 1 or more"),
    )
    cache: str | None = Field(
        None,
        description="Folder on a local disk for shards of remote runs.",
        json_schema_extra=expected("a folder"),
    )
    checkpoint_minutes: float = Field(
        10.0,
        gt=0,
        description="Between two checkpoints within an epoch; every epoch ends with one.",
        json_schema_extra=expected("minutes, above 0"),
    )
    channels_last: bool = Field(
        default=True,
        description="Keep images with the channel as the last axis in memory, as convolutions on GPUs "
        "like it.",
        json_schema_extra=expected("true or false"),
    )
    compile: bool = Field(
        default=False,
        description="Compile the network with torch.compile: minutes at the start, quicker steps.",
        json_schema_extra=expected("true or false"),
    )
    deterministic: bool = Field(
        default=False,
        description="Take only algorithms that repeat themselves to the bit on GPUs; the CPU's do anyway.",
        json_schema_extra=expected("true or false"),
    )


SECTIONS: dict[str, type[Config]] = {
    "model": ModelConfig,
    "loss": LossConfig,
    "augment": AugmentConfig,
    "shortcut": ShortcutConfig,
    "optimise": OptimiseConfig,
}


def train_configs(*sources: Mapping[str, Any]) -> tuple[TrainConfig, WorkConfig]:
    """Return both configurations from files and flags; later sources win, section by section.

    Keys are those of the classes, or paths with dots.

    >>> config, work = train_configs({"optimise": {"lr": "1e-4"}}, {"optimise.clip": None, "workers": 2})
    >>> config.optimise.lr, config.optimise.clip, work.workers
    (0.0001, None, 2)

    Raises
    ------
    ConfigError
        A key is unknown or a value is not what is expected; the section is named.
    """
    values: dict[str, Any] = {}
    for source in sources:
        _merge(values, source)
    learnt, carried_out = split_values(values, TrainConfig, WorkConfig)
    for name, kind in SECTIONS.items():
        if name in learnt:
            learnt[name] = _section(name, kind, learnt[name])
    return make_config(TrainConfig, learnt), make_config(WorkConfig, carried_out)


def nested(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """Return a configuration with other values at some paths.

    >>> nested(TrainConfig(), {"optimise.lr": 0.5}).optimise.lr
    0.5
    """
    return train_configs(given_values(config), changes)[0]


def given_values(config: TrainConfig) -> dict[str, Any]:
    """Return the values of a configuration as ``train_configs`` takes them."""
    return config.model_dump(mode="json")


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return values of sections by their paths.

    >>> flat({"model": {"name": "resnet18"}, "seed": 0})
    {'model.name': 'resnet18', 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in SECTIONS and isinstance(value, Mapping):
            found.update({f"{above}{name}.{key}": each for key, each in value.items()})
        else:
            found[f"{above}{name}"] = value
    return found


def _merge(values: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        section, dot, name = str(key).partition(".")
        if dot and section in SECTIONS:
            _merge(_inside(values, section), {name: value})
        elif key in SECTIONS and (value is None or isinstance(value, Mapping)):
            _merge(_inside(values, section), value or {})
        else:
            values[str(key)] = _number(value)


def _inside(values: dict[str, Any], section: str) -> dict[str, Any]:
    """Return what a section holds so far.

    Raises
    ------
    ConfigError
        It was given as something else.
    """
    found = values.setdefault(section, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{section}: expected a section of 'key: value', got {found!r}")
    return found


def _number(value: Any) -> Any:  # noqa: ANN401  of YAML
    """Return 1e-3 as a number, which YAML 1.1 takes for a word; in lists and mappings too."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _number(each) for name, each in value.items()}
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


def _section(name: str, kind: type[ConfigT], values: object) -> ConfigT:
    if isinstance(values, kind):
        return values
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: expected a section of 'key: value', got {values!r}")
    try:
        return make_config(kind, values)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(f"{name}.") else f"{name}: {text}") from error
