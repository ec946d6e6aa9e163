"""What ``compare`` looks at."""

from pydantic import Field

from wsi_pipeline.config import Config, expected
from wsi_pipeline.labels.density import HARDLY_OVERLAP


class CompareConfig(Config):
    """By what tiles are grouped, and when two groups are called apart."""

    by: str = Field(
        "scanner",
        min_length=1,
        description="Column of slides.parquet or of the manifest whose values are the groups.",
        json_schema_extra=expected("a column, such as scanner, centre or label"),
    )
    overlap_limit: float = Field(
        HARDLY_OVERLAP,
        ge=0,
        le=1,
        description="Overlap of two densities below which there is a warning.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    stain_tiles: int = Field(
        6,
        ge=0,
        le=1000,
        description="Stored tiles of each slide and group that stain vectors are found in; 0 for none.",
        json_schema_extra=expected("a number from 0 to 1000"),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Of the tiles that are drawn for it.",
        json_schema_extra=expected("0 or more"),
    )
