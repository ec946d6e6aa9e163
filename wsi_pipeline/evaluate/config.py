"""What ``evaluate`` is asked to do, from a file and flags; no torch.

>>> asked, work = evaluate_configs({"model": "sd-*", "heat_maps": "png", "device": "cpu"}, {"part": "all"})
>>> asked.model, asked.part, asked.heat_maps.kinds, work.device
(('sd-*',), 'all', ('png',), 'cpu')
"""

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from wsi_pipeline.augment.shortcut_config import ShortcutRule
from wsi_pipeline.config import Config, expected, make_config, split_values
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.maps.config import CamConfig, HeatConfig, Words
from wsi_pipeline.evaluate.question import Part, Question, Tta
from wsi_pipeline.evaluate.score.bootstrap import REPLICATES
from wsi_pipeline.evaluate.sweep.shift_config import PLACES, Place, sweeps_of
from wsi_pipeline.train.config import WorkConfig

_SECTIONS: Mapping[str, tuple[str, type[Config]]] = {
    "heat_maps": ("kinds", HeatConfig),
    "cam": ("method", CamConfig),
}
"""Sections that may be given as one word, and what that word is then."""

_WORDS: Mapping[object, str] = {True: "on"}
"""YAML 1.1 takes this word for a truth value, also where it is a key."""


def _each(value: object) -> object:
    """Return what may be given again as a tuple; commas in it stay, as those of levels."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


_Several: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_each)]


class EvaluateConfig(Config):
    """Who is asked, of which tiles, and what is drawn of the answers."""

    model: _Several = Field(
        ("model",),
        min_length=1,
        description="Names of RUN/models, patterns such as sd-*, or a name of repeats.",
        json_schema_extra=expected("a name, or a list of names"),
    )
    part: Part = Field(
        "test",
        description="Which tiles; all: whatever part they are in.",
        json_schema_extra=expected("train, validation, test or all"),
    )
    on: str | None = Field(
        None,
        min_length=1,
        description="Another run whose tiles are asked for; the model's own if not given.",
        json_schema_extra=expected("a run directory, or its URL"),
    )
    where: str | None = Field(
        None,
        min_length=1,
        description="Further condition on tiles.",
        json_schema_extra=expected("an expression such as scanner == 'B'"),
    )
    shortcut: ShortcutRule = Field(
        "none",
        description="By which of the model's own rules a shortcut is put into tiles.",
        json_schema_extra=expected("none, train or test"),
    )
    tta: Tta = Field(
        "none",
        description="Views of a tile: as it is, mirrored (4), or turned too (8).",
        json_schema_extra=expected("none, flips or d4"),
    )
    ensemble: str | None = Field(
        None,
        min_length=1,
        description="What several models are called as one; the name of repeats if all of them are asked.",
        json_schema_extra=expected("a name"),
    )
    replicates: int = Field(
        REPLICATES,
        ge=0,
        description="Draws of patients of each interval of predictions; 0: no intervals ([what they "
        "are](../concepts/statistics.md)). The last command's number holds.",
        json_schema_extra=expected("a number of draws, 0 or more"),
    )
    sweep: _Several = Field(
        (),
        description="Changes of tiles, step by step ([which](../how-to/robustness.md)).",
        json_schema_extra=expected("a list such as [box_blur, 'sharpen:0,0.5,1']"),
    )
    apply_at: Literal["source", "input", "both"] | None = Field(
        None,
        description="What a sweep changes: the stored tile, `source`, if not given, or the image of the "
        "network's size.",
        json_schema_extra=expected("source, input or both"),
    )
    keep_logits: bool = Field(
        default=False,
        description="Keep each tile's logits at every level of a sweep too.",
        json_schema_extra=expected("true or false"),
    )
    heat_maps: HeatConfig | None = Field(
        None,
        description="Probabilities painted on the slides: kinds, or the section below.",
        json_schema_extra=expected("png, ome-tiff, geojson, several of them, or a section"),
    )
    cam: CamConfig | None = Field(
        None,
        description="Where in each tile a class is seen: a method, or the section below.",
        json_schema_extra=expected("gradcam, hirescam, or a section"),
    )
    collage: bool = Field(
        default=False,
        description="Draw the surest hits and misses of each class.",
        json_schema_extra=expected("true or false"),
    )
    slides: Words | None = Field(
        None,
        min_length=1,
        description="slide_ids whose maps are drawn; all that have predictions if not given.",
        json_schema_extra=expected("names of slides"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sweep:
            sweeps_of(self.sweep)
            self._refuse_what_is_not_swept()
        else:
            self._refuse_without_sweep()
        if self.slides is not None and self.heat_maps is None and self.cam is None:
            raise ConfigError(
                "slides: expected together with heat_maps or cam, got it alone; leave it out, or choose the "
                "tiles that are asked for with where"
            )
        return self

    def _refuse_what_is_not_swept(self) -> None:
        """Refuse what cannot be asked along a sweep.

        Raises
        ------
        ConfigError
            Views of tiles, tiles with a shortcut, or networks as one.
        """
        if self.tta != "none":
            raise ConfigError(
                f"sweep: expected one view of each tile, got tta {self.tta}; leave tta out, or leave sweep "
                "out to ask the views of tiles as they are"
            )
        if self.shortcut != "none":
            raise ConfigError(
                f"sweep: expected tiles without a shortcut, got shortcut {self.shortcut}; leave shortcut "
                "out, or leave sweep out to ask tiles that carry it as they are"
            )
        if self.ensemble is not None:
            raise ConfigError(
                f"sweep: expected models one by one, got ensemble {self.ensemble}; leave ensemble out: "
                "repeats (model NAME) are drawn as their mean and its spread; or leave sweep out to ask them "
                "as one"
            )

    def _refuse_without_sweep(self) -> None:
        """Refuse settings that say something of a sweep where there is none.

        Raises
        ------
        ConfigError
            One is given.
        """
        given = {"apply_at": self.apply_at is not None, "keep_logits": self.keep_logits}
        for name, is_given in given.items():
            if is_given:
                raise ConfigError(
                    f"{name}: expected together with sweep, got it alone; add a sweep, such as box_blur, or "
                    f"leave {name} out"
                )

    @property
    def question(self) -> Question:
        """Which tiles the networks are asked for, and how."""
        return Question(
            part=self.part, on=self.on, where=self.where, tta=self.tta, shortcut=self.shortcut
        )

    @property
    def places(self) -> tuple[Place, ...]:
        """What sweeps change."""
        return PLACES if self.apply_at == "both" else (self.apply_at or "source",)

    @property
    def slides_named(self) -> tuple[str, ...]:
        """slide_ids of which maps are drawn; none where they are of all."""
        named = [each.slides or () for each in (self.heat_maps, self.cam) if each is not None]
        return tuple(dict.fromkeys(chain.from_iterable(named)))

    @property
    def draws(self) -> bool:
        """Whether there are maps or a collage to draw."""
        return self.heat_maps is not None or self.cam is not None or self.collage


def evaluate_configs(*sources: Mapping[str, Any]) -> tuple[EvaluateConfig, WorkConfig]:
    """Return what is asked and how that is carried out, from a file and flags; later sources win.

    Raises
    ------
    ConfigError
        A key is unknown, a value is not what is expected, or a sweep cannot be asked so.
    """
    values: dict[str, Any] = {}
    for source in sources:
        if "slides" in source:  # of every map: those of a section of an earlier source are others
            for name in _SECTIONS:
                (values.get(name) or {}).pop("slides", None)
        for key, value in source.items():
            name = _WORDS.get(key, key)
            values[name] = _merged(name, values.get(name), value) if name in _SECTIONS else value
    asked, carried_out = split_values(values, EvaluateConfig, WorkConfig)
    slides = asked.get("slides")
    for name, (_, kind) in _SECTIONS.items():
        if asked.get(name) is not None:
            asked[name] = _section(name, kind, {"slides": slides, **asked[name]})
    return make_config(EvaluateConfig, asked), make_config(WorkConfig, carried_out)


def _merged(name: str, before: Mapping[str, Any] | None, given: object) -> dict[str, Any] | None:
    """Return a section with what a later source says; one word stands for its first key."""
    if given is None:
        return None
    word, _ = _SECTIONS[name]
    return {**(before or {}), **(given if isinstance(given, Mapping) else {word: given})}


def _section(name: str, kind: type[Config], values: Mapping[str, Any]) -> Config:
    try:
        return make_config(kind, values)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
