"""What is minimised: settings of every term, checked without torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError

DecouplingForm: TypeAlias = Literal["auto", "single", "all", "target", "column"]
Reduction: TypeAlias = Literal["batch", "class_mean"]

BALANCED = "balanced"


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _per_class(value: object) -> object:
    """Return a finite number, or one of each class by its name."""
    values = list(value.values()) if isinstance(value, Mapping) else [value]
    if not values or not all(map(_number, values)):
        raise ValueError
    return (
        {_word(name): each for name, each in value.items()} if isinstance(value, Mapping) else value
    )


def _word(name: object) -> object:
    """Return the name of a class, which YAML takes for a number where it is one."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _not_negative(value: object) -> object:
    checked = _per_class(value)
    numbers: list[Any] = list(checked.values()) if isinstance(checked, dict) else [checked]
    if min(numbers) < 0:
        raise ValueError
    return checked


def _weights(value: object) -> object:
    return value if value in ("none", BALANCED) else _not_negative(_mapping(value))


def _mapping(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004  pydantic's word for a value that is refused
    return value


def _names(value: object) -> object:
    """Return words from a list, or from one text with commas."""
    if isinstance(value, str):
        value = value.split(",")
    return tuple(map(_word, value)) if isinstance(value, list) else value


Numbers: TypeAlias = float | dict[str, float]
PerClass: TypeAlias = Annotated[Numbers, BeforeValidator(_per_class)]
NotNegative: TypeAlias = Annotated[Numbers, BeforeValidator(_not_negative)]

_PER_CLASS = "a number, or one of every class as {class: number}"


class LossConfig(Config):
    """Terms that are added up, and the steps taken with a batch (issue 7)."""

    smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of every target that is spread evenly over all classes (label smoothing).",
        json_schema_extra=expected("a share from 0 to below 1"),
    )
    class_weights: Annotated[str | dict[str, float], BeforeValidator(_weights)] = Field(
        "none",
        description="Factor of a tile's cross-entropy by its class: `none`, `balanced` (tiles / (classes x "
        "tiles of the class), of the training part), or a number of every class.",
        json_schema_extra=expected("none, balanced or {class: number of 0 or more}"),
    )
    decoupling: NotNegative = Field(
        0.0,
        description="λ of spectral decoupling, λ/2 (logit - gamma)²; 0 is without. The study's Eq. 1 has "
        "0.01, its Eq. 2 one of each class.",
        json_schema_extra=expected(f"{_PER_CLASS}, 0 or more"),
    )
    decoupling_gamma: PerClass = Field(
        0.0,
        description="Gamma of Eq. 2: the logit to which a tile is drawn; 0 is Eq. 1.",
        json_schema_extra=expected(_PER_CLASS),
    )
    decoupling_form: DecouplingForm = Field(
        "auto",
        description="Which logits are drawn to which gamma, of a network that has one for each class: `all` "
        "to that of the tile's class, only the `target` class's own, or every `column` to its class's. "
        "`single` is for one logit. `auto`: single or all.",
        json_schema_extra=expected("auto, single, all, target or column"),
    )
    decoupling_reduction: Reduction = Field(
        "batch",
        description="Mean over the `batch`, or the sum over classes of their means (`class_mean`), which "
        "does not depend on how many tiles a class has in the batch.",
        json_schema_extra=expected("batch or class_mean"),
    )
    rare: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        (),
        description="Classes that the asymmetric methods favour; the second of two classes if not given.",
        json_schema_extra=expected("names of classes"),
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="Large margin: taken from the target's logit before the softmax. 0.2 to 2 is usual.",
        json_schema_extra=expected("a number, 0 or more"),
    )
    margin_classes: Literal["all", "rare"] = Field(
        "all",
        description="Whose logits the margin is taken from; `rare` is the asymmetric large margin.",
        json_schema_extra=expected("all or rare"),
    )
    focal: float = Field(
        0.0,
        ge=0,
        description="Power of the focal loss, which damps what is learned already. 2 to 6 is usual.",
        json_schema_extra=expected("a number, 0 or more"),
    )
    focal_classes: Literal["all", "common"] = Field(
        "all",
        description="Whose loss is damped; `common`, all but the rare ones, is the asymmetric focal loss.",
        json_schema_extra=expected("all or common"),
    )
    mixup: float = Field(
        0.0,
        ge=0,
        description="a of the Beta(a, a) by which two images are mixed in a step of its own; 0 is without.",
        json_schema_extra=expected("a number, 0 or more"),
    )
    mixup_labels: Literal["soft", "rare"] = Field(
        "soft",
        description="Targets are mixed as images are, or `rare`: a mixture is rare as soon as it has more "
        "than `mixup_margin` of a rare tile (asymmetric mixup).",
        json_schema_extra=expected("soft or rare"),
    )
    mixup_margin: float = Field(
        0.2,
        ge=0,
        lt=0.5,
        description="Share of a rare tile up to which its mixture with a common one teaches nothing.",
        json_schema_extra=expected("a share from 0 to below 0.5"),
    )
    adversarial: float = Field(
        0.0,
        ge=0,
        description="Length (L2 of a normalised image) of the step towards more loss, taken in a step of its "
        "own; 10 is usual, 0 is without.",
        json_schema_extra=expected("a length, 0 or more"),
    )
    adversarial_classes: Literal["all", "rare"] = Field(
        "rare",
        description="Which tiles are changed.",
        json_schema_extra=expected("all or rare"),
    )
    adversarial_start: float = Field(
        1e-5,
        gt=0,
        description="Length of the random step from which that direction is found.",
        json_schema_extra=expected("a length above 0"),
    )
    clean_step: bool = Field(
        default=True,
        description="Take a step with images as they are before those of `adversarial` and `mixup`.",
        json_schema_extra=expected("true or false"),
    )

    @property
    def decouples(self) -> bool:
        """Whether logits are decoupled; weight decay is then 0 unless it is asked for."""
        values = (
            self.decoupling.values() if isinstance(self.decoupling, dict) else [self.decoupling]
        )
        return any(value > 0 for value in values)

    @property
    def asks_who_is_rare(self) -> bool:
        """Whether a method is on that tells rare classes from common ones."""
        return (
            (self.margin > 0 and self.margin_classes == "rare")
            or (self.focal > 0 and self.focal_classes == "common")
            or (self.mixup > 0 and self.mixup_labels == "rare")
            or (self.adversarial > 0 and self.adversarial_classes == "rare")
        )

    @model_validator(mode="after")
    def _takes_a_step(self) -> Self:
        if not self.clean_step and not self.mixup and not self.adversarial:
            raise ConfigError(
                "clean_step: expected true, or mixup or adversarial above 0, as no step is left; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _gamma_has_a_strength(self) -> Self:
        if self.decoupling_gamma != 0 and not self.decouples:
            raise ConfigError(
                f"decoupling_gamma: expected decoupling above 0 beside {self.decoupling_gamma}; give "
                "decoupling, or leave out decoupling_gamma"
            )
        return self


def per_class(name: str, value: Numbers, classes: Sequence[str]) -> tuple[float, ...]:
    """Return a number for every class, in their order.

    >>> per_class("decoupling", {"cancer": 0.1, "benign": 0.2}, ("benign", "cancer"))
    (0.2, 0.1)

    Raises
    ------
    ConfigError
        A class has none, or a name is no class.
    """
    if not isinstance(value, dict):
        return (float(value),) * len(classes)
    if wrong := sorted(value.keys() ^ set(classes)):
        raise ConfigError(
            f"{name}: expected a number of each of {', '.join(classes)}, got {', '.join(value)}; "
            f"differs: {', '.join(wrong)}"
        )
    return tuple(float(value[each]) for each in classes)


def rare_of(config: LossConfig, classes: Sequence[str]) -> tuple[bool, ...]:
    """Return which classes are rare, in their order; none where no method asks.

    Raises
    ------
    ConfigError
        A name is no class, all are rare, or there are more than two classes and none is named.
    """
    if wrong := [name for name in config.rare if name not in classes]:
        raise ConfigError(
            f"rare: expected some of {', '.join(classes)}, got {', '.join(wrong)}; correct the name"
        )
    if not config.asks_who_is_rare:
        return (False,) * len(classes)
    if not config.rare and len(classes) != 2:
        raise ConfigError(
            f"rare: expected some of {', '.join(classes)}, as an asymmetric method is on; name them"
        )
    named = config.rare or (classes[1],)
    if len(set(named)) == len(classes):
        raise ConfigError("rare: expected a class that is not rare, got all of them; leave one out")
    return tuple(name in named for name in classes)


def weights_of(
    config: LossConfig, classes: Sequence[str], tiles: Mapping[str, int] | None
) -> tuple[float, ...]:
    """Return the factor of each class's cross-entropy, in their order.

    Balanced ones are N / (C n_c), whose mean over the tiles is 1.

    Parameters
    ----------
    tiles
        Of each class in the training part; only balanced weights need it.

    Raises
    ------
    ConfigError
        They are balanced and a class has no tiles.
    """
    if config.class_weights == "none":
        return (1.0,) * len(classes)
    if isinstance(config.class_weights, dict):
        return per_class("class_weights", config.class_weights, classes)
    counts = [0 if tiles is None else tiles.get(name, 0) for name in classes]
    if empty := [name for name, count in zip(classes, counts, strict=True) if count < 1]:
        raise ConfigError(
            f"class_weights: balanced needs tiles of every class in the training part, "
            f"{', '.join(empty)} has none; give numbers, or another split"
        )
    return tuple(sum(counts) / (len(classes) * count) for count in counts)
