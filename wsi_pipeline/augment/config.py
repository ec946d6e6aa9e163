"""How images are changed at random: what, how far, how often."""

from collections.abc import Mapping
from typing import Annotated, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError

Ranges: TypeAlias = tuple[tuple[float, float], ...]
"""From what to below what each of an operation's values is drawn."""

OPERATIONS: Mapping[str, Ranges] = {
    "shear_x": ((-0.3, 0.3),),
    "shear_y": ((-0.3, 0.3),),
    "translate_x": ((-0.45, 0.45),),
    "translate_y": ((-0.45, 0.45),),
    "rotate": ((-30.0, 30.0),),
    "autocontrast": (),
    "invert": (),
    "equalize": (),
    "solarize": ((0.0, 256.0),),
    "posterize": ((4.0, 9.0),),
    "contrast": ((0.1, 1.9),),
    "color": ((0.1, 1.9),),
    "brightness": ((0.1, 1.9),),
    "sharpness": ((0.1, 1.9),),
    "cutout": ((0.0, 0.2), (0.0, 1.0), (0.0, 1.0)),
}
"""UniformAugment's operations and ranges: shares of the side, degrees, gray levels, whole bits, factors.

Bits are rounded down, so that 4 to 8 are kept.
"""


def _several(value: object) -> object:
    """Return words from a list, or from one text with commas; ``none`` is no word, ``all`` is every one."""
    if isinstance(value, str):
        value = {"none": [], "all": list(OPERATIONS)}.get(value, value.split(","))
    return tuple(value) if isinstance(value, list) else value


def _pair(value: object) -> object:
    """Return two numbers from a list, or from one text with a comma."""
    if isinstance(value, str):
        value = [float(part) for part in value.split(",")]
    return tuple(map(float, value)) if isinstance(value, list | tuple) else value


Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_several)]
Pair: TypeAlias = Annotated[tuple[float, float], BeforeValidator(_pair)]


class AugmentConfig(Config):
    """What is done to an image before it is trained on; every field changes what a network sees."""

    crop: Pair = Field(
        (0.5, 1.0),
        description="Share of an image's area that is cut out at random and brought to the network's size; "
        "`1,1` takes the whole image.",
        json_schema_extra=expected("two shares above 0 up to 1, the smaller first (0.5,1)"),
    )
    crop_ratio: Pair = Field(
        (0.75, 4 / 3),
        description="Width by height of what is cut out.",
        json_schema_extra=expected("two ratios, one up to 1 and one from 1 on (0.75,1.33)"),
    )
    flip: bool = Field(
        default=True,
        description="Mirror every other image.",
        json_schema_extra=expected("true or false"),
    )
    quarter_turns: bool = Field(
        default=True,
        description="Turn images by 0, 90, 180 or 270 degrees.",
        json_schema_extra=expected("true or false"),
    )
    operations: Names = Field(
        tuple(OPERATIONS),
        description="Operations of UniformAugment to choose from; `all`, `none`.",
        json_schema_extra=expected(f"words of {', '.join(OPERATIONS)}; all or none"),
    )
    most: int = Field(
        2,
        ge=0,
        le=15,
        description="Operations of an image at the most; each is applied or not, half of them on average.",
        json_schema_extra=expected("a whole number from 0 to 15"),
    )
    hed: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Jitter of haematoxylin, eosin and the third stain: each times 1 ± this, plus ± this.",
        json_schema_extra=expected("a number from 0 (off) to 1; 0.05 is usual"),
    )
    elastic: float = Field(
        0.0,
        ge=0,
        le=64,
        description="Standard deviation in pixels by which the nodes of a 4 x 4 grid are moved.",
        json_schema_extra=expected("pixels from 0 (off) to 64"),
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=128,
        description="Greatest standard deviation of Gaussian noise in gray levels.",
        json_schema_extra=expected("gray levels from 0 (off) to 128"),
    )
    blur: float = Field(
        0.0,
        ge=0,
        le=16,
        description="Greatest standard deviation in pixels of a Gaussian blur.",
        json_schema_extra=expected("pixels from 0 (off) to 16"),
    )

    @model_validator(mode="after")
    def _known_operations(self) -> Self:
        if unknown := [name for name in self.operations if name not in OPERATIONS]:
            raise ConfigError(
                f"operations: expected words of {', '.join(OPERATIONS)}, got {', '.join(unknown)}"
            )
        if len(set(self.operations)) < len(self.operations):
            raise ConfigError(
                f"operations: expected every word once, got {', '.join(self.operations)}; an operation "
                "named twice would come twice as often"
            )
        return self

    @model_validator(mode="after")
    def _pairs_in_order(self) -> Self:
        low, high = self.crop
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"crop: expected two shares above 0 up to 1, the smaller first, got {low:g},{high:g}"
            )
        narrow, wide = self.crop_ratio
        if not 0 < narrow <= 1 <= wide:
            raise ConfigError(
                "crop_ratio: expected a ratio up to 1 and one from 1 on, so that a square can be cut, got "
                f"{narrow:g},{wide:g}"
            )
        return self
