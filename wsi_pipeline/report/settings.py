"""What ``report`` is asked to show."""

from pydantic import Field

from wsi_pipeline.config import Config


class ReportConfig(Config):
    """What the page shows. Nothing here changes the run."""

    columns: list[str] | None = Field(
        None,
        description="Columns of the manifest by which tiles on slides can be coloured. Without it: tissue, "
        "laplacian_var, label, split, outlier, cluster and every prediction, as far as they are there.",
        json_schema_extra={"expected": "names of columns of the manifest"},
    )
    groups: list[str] = Field(
        ["scanner", "centre"],
        description="Columns whose groups are compared in sharpness and colour.",
        json_schema_extra={"expected": "names of columns of the manifest"},
    )
    extremes: int = Field(
        6,
        ge=0,
        le=50,
        description="Tiles of each collage of extremes; 0 leaves them out.",
        json_schema_extra={"expected": "whole tiles from 0 to 50"},
    )
    seed: int = Field(
        0,
        ge=0,
        description="Decides between tiles that are equally extreme, and which slides are pictured "
        "where not all fit.",
        json_schema_extra={"expected": "a whole number, 0 or more"},
    )
    max_mb: float = Field(
        20.0,
        ge=0.2,
        le=500,
        description="Largest page in MB (10^6 bytes). Slides whose tiles do not fit any more are in the "
        "tables, and the page says how many have no picture.",
        json_schema_extra={"expected": "MB from 0.2 to 500"},
    )
