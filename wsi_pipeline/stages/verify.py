"""Re-reads everything a run has stored and compares it with the manifest: ``wsi-pipeline verify``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsi_pipeline.calls import Answer, Call, Pool, SerialPool, run_all
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.remote import absolute, answering, check_reachable, is_remote
from wsi_pipeline.schema import IMPORTED, TILE_COLUMNS, arrow_schema
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    read_records,
    read_run_json,
)
from wsi_pipeline.stages.stage import Observer, SilentObserver
from wsi_pipeline.store.codec import decode_tile
from wsi_pipeline.store.layout import ArrayLayout, array_json
from wsi_pipeline.store.reader import iterate_tiles
from wsi_pipeline.store.writer import checksum
from wsi_pipeline.tables import read_table, table_metadata
from wsi_pipeline.tiles.metrics import tile_metrics

GRAY_TOLERANCE = 3.0
"""Grey levels by which the mean of a stored tile may differ from the manifest's: JPEG moves it by 0.5."""

MOST_FINDINGS = 20
"""Findings listed per slide; a lost disk would give one per tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideCheck:
    """One slide to be verified."""

    run: RunDirectory
    config: TileConfig
    record: SlideRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFindings:
    """What verifying a slide found."""

    slide_id: str
    tiles: int
    """Looked at in the store; none where only coordinates were kept."""
    stored_bytes: int
    findings: tuple[str, ...]
    """One sentence each; none where all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOutcome:
    """What verifying a run found."""

    slides: tuple[SlideFindings, ...]
    findings: tuple[str, ...]
    """All sentences, each beginning with its slide."""

    @property
    def tiles(self) -> int:
        """Tiles that were read again."""
        return sum(slide.tiles for slide in self.slides)


def verify_run(
    run_path: str | Path, *, pool: Pool | None = None, observer: Observer | None = None
) -> VerifyOutcome:
    """Re-read every tile of every done slide and say what does not agree.

    Raises
    ------
    ConfigError
        There is no run at the path.
    OutputError
        A remote one stopped answering.
    """
    run = RunDirectory(path=absolute(run_path))
    with answering(run.path):
        return _verify(run, pool or SerialPool(), observer or SilentObserver())


def _verify(run: RunDirectory, pool: Pool, observer: Observer) -> VerifyOutcome:
    checks = _checks(run)
    observer.slides_found(len(checks))
    for check in checks:
        observer.slide_planned(check.record.slide_id, check.record.tiles)
    calls = [
        Call(name=f"verify:{check.record.slide_id}", function=verify_slide, argument=check)
        for check in checks
    ]
    slides: list[SlideFindings] = []
    for answer in run_all(pool, calls):
        found = _findings_of(answer)
        slides.append(found)
        observer.unit_cut(found.slide_id, found.tiles, found.stored_bytes)
        observer.slide_ended(answer.call.argument.record)
    slides.sort(key=lambda found: found.slide_id)
    findings = [f"{slide.slide_id}: {text}" for slide in slides for text in slide.findings]
    findings += [*_about_slides_table(run), *_strays(run, checks)]
    return VerifyOutcome(slides=tuple(slides), findings=tuple(findings))


def verify_slide(check: SlideCheck) -> SlideFindings:
    """Re-read one slide's manifest and tiles."""
    findings: list[str] = []
    stored_bytes = tiles = 0
    for tile, text, size_bytes in _examine(check):
        stored_bytes += size_bytes
        tiles += tile is not None
        if text is not None:
            findings.append(text if tile is None else f"tile {tile}: {text}")
    more = len(findings) - MOST_FINDINGS
    listed = (*findings[:MOST_FINDINGS], *([f"and {more} more"] if more > 0 else []))
    return SlideFindings(
        slide_id=check.record.slide_id,
        tiles=tiles,
        stored_bytes=stored_bytes,
        findings=listed,
    )


def _findings_of(answer: Answer) -> SlideFindings:
    if isinstance(answer.value, SlideFindings):
        return answer.value
    slide_id = answer.call.argument.record.slide_id
    text = f"could not be verified ({answer.error})"
    return SlideFindings(slide_id=slide_id, tiles=0, stored_bytes=0, findings=(text,))


def _checks(run: RunDirectory) -> list[SlideCheck]:
    if is_remote(run.path):
        check_reachable(run.path)
    content = read_run_json(run)
    if content is None:
        raise ConfigError(f"{run.path}: expected a run directory, found no run.json in it")
    config = make_config(TileConfig, content["config"])
    done = [record for record in read_records(run) if record.status == "done"]
    return [SlideCheck(run=run, config=config, record=record) for record in done]


def _examine(check: SlideCheck) -> Iterator[tuple[int | None, str | None, int]]:
    """Yield (tile, finding, bytes) for every tile, and findings about the slide without a tile."""
    run, slide_id = check.run, check.record.slide_id
    try:
        table = read_table(run.manifest(slide_id))
    except (OSError, pa.ArrowException) as error:
        yield None, f"its manifest cannot be read ({error})", 0
        return
    for text in _about_manifest(check, table):
        yield None, text, 0
    if check.config.store == "none":
        return
    layout = ArrayLayout(
        tiles=check.record.tiles, tile_size=check.config.tile_size, codec=check.config.codec
    )
    metadata = run.array(slide_id) / "zarr.json"
    if not metadata.is_file() or metadata.read_bytes() != array_json(layout):
        yield None, "zarr.json is missing or is not what these settings write", 0
    rows = table.select(["status", "crc32c", "gray_mean"]).to_pylist()
    for tile, chunk in iterate_tiles(run.array(slide_id), tiles=min(layout.tiles, len(rows))):
        yield tile, *_about_tile(chunk, rows[tile], check)


def _about_manifest(check: SlideCheck, table: pa.Table) -> Iterator[str]:
    missing = [name for name in arrow_schema(TILE_COLUMNS).names if name not in table.column_names]
    if missing:
        yield f"its manifest lacks the columns {', '.join(missing)}"
    if table.num_rows != check.record.tiles:
        yield f"its manifest has {table.num_rows} rows, expected {check.record.tiles}"
    if table.column("tile").to_pylist() != list(range(table.num_rows)):
        yield "its manifest's rows are not numbered 0, 1, 2, …"
    if table_metadata(table).get("config_digest") != check.config.digest():
        yield "its manifest was made with other settings than run.json says"
    imported = check.record.values.get("backend") == IMPORTED  # of them there is no overview
    if not imported and not check.run.overlay(check.record.slide_id).is_file():
        yield "its overlay is missing"


def _about_tile(
    chunk: bytes | TileError | None, row: dict[str, Any], check: SlideCheck
) -> tuple[str | None, int]:
    """Return what is wrong with one stored tile, and its size."""
    if isinstance(chunk, TileError):
        return str(chunk), 0
    if chunk is None:
        unreadable = row["status"] == "unreadable"
        return None if unreadable else "no pixels are stored, and the manifest says ok", 0
    if row["status"] == "unreadable":
        return "pixels are stored, and the manifest says unreadable", len(chunk)
    if checksum(chunk) != row["crc32c"]:
        return f"its {len(chunk)} bytes are not those that were written (CRC-32C)", len(chunk)
    return _about_pixels(chunk, row, check), len(chunk)


def _about_pixels(chunk: bytes, row: dict[str, Any], check: SlideCheck) -> str | None:
    try:
        rgb = decode_tile(chunk, check.config.codec, tile_size=check.config.tile_size)
    except TileError as error:
        return str(error)
    mean = tile_metrics(rgb, threshold=0)["gray_mean"]
    if abs(mean - np.float32(row["gray_mean"])) > GRAY_TOLERANCE:
        return f"mean gray {mean:.1f}, the manifest says {row['gray_mean']:.1f}: another tile's pixels?"
    return None


def _about_slides_table(run: RunDirectory) -> list[str]:
    """Return how slides.parquet differs from the records that it is made from."""
    try:
        table = read_table(run.slides_table).select(["slide_id", "status", "tiles"]).to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        return [f"slides.parquet cannot be read ({error}); the next run makes it anew"]
    expected = [
        {"slide_id": record.slide_id, "status": record.status, "tiles": record.tiles}
        for record in read_records(run)
    ]
    return [] if table == expected else ["slides.parquet does not agree with the slides' records"]


def _strays(run: RunDirectory, checks: list[SlideCheck]) -> list[str]:
    """Return what lies in the run and belongs to no slide that is done."""
    done = {check.record.slide_id for check in checks}
    manifests = {path.stem for path in run.manifests.glob("*.parquet")} - done
    arrays = {path.parent.name for path in run.store.glob("*/zarr.json")} - done
    return [
        f"{name}: a manifest or array of a slide that is not done"
        for name in sorted(manifests | arrays)
    ]
