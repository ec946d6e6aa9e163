"""One slide on its way through a run: planned, cut in units of whole shards, finished.

Every function is idempotent: it looks at what is on the disk, writes under temporary names, and
publishes its record last. Copies of one call write the same bytes; one that comes late, when the slide is
done or was begun anew, stops before it clears or writes (``stages.attempt``).
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.files import (
    Fingerprint,
    exists,
    fingerprint,
    publish_bytes,
    read_bytes,
    remove_file,
    remove_tree,
    sweep,
    temporaries,
)
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.remote import is_url
from wsi_pipeline.schema import TILE_COLUMNS
from wsi_pipeline.slides.open import open_source
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.slides.staging import check_there, staged
from wsi_pipeline.stages.attempt import (
    attempt_of,
    begun_path,
    check_attempt,
    done_since,
    finished,
    is_begun,
    tidy_up,
)
from wsi_pipeline.stages.pictures import overlay_bytes, thumbnail_bytes
from wsi_pipeline.stages.plan import (
    TilePlan,
    no_tiles_reason,
    plan_slide,
    planned_columns,
    read_picture,
    read_plan,
    write_plan,
)
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    from_json,
    to_json,
    with_columns,
    write_record,
)
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
from wsi_pipeline.stages.tries import begin_try
from wsi_pipeline.stages.units import SlideJob, UnitJob, units_of
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.store.layout import SHARD_TILES, ArrayLayout
from wsi_pipeline.store.writer import checksum, publish_array, write_shard
from wsi_pipeline.tables import read_table, table_metadata, table_of, write_table
from wsi_pipeline.tiles.metrics import tile_metrics
from wsi_pipeline.tiles.read import read_tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What planning a slide gave: how many tiles it will have, or already its record."""

    tiles: int
    record: SlideRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDone:
    """What cutting a unit gave."""

    tiles: int
    stored_bytes: int


def begin_slide(job: SlideJob) -> Begun:
    """Plan a slide; one of a single unit is cut and finished at once, while it is open.

    So is a remote one of any size, which is fetched once this way.
    """
    slide_id, path0 = job.source.slide_id, job.source.path
    if job.holder is not None:
        begin_try(job.run, slide_id, path=path0, holder=job.holder, redo=job.redo)
    if (done := finished(job)) is not None:
        return Begun(tiles=done.tiles, record=done)
    clock = StepClock()
    fetched = is_url(path0)
    with _opened(job, clock) as (reader, path):
        with clock.step("open"):
            source = fingerprint(path)
        plan = _planned(reader, job, source, clock)
        if plan is None and (done := finished(job)) is not None:
            return Begun(tiles=done.tiles, record=done)
        found, attempt = plan is None, attempt_of(job)
        plan = plan or read_plan(_plan_path(job))
        units = units_of(job, plan.tiles)
        if not fetched and len(units) > (0 if found else 1):
            return Begun(tiles=plan.tiles)
        for unit in units:
            if not found or _part_before(unit) is None:
                _cut(reader, plan, unit, StepClock(), attempt=attempt)
    return Begun(tiles=plan.tiles, record=finish_slide(job))


def open_slide(job: SlideJob) -> None:
    """Open a slide and close it again; of a remote one only ask whether it is there.

    Raises
    ------
    SlideError
        It cannot be opened.
    """
    if is_url(job.source.path):
        check_there(job.source.path)
        return
    with _opened(job, StepClock()):
        pass


@contextmanager
def _opened(job: SlideJob, clock: StepClock) -> Iterator[tuple[SlideReader, Path]]:
    """Give a slide's reader and the local path of its file."""
    with ExitStack() as stack:
        with clock.step("open"):
            here = stack.enter_context(staged(job.source))
            reader = open_source(here, slide_mpp=job.config.slide_mpp)
            stack.callback(reader.close)
        yield reader, Path(here.path)


def _planned(
    reader: SlideReader, job: SlideJob, source: Fingerprint, clock: StepClock
) -> TilePlan | None:
    """Plan a slide, clear away what there was of it, and keep the plan; None where it has one already.

    Nothing is cleared before the slide could be opened, read and planned: one that is only out of reach
    keeps what was done of it.
    """
    if is_begun(job, source, reader.info):
        return None
    with clock.step("mask"):
        plan, picture = plan_slide(reader, job.source, job.config)
    about = planned_columns(reader.info, plan, job.config, source)
    if is_begun(job, source, reader.info) or done_since(job) is not None:
        return None  # a copy of this call was faster
    clear_slide(job.run, job.source.slide_id)
    write_plan(_plan_path(job), plan, picture)
    begun = {**about, "seconds": clock.seconds, "attempt": job.attempt}
    publish_bytes(begun_path(job.run, job.source.slide_id), to_json(begun))
    return plan


def cut_unit(unit: UnitJob) -> UnitDone:
    """Read, measure, encode and store a unit's tiles, unless its record is there."""
    if (part := _part_before(unit)) is not None:
        return _unit_done(part)
    attempt = attempt_of(
        unit.slide
    )  # before the plan: of two that are not of one attempt, neither is cut
    plan = read_plan(_plan_path(unit.slide))
    clock = StepClock()
    with _opened(unit.slide, clock) as (reader, _path):
        return _unit_done(_cut(reader, plan, unit, clock, attempt=attempt))


def _part_before(unit: UnitJob) -> pa.Table | None:
    """Return what an interrupted attempt has recorded of just this unit, or None."""
    path = _unit_path(unit)
    if not exists(path):
        return None
    part = read_table(path)
    same_settings = table_metadata(part).get("config_digest") == unit.slide.config.digest()
    return part if same_settings and part.num_rows == unit.end - unit.first else None


def finish_slide(job: SlideJob) -> SlideRecord:
    """Publish array, overlay and manifest of a slide whose units are done, then its record."""
    if (done := finished(job)) is not None:
        return done
    attempt = attempt_of(job)
    plan = read_plan(_plan_path(job))
    clock = StepClock()
    parts = [read_table(_unit_path(unit)) for unit in units_of(job, plan.tiles)]
    about = from_json(read_bytes(begun_path(job.run, job.source.slide_id)))
    for seconds in (about.pop("seconds"), *(_unit_seconds(part) for part in parts)):
        clock.add(seconds)
    table = pa.concat_tables([table_of(TILE_COLUMNS, {}), *parts]).combine_chunks()
    bad = unreadable_tiles(table)
    refuse_all_unreadable(table)
    check_attempt(job, attempt)
    with clock.step("write"):
        _publish(job, plan, table, about)
    values = {
        **about,
        "tiles_unreadable": len(bad),
        "stored_bytes": sum(_unit_done(part).stored_bytes for part in parts),
        **seconds_columns(clock),
    }
    reason = no_tiles_reason(plan, job.config)
    if bad:
        reason = unreadable_reason(table)
    record = SlideRecord(
        slide_id=job.source.slide_id,
        path=job.source.path,
        status="done",
        reason=reason,
        values=with_columns(values, job.source.columns),
    )
    check_attempt(job, attempt)
    write_record(job.run, record)
    tidy_up(job)
    return record


def clear_slide(run: RunDirectory, slide_id: str) -> None:
    """Remove all of a slide, its record first: what is not done must not look done."""
    # Its beginning too, else units would be used again whose shards are gone.
    begun = begun_path(run, slide_id)
    pictures = (run.overlay(slide_id), run.thumbnail(slide_id))
    for path in (run.record(slide_id), begun, run.manifest(slide_id), *pictures):
        remove_file(path)
    remove_tree(run.array(slide_id))
    remove_tree(run.work(slide_id))


def _cut(
    reader: SlideReader, plan: TilePlan, unit: UnitJob, clock: StepClock, *, attempt: str
) -> pa.Table:
    """Carry out one unit of a plan and return its part of the manifest."""
    job, config = unit.slide, unit.slide.config
    array = job.run.array(job.source.slide_id)
    tiles = read_tiles(reader, plan.sampling, plan.windows[unit.first : unit.end])
    rows: list[dict[str, Any]] = []
    stored_bytes = 0
    for first in range(unit.first, unit.end, SHARD_TILES):
        chunks: list[bytes | None] = []
        for _ in range(first, min(unit.end, first + SHARD_TILES)):
            with clock.step("decode"):
                tile = next(tiles)
            chunk, row = _measured(tile, plan, config, clock)
            chunks.append(chunk)
            rows.append(row)
        if config.store == "zarr":
            with clock.step("write"):
                check_attempt(job, attempt)
                stored_bytes += write_shard(array, first // SHARD_TILES, chunks)
    table = _manifest_part(rows, plan, unit)
    metadata = {
        "stored_bytes": str(stored_bytes),
        "seconds": json.dumps(clock.seconds),
        "config_digest": config.digest(),
    }
    check_attempt(job, attempt)
    write_table(_unit_path(unit), table, metadata=metadata)
    return table.replace_schema_metadata(metadata)


def _measured(
    tile: Rgb | TileError, plan: TilePlan, config: TileConfig, clock: StepClock
) -> tuple[bytes | None, dict[str, Any]]:
    """Return a tile's stored bytes and its metrics."""
    if isinstance(tile, TileError):
        return None, unreadable_row(tile)
    with clock.step("metrics"):
        row: dict[str, Any] = {
            "status": "ok",
            **tile_metrics(tile, threshold=plan.threshold, dark_field=plan.dark_field),
        }
    if config.store == "none":
        return None, row
    with clock.step("encode"):
        chunk = encode_tile(tile, config.codec)
    return chunk, {**row, "crc32c": checksum(chunk)}


def _manifest_part(rows: list[dict[str, Any]], plan: TilePlan, unit: UnitJob) -> pa.Table:
    count = unit.end - unit.first
    boxes0 = plan.footprints0[unit.first : unit.end]
    values: dict[str, Any] = {
        "slide_id": [unit.slide.source.slide_id] * count,
        "tile": np.arange(unit.first, unit.end, dtype=np.int32),
        "x": boxes0[:, 0],
        "y": boxes0[:, 1],
        "width": boxes0[:, 2],
        "height": boxes0[:, 3],
        "level": np.full(count, plan.sampling.level, dtype=np.int8),
        "mpp": [plan.sampling.mpp] * count,
        "tissue": plan.tissue[unit.first : unit.end],
    }
    return tile_table(values, rows)


def _publish(job: SlideJob, plan: TilePlan, table: pa.Table, about: dict[str, Any]) -> None:
    run, slide_id = job.run, job.source.slide_id
    sweep(temporaries(run.array(slide_id)))  # of workers that died
    if job.config.store == "zarr":
        layout = ArrayLayout(
            tiles=plan.tiles, tile_size=plan.sampling.tile_size, codec=job.config.codec
        )
        refuse_lost_shards(run.array(slide_id), layout)
        publish_array(run.array(slide_id), layout)
    picture = read_picture(_plan_path(job))
    overlay = overlay_bytes(
        plan, picture, unreadable_tiles(table), slide_id=slide_id, mpp0=about["mpp_x"]
    )
    publish_bytes(run.overlay(slide_id), overlay)
    publish_bytes(run.thumbnail(slide_id), thumbnail_bytes(picture))
    metadata = manifest_metadata(job.config, about["fingerprint"])
    write_table(run.manifest(slide_id), table, metadata=metadata)


def _unit_done(part: pa.Table) -> UnitDone:
    return UnitDone(tiles=part.num_rows, stored_bytes=int(table_metadata(part)["stored_bytes"]))


def _unit_seconds(part: pa.Table) -> dict[str, float]:
    seconds: dict[str, float] = json.loads(table_metadata(part)["seconds"])
    return seconds


def _plan_path(job: SlideJob) -> Path:
    return job.run.work(job.source.slide_id) / "plan.npz"


def _unit_path(unit: UnitJob) -> Path:
    work = unit.slide.run.work(unit.slide.source.slide_id)
    return work / f"tiles-{unit.first:08d}.parquet"
