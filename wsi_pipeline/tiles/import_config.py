"""What ``import`` is asked to do, and the columns of images that it knows."""

import pyarrow as pa
from pydantic import Field, field_validator

from wsi_pipeline.config import Codec, Config, TileConfig, expected
from wsi_pipeline.errors import ConfigError

NUMBERS: dict[str, pa.DataType] = {
    "x": pa.int32(),
    "y": pa.int32(),
    "width": pa.int32(),
    "height": pa.int32(),
    "level": pa.int8(),
    "mpp": pa.float32(),
    "tissue": pa.float32(),
}
"""Columns of the manifest that a source may state."""

WORDS = ("slide_id", "patient_id", "scanner", "centre", "label", "split")
"""Columns that are read as text, ``007`` as ``007`` and the number 1 as ``1``."""

IMAGE = "path"
"""The column that names an image file; of a Parquet file of images, the one that holds them."""

FOLDERS = ("label", "slide_id", "patient_id", "scanner", "centre", "split")
"""What the name of a folder of images can be."""


class ImportConfig(Config):
    """What ``import`` makes of a source. Every field changes the result, so every field is in its digest."""

    tile_size: int | None = Field(
        None,
        ge=1,
        le=16384,
        description="Side of the tiles in pixels; that of the images if not given, which is refused where "
        "the first 64 differ. An image of another size is `unreadable`.",
        json_schema_extra=expected("whole pixels from 1 to 16384"),
    )
    codec: Codec = Field(
        "jpeg:90",
        description="How tiles are stored. With `jpeg`, JPEG files are kept byte for byte and everything "
        "else is encoded at this quality; with the others everything is encoded anew.",
        json_schema_extra=expected("jpeg[:1-100], webp[:1-100], zstd or jpegxl"),
    )
    mpp: float | None = Field(
        None,
        gt=0,
        le=100,
        description="µm per pixel of images whose source has no column `mpp`.",
        json_schema_extra=expected("µm per pixel above 0, up to 100"),
    )
    threshold: int = Field(
        220,
        ge=0,
        le=255,
        description="Grey level between tissue and background for the metrics; there is no slide to find "
        "it from.",
        json_schema_extra=expected("a grey level from 0 to 255"),
    )
    folders: str = Field(
        "label",
        description="What the folders between a source folder and its images are, from above: `label`, "
        "`split/label`, `slide_id/label`, or `none` where they mean nothing.",
        json_schema_extra=expected(f"none, or some of {', '.join(FOLDERS)} joined by /"),
    )
    columns: dict[str, str] = Field(
        {},
        description="Columns of the source under other names, as `label: tumor`.",
        json_schema_extra=expected("NAME: COLUMN of the source"),
    )
    keep_metrics: bool = Field(
        default=False,
        description="Take metrics that the source's table has, in place of measuring them again.",
        json_schema_extra=expected("true or false"),
    )

    @field_validator("folders")
    @classmethod
    def _known_folders(cls, folders: str) -> str:
        names = folders.split("/")
        if folders != "none" and (set(names) - set(FOLDERS) or len(set(names)) < len(names)):
            raise ValueError
        return folders

    @property
    def folder_columns(self) -> tuple[str, ...]:
        """Columns that folders name, from above."""
        return () if self.folders == "none" else tuple(self.folders.split("/"))

    def tile_config(self, tile_size: int) -> TileConfig:
        """Return the settings of the run: tiles of this size, cut by somebody else."""
        return TileConfig(
            tile_size=tile_size, overlap=0.0, min_tissue=0.0, tissue="none", codec=self.codec
        )


def parse_columns(texts: list[str]) -> dict[str, str]:
    """Return columns from flags as ``label=tumor``.

    Raises
    ------
    ConfigError
        One is not NAME=COLUMN.
    """
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, column) in zip(texts, pairs, strict=True):
        if not name or not column:
            raise ConfigError(f"column: expected NAME=COLUMN such as label=tumor, got {text!r}")
    return {name: column for name, _, column in pairs}
