"""Joins cutting and verifying to workers; ``wsi_pipeline.dataset`` does so for what comes after."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from wsi_pipeline.calls import Pool
from wsi_pipeline.compute.cluster import Cluster, open_pool, usable_cores
from wsi_pipeline.stages.estimate import SlideEstimate, estimate_run
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
    with pool_on(cluster) as pool:
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
    with pool_on(cluster) as pool:
        return estimate_run(slides, run_path, config, options=options, pool=pool)


def verify(
    run_path: str | Path, *, cluster: Cluster | None = None, observer: Observer | None = None
) -> VerifyOutcome:
    """Re-read a run and say what does not agree; see ``stages.verify.verify_run``."""
    with pool_on(cluster) as pool:
        return verify_run(run_path, pool=pool, observer=observer)


def pool_on(cluster: Cluster | None) -> AbstractContextManager[Pool]:
    """Return a pool of a cluster's workers, or of all cores of this machine."""
    cluster = cluster or Cluster(workers=usable_cores())
    return open_pool(cluster, preload=[__name__])
