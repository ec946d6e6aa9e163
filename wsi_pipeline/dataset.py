"""Joins the stages between tiles and training to workers; apart from ``run``, for they load more libraries.

SciPy, scikit-learn and Matplotlib would cost every ``tile`` two seconds.
"""

from pathlib import Path

from wsi_pipeline.compute.cluster import Cluster
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.run import pool_on
from wsi_pipeline.stages.compare import Comparison, compare_groups
from wsi_pipeline.stages.import_tiles import ImportConfig, ImportOutcome
from wsi_pipeline.stages.import_tiles import import_tiles as import_on
from wsi_pipeline.stages.label import LabelOutcome, label_run
from wsi_pipeline.stages.qc import QcOptions, QcOutcome, qc_run
from wsi_pipeline.stages.stage import Observer


def label(
    run_path: str | Path,
    config: LabelConfig,
    *,
    dry_run: bool = False,
    cluster: Cluster | None = None,
    observer: Observer | None = None,
) -> LabelOutcome:
    """Give every tile its shares and label; see ``stages.label.label_run``."""
    with pool_on(cluster) as pool:
        return label_run(run_path, config, dry_run=dry_run, pool=pool, observer=observer)


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
    with pool_on(cluster) as pool:
        return qc_run(run_path, config, options=options, pool=pool)


def compare(
    run_path: str | Path, config: CompareConfig, *, cluster: Cluster | None = None
) -> Comparison:
    """Compare groups of tiles; see ``stages.compare.compare_groups``. Workers find stain vectors."""
    with pool_on(cluster) as pool:
        return compare_groups(run_path, config, pool=pool)


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
    with pool_on(cluster) as pool:
        return import_on(
            source, run_path, settings, overwrite=overwrite, pool=pool, observer=observer
        )
