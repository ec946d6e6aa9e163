"""Which maps are drawn of a network's predictions and of what it looks at, and how they look."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from wsi_pipeline.config import Config, expected

MapKind: TypeAlias = Literal["png", "ome-tiff", "geojson"]


def _words(value: object) -> object:
    """Return words as flags and files give them: a list, or a text with commas between."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return tuple(value) if isinstance(value, list) else value


Words: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_words)]


class HeatConfig(Config):
    """Which files are written of each slide: the section ``heat_maps`` of ``evaluate``."""

    kinds: Annotated[tuple[MapKind, ...], BeforeValidator(_words)] = Field(
        ("png", "ome-tiff", "geojson"),
        min_length=1,
        description="A picture over the slide, a map that viewers lay over it, tiles for QuPath.",
        json_schema_extra=expected("png, ome-tiff, geojson, or several of them"),
    )
    slides: Words | None = Field(
        None,
        min_length=1,
        description="slide_ids; all that have predictions if not given.",
        json_schema_extra=expected("names of slides"),
    )
    classes: Words | None = Field(
        None,
        min_length=1,
        description="Whose probability is drawn; of two classes the second, of more each of them, if not "
        "given.",
        json_schema_extra=expected("names of classes"),
    )
    origin: Literal["bounds", "canvas"] = Field(
        "bounds",
        description="Corner that OME-TIFF and GeoJSON count from: that of the scanned part, `bounds`, as "
        "QuPath does unless told not to crop, or that of the `canvas`, as the manifest.",
        json_schema_extra=expected("bounds or canvas"),
    )
    side_px: int = Field(
        1600,
        ge=256,
        le=8192,
        description="Longest side of the picture, at the most.",
        json_schema_extra=expected("256 to 8192"),
    )
    opacity: float = Field(
        0.55,
        gt=0,
        le=1,
        description="Of the map over the slide.",
        json_schema_extra=expected("above 0, at most 1"),
    )


class CamConfig(Config):
    """Which class activation maps are made: the section ``cam`` of ``evaluate``."""

    method: Literal["gradcam", "hirescam"] = Field(
        "hirescam",
        description="Gradients as the mean over the tile (Grad-CAM), or where they are (HiResCAM).",
        json_schema_extra=expected("gradcam or hirescam"),
    )
    layer: str | None = Field(
        None,
        min_length=1,
        description="Layer of timm's model whose features are taken; the last one whose features are a "
        "picture of more than one pixel if not given.",
        json_schema_extra=expected("the name of a layer, such as bn2"),
    )
    slides: Words | None = Field(
        None,
        min_length=1,
        description="slide_ids; all that have predictions if not given.",
        json_schema_extra=expected("names of slides"),
    )
    classes: Words | None = Field(
        None,
        min_length=1,
        description="Whose logit is explained; if not given, the second of two, or each of more.",
        json_schema_extra=expected("names of classes"),
    )
