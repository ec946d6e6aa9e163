"""What ``label`` is asked to do, and the rule that makes one label of a tile's shares."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.config import Config, RunConfig, did_you_mean, expected, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.coverage import Shares

Choices: TypeAlias = NDArray[np.intp]
"""Of each tile the number of its class, or ``UNLABELLED`` or ``MIXED``; ``(tiles,)``."""

UNLABELLED, MIXED = -1, -2

MOST_CLASSES = 100
"""Of a run; more are names of single shapes and no classes, and would be a column each."""


def _class_name(name: str) -> str:
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise ValueError
    return name


def _several(values: object) -> object:
    """Return what a list or a text with commas holds."""
    if isinstance(values, str):
        return tuple(name.strip() for name in values.split(","))
    return tuple(values) if isinstance(values, list) else values


def _numbers(values: object) -> object:
    """Return each class with a tuple of its values; one value need not be a list."""
    if not isinstance(values, dict):
        return values
    return {
        name: tuple(each) if isinstance(each, (list, tuple)) else (each,)
        for name, each in values.items()
    }


Name = Annotated[
    str, BeforeValidator(lambda name: _class_name(name) if isinstance(name, str) else name)
]
Names = Annotated[tuple[Name, ...], BeforeValidator(_several)]
Share = Annotated[float, Field(gt=0, le=1)]


class LabelConfig(Config):
    """What ``label`` reads, and its rule; every field changes the result, so all are in the digest."""

    annotations: str | None = Field(
        None,
        min_length=1,
        description="Folder with one annotation per slide, named by slide_id or by the slide's file: "
        "`SLIDE.geojson`, `.geojson.gz`, `.zip`, `.json`, `.xml`, `.tif`, `.tiff`, `.png`, each also as "
        "`SLIDE_mask.…` and `SLIDE-labels.…`. The slide table's column `annotation` goes before it.",
        json_schema_extra=expected("a folder"),
    )
    classes: Names = Field(
        (),
        description="The classes there are; shapes of other names are counted and left out. Without it, "
        "every name that is found.",
        json_schema_extra=expected("names of classes"),
    )
    rename: dict[Name, Name] = Field(
        {},
        description="Name in the annotation to class: of a group of ASAP, or of a class of QuPath.",
        json_schema_extra=expected("lines 'name in the file: class'"),
    )
    holes: Names = Field(
        (),
        description="Names whose shapes are cut out of every class, such as `Exclusion`.",
        json_schema_extra=expected("names in the annotation"),
    )
    mask_values: Annotated[dict[Name, tuple[int, ...]], BeforeValidator(_numbers)] = Field(
        {},
        description="Class to its value or values in mask images: `{stroma: 1, cancer: [3, 4, 5]}`. Other "
        "values are counted and left out, 0 silently.",
        json_schema_extra=expected("lines 'class: value' or 'class: [value, value]'"),
    )
    mask_channel: int | None = Field(
        None,
        ge=0,
        le=3,
        description="Channel of mask images that holds the values; without it the first, which must be "
        "the only one that says anything.",
        json_schema_extra=expected("0 to 3"),
    )
    origin: Literal["canvas", "bounds"] | None = Field(
        None,
        description="Where annotations count from: the corner of the slide's whole `canvas`, or of its "
        "scanned part, `bounds`, as QuPath does unless told not to crop. Without it, the canvas; GeoJSON "
        "of a slide where the two differ is then refused.",
        json_schema_extra=expected("canvas or bounds"),
    )
    threshold: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Least share of a tile's footprint that makes a class its label.",
        json_schema_extra=expected("a share above 0, up to 1"),
    )
    thresholds: dict[Name, Share] = Field(
        {},
        description="The same for single classes: `{cancer: 0.1}`.",
        json_schema_extra=expected("lines 'class: share', each above 0, up to 1"),
    )
    priority: Names = Field(
        (),
        description="Classes that go before others where several reach their threshold, first one first. "
        "Among those not named the largest share decides, and of equal shares the first class.",
        json_schema_extra=expected("names of classes"),
    )
    unlabelled: Name | None = Field(
        None,
        description="Label of a tile without any class on an annotated slide; null if not given.",
        json_schema_extra=expected("a name"),
    )
    unlabelled_max: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Largest sum of shares (at most 1) with which a tile that reaches no threshold still "
        "counts as without any class; 1 leaves none mixed.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    mixed: Name | None = Field(
        None,
        description="Label of a tile with more of the classes than that, none of which reaches its "
        "threshold; null if not given.",
        json_schema_extra=expected("a name"),
    )
    no_annotation: Literal["unknown", "nothing"] = Field(
        "unknown",
        description="What it means that a slide has no annotation: that its classes are `unknown` (null), "
        "or that there is `nothing` of them on it (shares of 0), as on the normal slides of a study.",
        json_schema_extra=expected("unknown or nothing"),
    )
    slide_label: str | None = Field(
        None,
        min_length=1,
        description="Column of the slide table that every tile takes as its label, but where a class of an "
        "annotation reaches its threshold.",
        json_schema_extra=expected("a column of the slide table"),
    )

    @model_validator(mode="after")
    def _one_rest(self) -> Self:
        if self.slide_label is not None and (self.unlabelled or self.mixed):
            raise ConfigError(
                "slide_label and unlabelled or mixed: both say what the rest of a slide is; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _known_classes(self) -> Self:
        named = {
            "rename": tuple(self.rename.values()),
            "mask_values": tuple(self.mask_values),
            "thresholds": tuple(self.thresholds),
            "priority": self.priority,
        }
        for field, names in named.items():
            if self.classes and (unknown := sorted(set(names) - set(self.classes))):
                raise ConfigError(
                    f"{field}: expected one of the classes {', '.join(self.classes)}, "
                    f"got {', '.join(unknown)}"
                )
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        values = [value for each in self.mask_values.values() for value in each]
        for field, several in (
            ("mask_values", values),
            ("priority", self.priority),
            ("classes", self.classes),
        ):
            if len(set(several)) < len(several):
                raise ConfigError(
                    f"{field}: expected each one once, got {', '.join(map(str, several))}"
                )
        return self

    def threshold_of(self, name: str) -> float:
        """Return the least share of a class."""
        return self.thresholds.get(name, self.threshold)


def label_configs(values: Mapping[str, Any]) -> tuple[LabelConfig, RunConfig]:
    """Return what to label by and where the work runs, from the keys of a file and flags.

    Raises
    ------
    ConfigError
        A key is unknown or a value is not what is expected.
    """
    carried_out = {name: values[name] for name in ("workers", "cluster") if name in values}
    asked = {name: value for name, value in values.items() if name not in carried_out}
    return make_config(LabelConfig, asked), make_config(RunConfig, carried_out)


def class_of(name: str, config: LabelConfig) -> str | None:
    """Return the class that a shape's name means, or None for one that is not among the classes."""
    meant = config.rename.get(name, name)
    return meant if not config.classes or meant in config.classes else None


def in_order(found: set[str], config: LabelConfig) -> tuple[str, ...]:
    """Return all classes of a run in the order in which equal shares go.

    Raises
    ------
    ConfigError
        There are too many to be classes.
    """
    known = config.classes or tuple(sorted(found | set(config.mask_values)))
    if len(known) > MOST_CLASSES:
        raise ConfigError(
            f"classes: expected at most {MOST_CLASSES}, found {len(known)} ({', '.join(known[:5])}, …); "
            "name those that are wanted with --classes"
        )
    return known


def refuse_misspelt(found: set[str], config: LabelConfig) -> None:
    """Refuse a rule for a class that nothing in the cohort or the configuration knows.

    Such a rule is most likely meant for another class, which would go without it. A class that a cohort
    may have none of is known by ``classes``.

    Raises
    ------
    ConfigError
        There is such a rule; the message names the classes that there are.
    """
    known = {*found, *config.classes, *config.mask_values, *config.rename.values()}
    for field, names in (("thresholds", tuple(config.thresholds)), ("priority", config.priority)):
        if lost := sorted(set(names) - known):
            raise ConfigError(
                f"{field}: no annotation of this run holds {', '.join(lost)}{did_you_mean(lost[0], known)}; "
                f"there are {', '.join(sorted(known)) or 'no classes'}. Classes that a cohort may have none "
                "of are named in classes"
            )


def chosen(shares: Mapping[str, Shares], classes: Sequence[str], config: LabelConfig) -> Choices:
    """Return the class of every tile by the rule.

    A class whose share is at least its threshold may be the label. Of several, the first of ``priority`` is;
    of those not in it the one with the largest share; of equal ones the first of ``classes``. Where none
    may, the tile is unlabelled or mixed by the sum of its shares. There is at least one class.

    >>> config = LabelConfig(threshold=0.5, thresholds={"cancer": 0.1}, priority=("cancer",))
    >>> shares = {"cancer": np.float32([0.2, 0.0]), "stroma": np.float32([0.8, 0.6])}
    >>> chosen(shares, ("cancer", "stroma"), config)
    array([0, 1])
    """
    table = np.stack([shares[name] for name in classes], axis=1)  # (tiles, classes)
    least = np.array([config.threshold_of(name) for name in classes], dtype=np.float32)
    may = table >= least
    order = {name: place for place, name in enumerate(config.priority)}
    before = np.array(
        [2.0 + len(order) - order[name] if name in order else 0.0 for name in classes]
    )
    weight = np.where(may, np.where(before > 0, before, table), -1.0)  # a share is at most 1
    best = np.argmax(weight, axis=1)
    together = np.minimum(table.sum(axis=1, dtype=np.float64), 1.0).astype(np.float32)
    nothing = together <= np.float32(config.unlabelled_max)
    rest = np.where(nothing, UNLABELLED, MIXED)
    return np.where(may.any(axis=1), best, rest)
