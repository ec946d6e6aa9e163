"""What ``split`` is asked for."""

import re
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.groups import GroupBy

MOST_FOLDS = 127
"""``fold`` is an int8."""


def _size(value: object) -> object:
    """Return a number of groups, or a share of them: what has a decimal point is a share."""
    if isinstance(value, str):
        value = float(value) if "." in value else int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_count and not (isinstance(value, float) and 0 < value < 1):
        raise ValueError
    return value


def _several(value: object) -> object:
    """Return words from a list, or from one text with commas; ``none`` is no word."""
    if isinstance(value, str):
        value = [] if value == "none" else value.split(",")
    return tuple(value) if isinstance(value, list) else value


def _pairs(value: object) -> object:
    """Return pairs from a list, or from one text: a comma divides where another ``COLUMN=`` follows it.

    >>> _pairs("centre=Turku, FI,scanner=B")
    ('centre=Turku, FI', 'scanner=B')
    """
    if not isinstance(value, str) or value == "none":
        return _several(value)
    return tuple(re.split(r",\s*(?=[^=,]+=)", value))


Part = Annotated[int | float | None, BeforeValidator(_size)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_several)]
Held = Annotated[tuple[Annotated[str, Field(pattern=r"^[^=]+=.+$")], ...], BeforeValidator(_pairs)]

_PART = "groups (5), or their share with a decimal point (0.2)"


class SplitConfig(Config):
    """What ``split`` makes of a run. Every field changes the result, so every field is in the digest."""

    group: GroupBy = Field(
        "patient",
        description="What is never divided: the slides of a `patient` or of a `centre`. `slide` says that a "
        "slide without patient_id is a group of its own; those of a known patient stay together.",
        json_schema_extra=expected("patient, slide or centre"),
    )
    test: Part = Field(
        None,
        description="Groups in the test part; 0.2 if not given, with `folds` and `hold_out` none drawn.",
        json_schema_extra=expected(_PART),
    )
    validation: Part = Field(
        None,
        description="Groups in the validation part; 0.1 if not given. With `folds` each fold is it in turn.",
        json_schema_extra=expected(_PART),
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=MOST_FOLDS,
        description="Folds for cross-validation, numbered from 0 in the column `fold`, of all that is not "
        "in the test part.",
        json_schema_extra=expected(f"a number of folds from 2 to {MOST_FOLDS}"),
    )
    repeats: int = Field(
        1,
        ge=1,
        le=1000,
        description="Independent draws: `split`, `split_2`, … (`fold`, `fold_2`, …). With `folds` the test "
        "part is the same in all of them.",
        json_schema_extra=expected("a number of draws from 1 to 1000"),
    )
    hold_out: Held = Field(
        (),
        description="`COLUMN=VALUE`, such as scanner=B: every group with such a slide is the test part. A "
        "value may have commas.",
        json_schema_extra=expected("COLUMN=VALUE, such as scanner=B or centre=south"),
    )
    stratify: Names = Field(
        ("label", "scanner"),
        description="What every part is to have its share of: `label` (shares of the classes) and columns of "
        "the slide table. Without being asked for, what the run does not have is left out.",
        json_schema_extra=expected("names of columns, or none"),
    )
    from_file: str | None = Field(
        None,
        min_length=1,
        description="A list made by hand: CSV or Parquet with `split` and `patient_id` or `slide_id`. "
        "Nothing is drawn.",
        json_schema_extra=expected("a CSV or Parquet file"),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Another number draws other groups.",
        json_schema_extra=expected("a whole number, 0 or more"),
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = self.model_fields_set
        if self.from_file is not None:
            drawn = {"test", "validation", "folds", "repeats", "hold_out", "stratify", "seed"}
            _refuse_both("from_file", given & drawn, "a list leaves nothing to draw")
        if self.folds is not None:
            _refuse_both(
                "folds", given & {"validation"}, "each fold is the validation part in turn"
            )
        if self.hold_out:
            _refuse_both("hold_out", given & {"test"}, "what is held out is the test part")
        return self


def _refuse_both(name: str, others: set[str], why: str) -> None:
    if others:
        raise ConfigError(f"{name} and {', '.join(sorted(others))}: {why}; leave one of them out")
