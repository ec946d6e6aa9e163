"""What a loader is asked for: which batches, in which order, and how they are had."""

from typing import Literal

from pydantic import Field

from wsi_pipeline.config import Config, expected
from wsi_pipeline.loader.decode import Decoding
from wsi_pipeline.loader.order import BLOCK_TILES


class BatchConfig(Config):
    """Which tiles are in which batch: every field changes that."""

    batch_size: int = Field(
        ge=1,
        description="Tiles of a batch, of all ranks together.",
        json_schema_extra=expected("a number of tiles, 1 or more"),
    )
    seed: int = Field(
        0,
        ge=0,
        description="Another one is another order, and other random changes of every tile.",
        json_schema_extra=expected("a whole number, 0 or more"),
    )
    shuffle: bool = Field(
        default=True,
        description="Without it tiles come slide by slide, as the manifest has them.",
        json_schema_extra=expected("true or false"),
    )
    drop_last: bool = Field(
        default=False,
        description="Leave out a last batch that is not full; else it is filled up with tiles of weight 0.",
        json_schema_extra=expected("true or false"),
    )
    block_tiles: int = Field(
        BLOCK_TILES,
        ge=1,
        description="Places over which the 64 tiles of a shard are spread: more mixes better and keeps more "
        "shards open.",
        json_schema_extra=expected("a number of tiles, 1 or more"),
    )
    balance: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Columns by which an epoch has as many tiles of each: `label`, or `label` and `scanner` "
        "together.",
        json_schema_extra=expected("names of columns"),
    )
    per_group: int | None = Field(
        None,
        ge=1,
        description="Tiles of each group of `balance` in an epoch; as many as the smallest has if not given.",
        json_schema_extra=expected("a number of tiles, 1 or more"),
    )


class LoaderConfig(BatchConfig, Decoding):
    """All settings of a loader."""

    target: str | None = Field(
        None,
        description="Column that is the target: words become their number in `classes`.",
        json_schema_extra=expected("the name of a column"),
    )
    classes: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Words of the target in order of their number; in order of the alphabet if not given.",
        json_schema_extra=expected("words"),
    )
    weight: str | None = Field(
        None,
        description="Column of numbers that are the tiles' weights; 1 if not given.",
        json_schema_extra=expected("the name of a column"),
    )
    columns: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Further columns that come with every batch.",
        json_schema_extra=expected("names of columns"),
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop",
        description="A tile that cannot be decoded stops the epoch, or is left out and counted.",
        json_schema_extra=expected("stop or skip"),
    )
    most_skipped: float = Field(
        0.001,
        ge=0,
        le=1,
        description="Share of an epoch's tiles that `skip` leaves out before it stops after all.",
        json_schema_extra=expected("a share from 0 to 1"),
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="Threads that decode; every core this process may use if not given.",
        json_schema_extra=expected("a number of threads, 1 or more"),
    )
    ahead_bytes: int = Field(
        1 << 30,
        ge=0,
        description="Bytes of batches that are made ready ahead; at least one batch is.",
        json_schema_extra=expected("a number of bytes"),
    )
    cache: str | None = Field(
        None,
        description="Folder on a local disk for shards of remote runs, shared by all processes of a machine.",
        json_schema_extra=expected("a folder"),
    )
    cache_bytes: int = Field(
        100 << 30,
        ge=1 << 20,
        description="Size up to which `cache` grows; what was used longest ago goes first.",
        json_schema_extra=expected("a number of bytes, 1 MiB or more"),
    )

    @property
    def decoding(self) -> Decoding:
        """How images are made."""
        return Decoding(**{name: getattr(self, name) for name in Decoding.model_fields})

    @property
    def batches(self) -> BatchConfig:
        """Which tiles are in which batch."""
        return BatchConfig(**{name: getattr(self, name) for name in BatchConfig.model_fields})
