"""Joins a stage to workers: the only place that knows both."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from wsi_pipeline.calls import Pool
from wsi_pipeline.compute.cluster import Cluster, open_pool, usable_cores
from wsi_pipeline.stages.estimate import SlideEstimate, estimate_run
from wsi_pipeline.stages.import_tiles import ImportConfig, ImportOutcome
from wsi_pipeline.stages.import_tiles import import_tiles as import_on
from wsi_pipeline.stages.stage import Observer
from wsi_pipeline.stages.tile import TileConfig, TileOptions, TileOutcome, tile_slides
from wsi_pipeline.stages.verify import VerifyOutcome, verify_run


def tile(
    slides: Sequence[str],
    run_path: str | Path,
    config: TileConfig,
    *,
    options: TileOptions | None = None,
    cluster: Cluster | None = None,
    observer: Observer | None = None,
) -> TileOutcome:
    """Cut slides into tiles on all cores, or on a cluster; see ``stages.tile.tile_slides`` for the rest.

    In a script, call it below ``if __name__ == "__main__":``, as everything that starts processes.
    """
    with _pool(cluster) as pool:
        return tile_slides(slides, run_path, config, options=options, pool=pool, observer=observer)


def estimate(
    slides: Sequence[str],
    run_path: str | Path,
    config: TileConfig,
    *,
    options: TileOptions | None = None,
    cluster: Cluster | None = None,
) -> tuple[SlideEstimate, ...]:
    """Return what ``tile`` would give; see ``stages.estimate.estimate_run``."""
    with _pool(cluster) as pool:
        return estimate_run(slides, run_path, config, options=options, pool=pool)


def verify(
    run_path: str | Path, *, cluster: Cluster | None = None, observer: Observer | None = None
) -> VerifyOutcome:
    """Re-read a run and say what does not agree; see ``stages.verify.verify_run``."""
    with _pool(cluster) as pool:
        return verify_run(run_path, pool=pool, observer=observer)


def import_tiles(
    source: str | Path,
    run_path: str | Path,
    settings: ImportConfig,
    *,
    overwrite: bool = False,
    cluster: Cluster | None = None,
    observer: Observer | None = None,
) -> ImportOutcome:
    """Store existing tiles as a run, an array a call; see ``stages.import_tiles.import_tiles``."""
    with _pool(cluster) as pool:
        return import_on(
            source, run_path, settings, overwrite=overwrite, pool=pool, observer=observer
        )


def _pool(cluster: Cluster | None) -> AbstractContextManager[Pool]:
    cluster = cluster or Cluster(workers=usable_cores())
    return open_pool(cluster, preload=[__name__])
