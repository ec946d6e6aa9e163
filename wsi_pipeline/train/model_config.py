"""Which network is trained, from which weights, and which parts of it stay as they are."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError

BACKBONE = "backbone"
"""Word for everything but the head."""


def _words(value: object) -> object:
    """Return one word, a number or several of them as a tuple of words.

    >>> _words("backbone"), _words(3), _words(["blocks.0*", "bn1*"])
    (('backbone',), ('3',), ('blocks.0*', 'bn1*'))
    """
    if isinstance(value, str | int) and not isinstance(value, bool):
        return (str(value),)
    return tuple(value) if isinstance(value, list) else value


class ModelConfig(Config):
    """The network. Every field changes the result."""

    name: str = Field(
        "efficientnet_b0",
        min_length=1,
        description="Any model of timm.",
        json_schema_extra=expected("the name of a model of timm, such as efficientnet_b0"),
    )
    pretrained: bool | str = Field(
        default=False,
        description="Begin with timm's weights from its hub (`true`), with those of a file (`.pth`, `.pt`, "
        "`.safetensors`; the head is left out), or from scratch (`false`).",
        json_schema_extra=expected("true, false or a file of weights"),
    )
    head: Literal["single", "classes"] = Field(
        "single",
        description="`single`: one logit, of the second class of two; `classes`: a logit for each class. "
        "More than two classes always have the latter.",
        json_schema_extra=expected("single or classes"),
    )
    image_px: int = Field(
        224,
        ge=8,
        le=4096,
        description="Side of the images that the network sees.",
        json_schema_extra=expected("pixels from 8 to 4096"),
    )
    dropout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the features that is dropped before the head.",
        json_schema_extra=expected("a share from 0 to below 1"),
    )
    stochastic_depth: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Chance by which the last block is left out for a tile; earlier ones less often. 0 for "
        "networks that have none.",
        json_schema_extra=expected("a share from 0 to below 1"),
    )
    stain: Literal["none", "macenko", "reinhard"] = Field(
        "none",
        description="Stain normalisation of every image, in training and test alike.",
        json_schema_extra=expected("none, macenko or reinhard"),
    )
    freeze: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (),
        strict=False,
        description="What keeps its weights, batch statistics included: `backbone` (all but the head), a "
        "number N (the stem and the first N stages), or patterns of names such as `blocks.0*`.",
        json_schema_extra=expected("backbone, a number of stages, or patterns of names"),
    )
    unfreeze_epoch: int | None = Field(
        None,
        ge=1,
        description="Epoch, counted from 0, from which what was frozen is trained too; never if not given.",
        json_schema_extra=expected("a number of an epoch, 1 or more"),
    )
    unfreeze_lr: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Learning rate of what was frozen, as a share of the others'.",
        json_schema_extra=expected("a share above 0, up to 10"),
    )

    @model_validator(mode="after")
    def _something_to_unfreeze(self) -> Self:
        if self.unfreeze_epoch is not None and not self.freeze:
            raise ConfigError(
                f"model.unfreeze_epoch: got {self.unfreeze_epoch}, but nothing is frozen; name it in "
                "model.freeze, such as backbone"
            )
        return self
