"""One array of existing images on its way into a run: read, measured, stored, published.

Idempotent, as cutting a slide is: what an interrupted attempt has left is cleared away or written again
with the same bytes, and the record comes last.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.schema import IMPORTED, METRIC_COLUMNS, SLIDE_WORDS, STAGE_COLUMNS, TILE_COLUMNS
from wsi_pipeline.stages.columns import in_order
from wsi_pipeline.stages.cut import clear_slide
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, write_record
from wsi_pipeline.stages.stage import StepClock
from wsi_pipeline.stages.tile_table import (
    manifest_metadata,
    refuse_all_unreadable,
    refuse_lost_shards,
    seconds_columns,
    tile_table,
    unreadable_reason,
    unreadable_row,
    unreadable_tiles,
)
from wsi_pipeline.store.layout import SHARD_TILES, ArrayLayout
from wsi_pipeline.store.pictures import StoredPicture, stored_picture
from wsi_pipeline.store.writer import checksum, publish_array, write_shard
from wsi_pipeline.tables import read_table, write_table
from wsi_pipeline.tiles.encoded import Origin, encoded_images
from wsi_pipeline.tiles.import_config import NUMBERS, ImportConfig
from wsi_pipeline.tiles.metrics import tile_metrics

_ROWS_AT_ONCE = 16 * SHARD_TILES  # as Python values; before and after, they are Arrow's
_MPP_NOTE = "imported tiles: see the column mpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayJob:
    """Images that are to become one array of a run."""

    run: RunDirectory
    config: TileConfig
    """Of the run."""
    settings: ImportConfig
    origin: Origin
    source: str
    slide_id: str
    fingerprint: str
    """Of rows, columns and settings: ``images_digest``."""

    @property
    def images(self) -> Path:
        """Where the array's rows of the source's table are kept until it is done."""
        return self.run.state / "images" / f"{self.slide_id}.parquet"


@dataclass(slots=True)
class _Progress:
    """What importing an array has come to so far."""

    clock: StepClock = field(default_factory=StepClock)
    parts: list[pa.Table] = field(default_factory=list)
    stored_bytes: int = 0
    kept: int = 0
    encoded: int = 0
    source_crc32c: int = 0


def images_digest(images: pa.Table, settings: ImportConfig) -> str:
    """Return what tells these rows, imported with these settings, from others."""
    digest = hashlib.sha256(settings.digest().encode())
    for name in images.column_names:
        digest.update(repr((name, images.column(name).to_pylist())).encode())
    return digest.hexdigest()


def source_times(origin: Origin, images: pa.Table) -> tuple[int, int]:
    """Return bytes and latest modification time (ns) of the files that images come from."""
    if origin.column is not None:
        status = origin.path.stat()
        return status.st_size, status.st_mtime_ns
    size_bytes = mtime_ns = 0
    for name in images.column("source_path").to_pylist():
        try:
            status = (origin.path / str(name)).stat()
        except (OSError, ValueError):
            continue
        size_bytes += status.st_size
        mtime_ns = max(mtime_ns, status.st_mtime_ns)
    return size_bytes, mtime_ns


def source_crc32c(origin: Origin, images: pa.Table) -> int:
    """Return the CRC-32C of every byte of every image, one after another."""
    crc32c = 0
    for data in encoded_images(origin, images):
        crc32c = _extended(crc32c, data)
    return crc32c


def import_array(job: ArrayJob) -> SlideRecord:
    """Store an array's images, publish its manifest, and return its record."""
    clear_slide(job.run, job.slide_id)
    images = read_table(job.images)
    times = source_times(job.origin, images)
    done = _Progress()
    _store(job, images, done)
    table = pa.concat_tables(done.parts).combine_chunks()
    refuse_all_unreadable(table)
    with done.clock.step("write"):
        _publish(job, table, images)
    record = _record(job, table, images, done=done, times=times)
    write_record(job.run, record)
    job.images.unlink(missing_ok=True)
    return record


def _store(job: ArrayJob, images: pa.Table, done: _Progress) -> None:
    """Write the array's shards and gather its rows."""
    array = job.run.array(job.slide_id)
    given = encoded_images(job.origin, images)
    for first in range(0, len(images), _ROWS_AT_ONCE):
        part = images.slice(first, _ROWS_AT_ONCE)
        said = part.select(_own_metrics(job, part)).to_pylist() or [{}] * len(part)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(part), SHARD_TILES):
            chunks: list[bytes | None] = []
            for row in said[start : start + SHARD_TILES]:
                chunk, measured = _measured(given, job, done)
                chunks.append(chunk)
                known = {name: value for name, value in row.items() if value is not None}
                rows.append({**measured, **known} if chunk is not None else measured)
            with done.clock.step("write"):
                shard = (first + start) // SHARD_TILES
                done.stored_bytes += write_shard(array, shard, chunks)
        done.parts.append(tile_table(_known(job, part, first), rows))


def _own_metrics(job: ArrayJob, images: pa.Table) -> list[str]:
    """Return the metrics that are taken from the source's table."""
    if not job.settings.keep_metrics:
        return []
    metrics = {column.name for column in METRIC_COLUMNS}
    return [name for name in images.column_names if name in metrics]


def _measured(
    given: Iterator[bytes | TileError], job: ArrayJob, done: _Progress
) -> tuple[bytes | None, dict[str, Any]]:
    """Return the next image's stored bytes and its metrics."""
    with done.clock.step("decode"):
        data = next(given)
        done.source_crc32c = _extended(done.source_crc32c, data)
        picture = _picture(data, job)
    if isinstance(picture, TileError):
        return None, unreadable_row(picture)
    done.kept += picture.kept
    done.encoded += not picture.kept
    with done.clock.step("metrics"):
        metrics = tile_metrics(picture.rgb, threshold=job.settings.threshold)
    return picture.data, {"status": "ok", "crc32c": checksum(picture.data), **metrics}


def _picture(data: bytes | TileError, job: ArrayJob) -> StoredPicture | TileError:
    if isinstance(data, TileError):
        return data
    try:
        return stored_picture(data, job.config.codec, tile_size=job.config.tile_size)
    except TileError as error:
        return error


def _extended(crc32c: int, data: bytes | TileError) -> int:
    return crc32c if isinstance(data, TileError) else int(google_crc32c.extend(crc32c, data))


def _known(job: ArrayJob, images: pa.Table, first: int) -> dict[str, Any]:
    """Return the columns of tiling of images, the first of which is tile number ``first``."""
    count, size = len(images), job.config.tile_size
    otherwise = {"x": 0, "y": 0, "width": size, "height": size, "mpp": job.settings.mpp}
    columns: dict[str, Any] = {
        "slide_id": [job.slide_id] * count,
        "tile": np.arange(first, first + count, dtype=np.int32),
    }
    for name in NUMBERS:
        values = images.column(name).to_pylist() if name in images.column_names else [None] * count
        other = otherwise.get(name)
        columns[name] = [other if value is None else value for value in values]
    return columns


def _publish(job: ArrayJob, table: pa.Table, images: pa.Table) -> None:
    run, config = job.run, job.config
    layout = ArrayLayout(tiles=len(table), tile_size=config.tile_size, codec=config.codec)
    refuse_lost_shards(run.array(job.slide_id), layout)
    publish_array(run.array(job.slide_id), layout)
    write_table(
        run.manifest(job.slide_id),
        _with_own_columns(table, images),
        metadata=manifest_metadata(config, job.fingerprint),
    )


def _with_own_columns(table: pa.Table, images: pa.Table) -> pa.Table:
    """Return a manifest with patient, scanner and centre, and with the other columns of the source."""
    tiling = {column.name for column in TILE_COLUMNS}
    own = {
        name: _as_kept(name, images.column(name))
        for name in images.column_names
        if name not in tiling and name != "source_row"
    }
    nothing = pa.nulls(len(table), pa.string()).dictionary_encode()
    words = {name: own.get(name, nothing) for name in SLIDE_WORDS}
    columns = {name: table.column(name) for name in table.column_names}
    return in_order({**columns, **own, **words})


def _as_kept(name: str, values: Any) -> Any:  # noqa: ANN401  Arrow's
    """Return a column as the stage keeps it that would have added it: words each once."""
    is_word = name in SLIDE_WORDS or any(name in columns for columns in STAGE_COLUMNS.values())
    if is_word and pa.types.is_string(values.type):
        return values.combine_chunks().dictionary_encode()
    return values


def _record(
    job: ArrayJob,
    table: pa.Table,
    images: pa.Table,
    *,
    done: _Progress,
    times: tuple[int, int],
) -> SlideRecord:
    bad = unreadable_tiles(table)
    levels, mpps = (table.column(name).unique().to_pylist() for name in ("level", "mpp"))
    values = {
        "tiles": len(table),
        "tiles_unreadable": len(bad),
        "tiles_kept": done.kept,
        "tiles_encoded": done.encoded,
        "backend": IMPORTED,
        "mpp_x": None,
        "mpp_y": None,
        "mpp_note": _MPP_NOTE,
        "level": levels[0] if len(levels) == 1 else None,
        "mpp": mpps[0] if len(mpps) == 1 else None,
        "tissue_threshold": job.settings.threshold,
        "stored_bytes": done.stored_bytes,
        "size_bytes": times[0],
        "mtime_ns": times[1],
        "fingerprint": job.fingerprint,
        "source_crc32c": done.source_crc32c,
        "config_digest": job.config.digest(),
        **seconds_columns(done.clock),
        **_words_of(images),
    }
    return SlideRecord(
        slide_id=job.slide_id,
        path=job.source,
        status="done",
        reason=unreadable_reason(table) if bad else None,
        values=values,
    )


def _words_of(images: pa.Table) -> dict[str, Any]:
    """Return patient, scanner and centre of an array: the same in all of its rows."""
    known = [name for name in SLIDE_WORDS if name in images.column_names]
    return {name: images.column(name)[0].as_py() for name in known}
