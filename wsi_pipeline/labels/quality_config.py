"""What ``qc`` marks: every rule can be switched off, and every limit is here."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from wsi_pipeline.config import Config, expected
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.schema import METRIC_COLUMNS

METRICS = tuple(column.name for column in METRIC_COLUMNS)

CLUSTER_METRICS = (
    "laplacian_var",
    "background",
    "black_pixels",
    "white_pixels",
    "gray_std",
    "red_mean",
    "green_mean",
    "blue_mean",
    "saturation_mean",
    "saturation_std",
    "brightness_std",
)
"""Sharpness, losses, colour and contrast. Hue is left out: it wraps around within the reds of eosin."""


def _numbers(given: object) -> object:
    """Return cluster numbers from ``3,7``, one number, or a list of them."""
    if isinstance(given, str):
        given = [part for part in given.split(",") if part.strip()]
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    numbers = tuple(int(str(value)) for value in values)
    if min(numbers, default=0) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError
    return tuple(sorted(numbers))


def _metrics(given: object) -> object:
    """Return names of metrics from a list or ``a,b``."""
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or set(names) - set(METRICS):
        raise ValueError
    if len(set(names)) < len(names):
        raise ValueError
    return tuple(names)


def _switch(what: str) -> Any:  # noqa: ANN401  pydantic's fields have the type of what they hold
    return Field(default=True, description=what, json_schema_extra=expected("true or false"))


class QcConfig(Config):
    """What ``qc`` marks, and into how many clusters it puts the tiles."""

    blur: bool = _switch(
        "Mark tiles that are less sharp than their slide and their scanner, or far below their scanner."
    )
    blur_slide_z: float = Field(
        3.5,
        gt=0,
        description="`blur`: spreads below the median of the slide's tiles, on a logarithmic axis.",
        json_schema_extra=expected("a number above 0"),
    )
    blur_scanner_z: float = Field(
        2.0,
        gt=0,
        description="`blur`: spreads below the median of the scanner's tiles that are needed as well.",
        json_schema_extra=expected("a number above 0"),
    )
    blur_alone_z: float | None = Field(
        4.0,
        gt=0,
        description="`blur`: spreads below the scanner's median that are enough, whatever the slide is "
        "like: half a slide out of focus widens its own spread. `null` asks for both limits always.",
        json_schema_extra=expected("a number above 0, or null"),
    )
    blur_min_tissue: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Least share of a tile's pixels on the tissue's side of the threshold for its "
        "sharpness to be judged.",
        json_schema_extra=expected("a share above 0, up to 1"),
    )
    least_spread: float = Field(
        0.15,
        gt=0,
        description="Smallest spread of sharpness in decades that is believed: in an even slide every "
        "tile would be spreads away from the others.",
        json_schema_extra=expected("decades above 0 (0.15 is a factor of 1.4)"),
    )
    unfocused: bool = _switch(
        "Mark all tiles of a slide that is far less sharp than its scanner's."
    )
    unfocused_z: float = Field(
        3.5,
        gt=0,
        description="`unfocused`: spreads below the median of the medians of the scanner's slides.",
        json_schema_extra=expected("a number above 0"),
    )
    unfocused_slides: int = Field(
        3,
        ge=3,
        description="`unfocused`: slides of a scanner below which none of them is judged.",
        json_schema_extra=expected("a number of slides, 3 or more"),
    )
    black: bool = _switch("Mark tiles with black pixels: strips that were lost.")
    black_share: float = Field(
        0.02,
        ge=0,
        le=1,
        description="`black`: share of pixels of gray 0 above which a tile is marked.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    white: bool = _switch("Mark tiles with white pixels that are neither glass nor padding.")
    white_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="`white`: share of such pixels above which a tile is marked.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    pen: bool = _switch("Mark tiles with green, blue, black or red ink. For H&E only.")
    pen_percent: Literal[5, 10, 25] = Field(
        10,
        description="`pen`: percent of the tissue pixels that are ink, at least about.",
        json_schema_extra=expected("5, 10 or 25"),
    )
    pen_saturation: float = Field(
        100.0,
        ge=0,
        le=255,
        description="`pen`: saturation that green and blue ink reach in their share of the pixels.",
        json_schema_extra=expected("0 to 255"),
    )
    pen_red_saturation: float = Field(
        200.0,
        ge=0,
        le=255,
        description="`pen`: saturation that red ink reaches; above it, so that blood stays.",
        json_schema_extra=expected("0 to 255"),
    )
    background: bool = _switch("Mark tiles that are nearly all glass.")
    background_share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="`background`: share of glass among the tile's pixels above which it is marked.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    tissue_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="`background`: share of tissue in the slide's mask below which it is marked.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    fold: bool = _switch(
        "Mark tiles that are darker and more saturated than their slide at the same hue."
    )
    fold_z: float = Field(
        3.5,
        gt=0,
        description="`fold`: spreads from the slide's median, down in gray and up in saturation, less those "
        "towards blue.",
        json_schema_extra=expected("a number above 0"),
    )
    gray: bool = _switch("Mark tiles without colour.")
    gray_saturation: float = Field(
        12.0,
        ge=0,
        le=255,
        description="`gray`: saturation that nine tenths of the tissue pixels stay below.",
        json_schema_extra=expected("0 to 255"),
    )
    clusters: int = Field(
        12,
        ge=0,
        le=999,
        description="Clusters of tiles with alike metrics; 0 for none.",
        json_schema_extra=expected("a number from 0 to 999"),
    )
    cluster_metrics: Annotated[tuple[str, ...], BeforeValidator(_metrics)] = Field(
        CLUSTER_METRICS,
        description="Metrics that clusters are made of; `laplacian_var` counts by its logarithm.",
        json_schema_extra=expected("names of metric columns of the manifest, each once"),
    )
    cluster_variance: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Share of the metrics' variance that their principal components keep.",
        json_schema_extra=expected("a share above 0, up to 1"),
    )
    cluster_sample: int = Field(
        50_000,
        ge=100,
        description="Tiles that clusters are fitted to, drawn by the seed; all others are assigned.",
        json_schema_extra=expected("a number of tiles, 100 or more"),
    )
    mark_clusters: Annotated[tuple[int, ...], BeforeValidator(_numbers)] = Field(
        (),
        description="Numbers of clusters whose tiles are outliers.",
        json_schema_extra=expected("numbers of clusters, such as 3,7"),
    )
    collage_tiles: int = Field(
        36,
        ge=1,
        le=400,
        description="Tiles in the collage of a cluster or rule.",
        json_schema_extra=expected("a number from 1 to 400"),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Of everything that is drawn: the sample, the clusters' beginnings, the collages.",
        json_schema_extra=expected("0 or more"),
    )

    def model_post_init(self, _context: object, /) -> None:
        """Refuse to mark clusters that there cannot be."""
        if self.mark_clusters and self.mark_clusters[-1] >= self.clusters:
            raise ConfigError(
                f"mark_clusters: expected numbers below {self.clusters}, the number of clusters, "
                f"got {self.mark_clusters[-1]}"
            )
