"""What a run is asked to do: one frozen class per stage, in from YAML and flags, checked once."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from wsi_pipeline.errors import ConfigError

TissueMethod: TypeAlias = Literal["otsu", "hsv", "histoprep", "none"]

TISSUE_METHODS: tuple[TissueMethod, ...] = get_args(TissueMethod)
CODECS = {"jpeg": 90, "webp": 90, "zstd": None, "jpegxl": None}
"""Name to default quality; None for what is lossless and takes none."""

BATCH_KINDS = ("slurm", "slurm-array", "pbs", "sge", "lsf", "htcondor")
"""Batch systems whose jobs can do the work; ``compute.profile`` says how."""

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of every stage's configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with any value."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _codec(text: object) -> object:
    """Return ``name:quality`` or ``name`` with the default quality written out."""
    name, _, quality = str(text).partition(":")
    if name not in CODECS:
        raise ValueError
    default = CODECS[name]
    if default is None:
        if quality:
            raise ValueError
        return name
    number = int(quality or default)
    if not 1 <= number <= 100:
        raise ValueError
    return f"{name}:{number}"


Codec: TypeAlias = Annotated[str, BeforeValidator(_codec)]
"""How a tile is stored, as ``jpeg:90``."""


def expected(what: str) -> dict[str, Any]:
    """Return what a field expects, for its messages and its page."""
    return {"expected": what}


class TileConfig(Config):
    """What ``tile`` makes of a slide. Every field changes the result, so every field is in the digest."""

    tile_size: int = Field(
        1024,
        ge=1,
        le=16384,
        description="Side of a stored tile in pixels.",
        json_schema_extra=expected("whole pixels from 1 to 16384"),
    )
    overlap: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of a tile's side that it has in common with its neighbour; "
        "stride = tile_size - round(tile_size * overlap).",
        json_schema_extra=expected("a share from 0 to below 1 (0.2 is 20 %)"),
    )
    mpp: float | None = Field(
        None,
        gt=0,
        le=100,
        description="µm per stored pixel, exact, by area from the next finer level. "
        "Without it, the pixels of `level` as they are.",
        json_schema_extra=expected("µm per pixel above 0, up to 100"),
    )
    level: int = Field(
        0,
        ge=0,
        description="Pyramid level whose pixels are stored as they are; 0 is the finest.",
        json_schema_extra=expected("a level number, 0 or more"),
    )
    min_tissue: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Least share of a tile's footprint that is tissue; 0 keeps every tile.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    edge: Literal["pad", "drop", "shift"] = Field(
        "pad",
        description="Tiles that reach past the slide: `pad` them white, `drop` them, or `shift` the last "
        "ones back inside.",
        json_schema_extra=expected("pad, drop or shift"),
    )
    tissue: str = Field(
        "otsu",
        min_length=1,
        description="How tissue is found: `otsu`, `hsv`, `histoprep`, `none` (everything is tissue), or a "
        "folder with one mask per slide, named by slide_id, white on tissue.",
        json_schema_extra=expected("otsu, hsv, histoprep, none or a folder of masks"),
    )
    codec: Codec = Field(
        "jpeg:90",
        description="How a tile is stored: `jpeg[:quality]`, `webp[:quality]`, or without loss "
        "`zstd`, `jpegxl`.",
        json_schema_extra=expected("jpeg[:1-100], webp[:1-100], zstd or jpegxl"),
    )
    store: Literal["zarr", "none"] = Field(
        "zarr",
        description="`zarr` keeps the pixels; `none` keeps coordinates and metrics only.",
        json_schema_extra=expected("zarr or none"),
    )
    allow_upsample: bool = Field(
        default=False,
        description="Let `mpp` be finer than the scan; pixels are then interpolated.",
        json_schema_extra=expected("true or false"),
    )
    whole_image: bool = Field(
        default=False,
        description="One tile of each slide: all of it, shrunk to `tile_size` on its longer side and "
        "padded white on the right and below; never enlarged. For radiographs and small pictures.",
        json_schema_extra=expected("true or false"),
    )
    slide_mpp: float | None = Field(
        None,
        ge=0.01,
        le=100,
        description="µm per level-0 pixel of slides whose file does not say; a slide table's `mpp` "
        "column goes before it.",
        json_schema_extra=expected("µm per pixel from 0.01 to 100"),
    )

    @model_validator(mode="after")
    def _one_resolution(self) -> Self:
        if self.mpp is not None and self.level != 0:
            raise ConfigError("level and mpp: expected one of them, got both; leave one out")
        if self.whole_image and (self.mpp is not None or self.level != 0):
            raise ConfigError(
                "whole_image: its resolution follows from tile_size; leave out level and mpp"
            )
        return self

    @model_validator(mode="after")
    def _tiles_move_on(self) -> Self:
        if self.tile_size - round(self.tile_size * self.overlap) < 1:
            raise ConfigError(
                f"overlap: expected tiles at least 1 px apart, got a stride of 0 from "
                f"tile_size {self.tile_size} and overlap {self.overlap}; take a smaller overlap"
            )
        return self


def _cluster(text: object) -> object:
    names = {"processes", "local", *BATCH_KINDS}
    address = str(text).startswith(("tcp://", "tls://"))
    if text not in names and not address and not str(text).endswith((".json", ".yaml", ".yml")):
        raise ValueError
    return text


class RunConfig(Config):
    """How a run is carried out. Nothing here changes what it makes, so nothing is in the digest."""

    workers: int | None = Field(
        None,
        ge=1,
        description="Worker processes, one core each; every core this process may use if not given.",
        json_schema_extra=expected("a number of processes, 1 or more"),
    )
    cluster: Annotated[str, BeforeValidator(_cluster)] = Field(
        "processes",
        description="Where the work runs: `processes` of this machine; `local` Dask workers with a "
        "dashboard; a running Dask scheduler, by its address or the JSON file that it writes; jobs of a "
        "batch system, by its name or a YAML profile (docs/how-to/cluster.md).",
        json_schema_extra=expected(
            "processes, local, tcp://HOST:PORT, a scheduler's FILE.json, "
            f"{', '.join(BATCH_KINDS)} or a PROFILE.yaml"
        ),
    )
    part: str = Field(
        "1/1",
        pattern=r"^[1-9][0-9]*/[1-9][0-9]*$",
        description="`I/N`: this job takes every N-th slide, beginning with number I.",
        json_schema_extra=expected("I/N with 1 ≤ I ≤ N, such as 3/20"),
    )
    on_error: Literal["continue", "stop"] = Field(
        "continue",
        description="After a slide has failed, `continue` with the others or `stop` beginning new ones.",
        json_schema_extra=expected("continue or stop"),
    )

    @model_validator(mode="after")
    def _part_is_one_of_them(self) -> Self:
        part, parts = self.part_of
        if part > parts:
            raise ConfigError(f"part: expected {expected_of(RunConfig, 'part')}, got {self.part!r}")
        return self

    @property
    def part_of(self) -> tuple[int, int]:
        """Number of this part, and of all."""
        part, parts = self.part.split("/")
        return int(part), int(parts)


def make_config(kind: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Return a checked configuration.

    Raises
    ------
    ConfigError
        A key is unknown or a value is not what is expected; one sentence for each.
    """
    _refuse_unknown(values, kind.model_fields.keys())
    try:
        return kind(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentences(kind, error))) from error


def tile_configs(*sources: Mapping[str, Any]) -> tuple[TileConfig, RunConfig]:
    """Return both configurations of ``tile`` from a file and flags; later sources win.

    Raises
    ------
    ConfigError
        A key is unknown or a value is not what is expected.
    """
    values: dict[str, Any] = {}
    for source in sources:
        values.update(source)
    _refuse_unknown(values, TileConfig.model_fields.keys() | RunConfig.model_fields.keys())
    carried_out = {name: values.pop(name) for name in RunConfig.model_fields if name in values}
    return make_config(TileConfig, values), make_config(RunConfig, carried_out)


def split_values(values: Mapping[str, Any], *kinds: type[Config]) -> tuple[dict[str, Any], ...]:
    """Return the values of a file and of flags by the configuration that knows each.

    Raises
    ------
    ConfigError
        None of them does.
    """
    _refuse_unknown(values, {name for kind in kinds for name in kind.model_fields})
    return tuple(
        {name: values[name] for name in kind.model_fields if name in values} for kind in kinds
    )


def _refuse_unknown(values: Mapping[str, Any], known: Set[str]) -> None:
    if unknown := sorted(map(str, values.keys() - known)):
        raise ConfigError(
            f"unknown key {', '.join(unknown)}{did_you_mean(unknown[0], known)}; "
            f"known are {', '.join(sorted(known))}"
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the known name that comes near one that is not known, as words for the end of a sentence.

    >>> did_you_mean("scaner", ["centre", "scanner"])
    ' (did you mean scanner?)'
    >>> did_you_mean("stain", ["centre", "scanner"])
    ''
    """
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def first_of(words: Iterable[str], most: int) -> str:
    """Return some words in one line, and how many more there are.

    >>> first_of(["a", "b", "c"], 2), first_of(["a", "b"], 2)
    ('a, b and 1 more', 'a, b')
    """
    known = list(words)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file.

    Raises
    ------
    ConfigError
        The file cannot be read or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a YAML file, it cannot be read ({error.strerror})"
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file, got {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected lines 'key: value', got {type(values).__name__}")
    return values


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return one line for every key whose value differs.

    >>> differences({"overlap": 0.2, "edge": "pad"}, {"overlap": 0.5, "edge": "pad"})
    ['overlap: was 0.2, now 0.5']
    """
    return [
        f"{key}: was {before.get(key)}, now {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def expected_of(kind: type[Config], name: str) -> str:
    """Return the words for what a field takes."""
    extra = kind.model_fields[name].json_schema_extra
    return str(extra["expected"]) if isinstance(extra, dict) else "another value"


def _sentences(kind: type[Config], error: ValidationError) -> list[str]:
    sentences: dict[str, str] = {}  # one a field: of a list, what is wrong in it comes first
    for detail in error.errors():
        name = str(detail["loc"][0])
        got = "none: it has to be given" if detail["type"] == "missing" else repr(detail["input"])
        sentences.setdefault(name, f"{name}: expected {expected_of(kind, name)}, got {got}")
    return list(sentences.values())
