"""Joins cutting and verifying to workers; ``wsi_pipeline.dataset`` does so for what comes after."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from wsi_pipeline.calls import Pool
from wsi_pipeline.compute.cluster import Cluster, open_pool, usable_cores
from wsi_pipeline.stages.estimate import SlideEstimate, estimate_run
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.stages.estimate import SlideEstimate, estimate_run
from wsi_pipeline.stages.group_comparison import Comparison, compare_groups
from wsi_pipeline.stages.qc import QcOptions, QcOutcome, qc_run
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.stages.estimate import SlideEstimate, estimate_run
from wsi_pipeline.stages.label import LabelOutcome, label_run
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
def qc(
    run_path: str | Path,
    config: QcConfig,
    *,
    options: QcOptions | None = None,
    cluster: Cluster | None = None,
) -> QcOutcome:
    """Mark tiles of bad quality; see ``stages.qc.qc_run``. Workers draw the collages."""
    if options is not None and (options.dry_run or not options.pictures):
        return qc_run(run_path, config, options=options)
    with _pool(cluster) as pool:
        return qc_run(run_path, config, options=options, pool=pool)


def compare(
    run_path: str | Path, config: CompareConfig, *, cluster: Cluster | None = None
) -> Comparison:
    """Compare groups of tiles; see ``stages.group_comparison.compare_groups``. Workers find stain vectors."""
    with _pool(cluster) as pool:
        return compare_groups(run_path, config, pool=pool)
def label(
    run_path: str | Path,
    config: LabelConfig,
    *,
    dry_run: bool = False,
    cluster: Cluster | None = None,
    observer: Observer | None = None,
) -> LabelOutcome:
    """Give every tile its shares and label; see ``stages.label.label_run``."""
    with _pool(cluster) as pool:
        return label_run(run_path, config, dry_run=dry_run, pool=pool, observer=observer)


def _pool(cluster: Cluster | None) -> AbstractContextManager[Pool]:
    cluster = cluster or Cluster(workers=usable_cores())
    return open_pool(cluster, preload=[__name__])
