"""One slide on its way through a run: planned, cut in units of whole shards, finished.

Every function is idempotent: it looks at what is on the disk, writes under temporary names, and
publishes its record last. Two copies at once do no harm.
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
    fingerprint,
    publish_bytes,
    remove_file,
    remove_tree,
    sweep,
    temporaries,
)
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.remote import is_url
from wsi_pipeline.schema import TILE_COLUMNS
from wsi_pipeline.slides.open import open_source
from wsi_pipeline.slides.reader import SlideInfo, SlideReader
from wsi_pipeline.slides.staging import staged
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
    read_record,
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
from wsi_pipeline.stages.tries import begin_try, end_try
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
    if not job.redo and (done := _finished(job)) is not None:
        return Begun(tiles=done.tiles, record=done)
    clock = StepClock()
    fetched = is_url(path0)
    with _opened(job, clock) as (reader, path):
        with clock.step("open"):
            source = fingerprint(path)
        tiles = None if job.redo else _tiles_of_interrupted(job, source, reader.info)
        if tiles is not None and not fetched:
            return Begun(tiles=tiles)
        found = tiles is not None
        plan = read_plan(_plan_path(job)) if found else _planned(reader, job, source, clock)
        units = units_of(job, plan.tiles)
        if len(units) > 1 and not fetched:
            return Begun(tiles=plan.tiles)
        for unit in units:
            if not found or _part_before(unit) is None:
                _cut(reader, plan, unit, StepClock())
    return Begun(tiles=plan.tiles, record=finish_slide(job))


@contextmanager
def _opened(job: SlideJob, clock: StepClock) -> Iterator[tuple[SlideReader, Path]]:
    """Give a slide's reader and the local path of its file."""
    with ExitStack() as stack:
        with clock.step("open"):
            here = stack.enter_context(staged(job.source))
            reader = open_source(here, slide_mpp=job.config.slide_mpp)
            stack.callback(reader.close)
        yield reader, Path(here.path)


def _planned(reader: SlideReader, job: SlideJob, source: Fingerprint, clock: StepClock) -> TilePlan:
    """Clear away what there is of a slide, plan it and keep the plan."""
    clear_slide(job.run, job.source.slide_id)
    with clock.step("mask"):
        plan, picture = plan_slide(reader, job.source, job.config)
    about = planned_columns(reader.info, plan, job.config, source)
    write_plan(_plan_path(job), plan, picture)
    publish_bytes(_begun_path(job), to_json({**about, "seconds": clock.seconds}))
    return plan


def _tiles_of_interrupted(job: SlideJob, source: Fingerprint, info: SlideInfo) -> int | None:
    """Return how many tiles an interrupted attempt with these settings and this source planned."""
    try:
        begun = from_json(_begun_path(job).read_bytes())
    except FileNotFoundError:
        return None
    now = {
        "config_digest": job.config.digest(),
        "fingerprint": source.sample.sha256,
        "source_crc32c": source.crc32c,
        "mpp_x": info.mpp_x,
        "mpp_y": info.mpp_y,
    }
    same = all(begun[name] == value for name, value in now.items())
    return int(begun["tiles"]) if same else None


def cut_unit(unit: UnitJob) -> UnitDone:
    """Read, measure, encode and store a unit's tiles, unless its record is there."""
    if (part := _part_before(unit)) is not None:
        return _unit_done(part)
    plan = read_plan(_plan_path(unit.slide))
    clock = StepClock()
    with _opened(unit.slide, clock) as (reader, _path):
        return _unit_done(_cut(reader, plan, unit, clock))


def _part_before(unit: UnitJob) -> pa.Table | None:
    """Return what an interrupted attempt has recorded of just this unit, or None."""
    path = _unit_path(unit)
    if not path.exists():
        return None
    part = read_table(path)
    same_settings = table_metadata(part).get("config_digest") == unit.slide.config.digest()
    return part if same_settings and part.num_rows == unit.end - unit.first else None


def finish_slide(job: SlideJob) -> SlideRecord:
    """Publish array, overlay and manifest of a slide whose units are done, then its record."""
    if (done := _finished(job)) is not None:
        return done
    plan = read_plan(_plan_path(job))
    clock = StepClock()
    parts = [read_table(_unit_path(unit)) for unit in units_of(job, plan.tiles)]
    about = from_json(_begun_path(job).read_bytes())
    for seconds in (about.pop("seconds"), *(_unit_seconds(part) for part in parts)):
        clock.add(seconds)
    table = pa.concat_tables([table_of(TILE_COLUMNS, {}), *parts]).combine_chunks()
    bad = unreadable_tiles(table)
    refuse_all_unreadable(table)
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
    write_record(job.run, record)
    _tidy_up(job)
    return record


def _finished(job: SlideJob) -> SlideRecord | None:
    """Return the record of a slide whose worker died just after it was written, and tidy up after it."""
    record = read_record(job.run, job.source.slide_id)
    if record is None or record.status != "done":
        return None
    if record.values.get("config_digest") != job.config.digest():
        return None
    _tidy_up(job)
    return record


def _tidy_up(job: SlideJob) -> None:
    remove_tree(job.run.work(job.source.slide_id))
    if job.holder is not None:
        end_try(job.run, job.source.slide_id)


def clear_slide(run: RunDirectory, slide_id: str) -> None:
    """Remove all of a slide, its record first: what is not done must not look done."""
    # Its beginning too, else units would be used again whose shards are gone.
    begun = run.work(slide_id) / "begun.json"
    for path in (
        run.record(slide_id),
        begun,
        run.manifest(slide_id),
        run.overlay(slide_id),
        run.thumbnail(slide_id),
    ):
        remove_file(path)
    remove_tree(run.array(slide_id))
    remove_tree(run.work(slide_id))


def _cut(reader: SlideReader, plan: TilePlan, unit: UnitJob, clock: StepClock) -> pa.Table:
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
                stored_bytes += write_shard(array, first // SHARD_TILES, chunks)
    table = _manifest_part(rows, plan, unit)
    metadata = {
        "stored_bytes": str(stored_bytes),
        "seconds": json.dumps(clock.seconds),
        "config_digest": config.digest(),
    }
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


def _begun_path(job: SlideJob) -> Path:
    return job.run.work(job.source.slide_id) / "begun.json"


def _unit_path(unit: UnitJob) -> Path:
    work = unit.slide.run.work(unit.slide.source.slide_id)
    return work / f"tiles-{unit.first:08d}.parquet"
