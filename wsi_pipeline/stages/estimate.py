"""What a run would cost, from plans and a few tiles really cut: ``wsi-pipeline tile --dry-run``."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_pipeline.calls import Answer, Call, Pool, SerialPool, run_all
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.remote import absolute
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.open import open_source
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.slides.staging import staged
from wsi_pipeline.stages.plan import TilePlan, no_tiles_reason, plan_slide
from wsi_pipeline.stages.run_directory import RunDirectory, read_records
from wsi_pipeline.stages.tile import TileOptions, plan_run
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.tiles.metrics import tile_metrics
from wsi_pipeline.tiles.read import read_tiles

SAMPLE_TILES = 6
"""Tiles cut per slide to learn their size and time; neighbours, so that shared decoding is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideEstimate:
    """What one slide would give."""

    slide_id: str
    tiles: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    """Of one core."""
    reason: str | None = None
    """Why it would have no tiles, or would fail."""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    source: SlideSource
    config: TileConfig


def estimate_run(
    slides: Sequence[str],
    run_path: str | Path,
    config: TileConfig,
    *,
    options: TileOptions | None = None,
    pool: Pool | None = None,
) -> tuple[SlideEstimate, ...]:
    """Return what each slide that is not done yet would give; nothing is written.

    Raises
    ------
    ConfigError
        The run itself would be refused.
    """
    run = RunDirectory(path=absolute(run_path))
    options = options or TileOptions()
    sources = plan_run(slides, run, config, options)
    done = {record.slide_id for record in read_records(run) if record.status == "done"}
    left = [each for each in sources if options.overwrite or each.slide_id not in done]
    calls = [
        Call(
            name=f"estimate:{source.slide_id}",
            function=_estimate,
            argument=_Question(source=source, config=config),
        )
        for source in left
    ]
    estimates = [_estimate_of(answer) for answer in run_all(pool or SerialPool(), calls)]
    return tuple(sorted(estimates, key=lambda estimate: estimate.slide_id))


def _estimate_of(answer: Answer) -> SlideEstimate:
    if isinstance(answer.value, SlideEstimate):
        return answer.value
    return SlideEstimate(
        slide_id=answer.call.argument.source.slide_id, reason=str(answer.error), failed=True
    )


def _estimate(question: _Question) -> SlideEstimate:
    source, config = question.source, question.config
    if source.refused is not None:
        failed = source.refused.status == "failed"
        return SlideEstimate(slide_id=source.slide_id, reason=source.refused.reason, failed=failed)
    start = time.perf_counter()
    with staged(source) as here, closing(open_source(here, slide_mpp=config.slide_mpp)) as reader:
        plan, _ = plan_slide(reader, source, config)
        planning_s = time.perf_counter() - start
        tile_bytes, tile_s = _sample(reader, plan, config)
    return SlideEstimate(
        slide_id=source.slide_id,
        tiles=plan.tiles,
        stored_bytes=round(tile_bytes * plan.tiles),
        seconds=planning_s + tile_s * plan.tiles,
        reason=no_tiles_reason(plan, config),
    )


def _sample(reader: SlideReader, plan: TilePlan, config: TileConfig) -> tuple[float, float]:
    """Return mean bytes and seconds of a few tiles from the middle of a slide."""
    middle = max(0, plan.tiles // 2 - SAMPLE_TILES // 2)
    windows = plan.windows[middle : middle + SAMPLE_TILES]
    sizes = []
    start = time.perf_counter()
    for tile in read_tiles(reader, plan.sampling, windows):
        if isinstance(tile, TileError):
            continue
        tile_metrics(tile, threshold=plan.threshold, dark_field=plan.dark_field)
        sizes.append(len(encode_tile(tile, config.codec)) if config.store == "zarr" else 0)
    seconds = time.perf_counter() - start
    return (float(np.mean(sizes)), seconds / len(windows)) if sizes else (0.0, 0.0)
