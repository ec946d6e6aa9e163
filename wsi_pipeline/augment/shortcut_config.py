"""A shortcut put into tiles on purpose: which, how strong, and how many tiles of each class carry it.

>>> config = ShortcutConfig(kind="cutout", train={"benign": 0.25, "cancer": 0.025}, test={"cancer": 1})
>>> shares_of(config, "test", ("benign", "cancer"))
(0.0, 1.0)
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, TypeAlias, get_args

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError

ShortcutRule: TypeAlias = Literal["none", "train", "test"]

SHORTCUT_RULES: tuple[ShortcutRule, ...] = get_args(ShortcutRule)
"""By which shares tiles that are looked at carry it; by ``none``, none does."""


def _shares(value: object) -> object:
    """Return a share, or one of each class by its name, which YAML takes for a number where it is one."""
    if not isinstance(value, Mapping):
        return _share(value)
    return {_word(name): _share(each) for name, each in value.items()}


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def _word(name: object) -> object:
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _color(value: object) -> object:
    """Return red, green and blue from a list, or from one text with commas."""
    if isinstance(value, str):
        value = [int(part) for part in value.split(",")]
    return tuple(value) if isinstance(value, list) else value


Shares: TypeAlias = Annotated[float | dict[str, float], BeforeValidator(_shares)]
Gray: TypeAlias = Annotated[int, Field(ge=0, le=255)]

_SHARES = "a share from 0 to 1, or one of each class as {class: share}"


class ShortcutConfig(Config):
    """Something that a network can take for the class; tiles are changed on the fly, never copied (issue 8).

    Pohjonen et al. (2022), section 3.1: squares are cut out of 25 % of benign and 2.5 % of cancer in
    training; in the test out of all cancer and no benign; in the control out of all that is learnt.
    """

    kind: Literal["none", "cutout", "high_pass", "stain"] = Field(
        "none",
        description="`cutout`: squares of one colour. `high_pass`: fine detail is emphasised, as a "
        "scanner's sharpening does. `stain`: more haematoxylin and less eosin. `none`: nothing.",
        json_schema_extra=expected("none, cutout, high_pass or stain"),
    )
    train: Shares = Field(
        0.0,
        description="Share of each class's tiles that carry it in the train and the validation part; one "
        "number is for every class, classes that are not named carry none.",
        json_schema_extra=expected(_SHARES),
    )
    test: Shares = Field(
        0.0,
        description="The same for `evaluate --shortcut test`.",
        json_schema_extra=expected(_SHARES),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Another one is other tiles, and other places of the squares. Not the training's, so "
        "that repeats have the same tiles.",
        json_schema_extra=expected("a whole number, 0 or more"),
    )
    size: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Side of a square of `cutout`, as a share of the tile's.",
        json_schema_extra=expected("a share above 0, up to 1"),
    )
    count: int = Field(
        1,
        ge=1,
        le=64,
        description="Squares of a tile; they may overlap, and lie wholly inside it.",
        json_schema_extra=expected("a whole number from 1 to 64"),
    )
    color: Annotated[tuple[Gray, Gray, Gray], BeforeValidator(_color)] = Field(
        (0, 0, 0),
        description="Red, green and blue of the squares.",
        json_schema_extra=expected("three whole numbers from 0 to 255 (0,0,0)"),
    )
    strength: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Of `high_pass`: x + 9 strength (x - mean of 3 x 3), as in the sharpening sweep, where 1 "
        "is the whole kernel. Of `stain`: haematoxylin times 1 + this, eosin times 1 - this.",
        json_schema_extra=expected("a number above 0, up to 1"),
    )

    @model_validator(mode="after")
    def _somebody_carries_it(self) -> Self:
        if self.kind != "none" and not any(map(_any_share, (self.train, self.test))):
            raise ConfigError(
                f"shortcut.train: expected {_SHARES}, above 0 for some class here or in shortcut.test, as "
                f"kind is {self.kind}; got none"
            )
        return self


def _any_share(shares: float | dict[str, float]) -> bool:
    return any(shares.values()) if isinstance(shares, dict) else shares > 0


def shares_of(
    config: ShortcutConfig, rule: ShortcutRule, classes: Sequence[str]
) -> tuple[float, ...]:
    """Return the share of every class, in their order, that carries the shortcut by a rule.

    Raises
    ------
    ConfigError
        A name is no class.
    """
    check_classes(config, classes)
    if rule == "none" or config.kind == "none":
        return (0.0,) * len(classes)
    given = config.train if rule == "train" else config.test
    if not isinstance(given, dict):
        return (given,) * len(classes)
    return tuple(given.get(name, 0.0) for name in classes)


def check_classes(config: ShortcutConfig, classes: Sequence[str]) -> None:
    """Refuse shares of what is no class.

    Raises
    ------
    ConfigError
        A name is none.
    """
    for field, given in (("train", config.train), ("test", config.test)):
        named = given if isinstance(given, dict) else {}
        if wrong := sorted(named.keys() - set(classes)):
            raise ConfigError(
                f"shortcut.{field}: expected shares of {', '.join(classes)}, got {', '.join(wrong)}; correct "
                "the name"
            )
