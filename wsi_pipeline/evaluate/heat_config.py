"""Which maps are drawn of a network's predictions, and how they look."""

from typing import Any, Literal, TypeAlias

from pydantic import Field

from wsi_pipeline.config import Config

MapKind: TypeAlias = Literal["png", "ome-tiff", "geojson"]


def _expected(what: str) -> dict[str, Any]:
    return {"expected": what}


class HeatConfig(Config):
    """Which files are written of each slide."""

    kinds: tuple[MapKind, ...] = Field(
        ("png", "ome-tiff", "geojson"),
        min_length=1,
        description="A picture over the slide, a map that viewers lay over it, tiles for QuPath.",
        json_schema_extra=_expected("png, ome-tiff, geojson, or several of them"),
    )
    slides: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="slide_ids; all that have predictions if not given.",
        json_schema_extra=_expected("names of slides"),
    )
    classes: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Whose probability is drawn; of two classes the second, of more each of them, if not "
        "given.",
        json_schema_extra=_expected("names of classes"),
    )
    origin: Literal["bounds", "canvas"] = Field(
        "bounds",
        description="Corner that OME-TIFF and GeoJSON count from: that of the scanned part, `bounds`, as "
        "QuPath does unless told not to crop, or that of the `canvas`, as the manifest.",
        json_schema_extra=_expected("bounds or canvas"),
    )
    side_px: int = Field(
        1600,
        ge=256,
        le=8192,
        description="Longest side of the picture, at the most.",
        json_schema_extra=_expected("256 to 8192"),
    )
    opacity: float = Field(
        0.55,
        gt=0,
        le=1,
        description="Of the map over the slide.",
        json_schema_extra=_expected("above 0, at most 1"),
    )
