"""How weights are changed: the optimiser and its learning rate."""

from typing import Literal

from pydantic import Field

from wsi_pipeline.config import Config, expected


class OptimiseConfig(Config):
    """The optimiser. Every field changes the result."""

    optimiser: Literal["adamw", "sgd"] = Field(
        "adamw",
        description="`adamw` (Loshchilov and Hutter, 2019), or `sgd` with Nesterov's momentum.",
        json_schema_extra=expected("adamw or sgd"),
    )
    lr: float = Field(
        1e-3,
        gt=0,
        description="Learning rate at its highest.",
        json_schema_extra=expected("a number above 0"),
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="Of weights, not of biases and norms. If not given 0 with spectral decoupling, as in the "
        "study, and 0.01 without it.",
        json_schema_extra=expected("a number, 0 or more"),
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Of `sgd`; of `adamw` the first of its two.",
        json_schema_extra=expected("a share from 0 to below 1"),
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        description="How the learning rate goes on after the warm-up.",
        json_schema_extra=expected("cosine or constant"),
    )
    warmup: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of all steps over which the learning rate rises from 0 in a line.",
        json_schema_extra=expected("a share from 0 to below 1"),
    )
    final_lr: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Where `cosine` ends, as a share of `lr`.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    clip: float | None = Field(
        1.0,
        gt=0,
        description="Longest gradient over all weights; a longer one is shortened. `null`: none is.",
        json_schema_extra=expected("a number above 0, or null"),
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="Parts in which a batch goes through the network, to need less memory.",
        json_schema_extra=expected("a number of parts, 1 or more"),
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of a moving average of the weights that is validated and kept in their place, "
        "such as 0.999.",
        json_schema_extra=expected("a share above 0 and below 1, or null"),
    )
