"""Clusters that keep their numbers: fitted once, kept in the run, used until their settings change."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wsi_pipeline.config import differences
from wsi_pipeline.errors import OutputError
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.labels.clusters import Clusters, cluster_settings, fit_clusters
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.stages.run_directory import RunDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClusters:
    """Fitted clusters, what they were fitted with, and what is to be said of them."""

    fitted: Clusters | None
    settings: dict[str, Any]
    is_new: bool
    problems: Sequence[str] = ()


def choose_clusters(
    run: RunDirectory, tiles: pd.DataFrame, config: QcConfig, *, refit: bool
) -> KeptClusters:
    """Return the clusters that the run keeps if they have these settings, else new ones.

    Slides that came since are assigned to the clusters that are there, so that a number that someone has
    looked at goes on meaning what they saw.
    """
    settings = cluster_settings(config)
    kept = _read(run)
    if kept is not None and not refit and kept["settings"] == settings:
        same = Clusters.from_dict(kept["clusters"])
        return KeptClusters(fitted=same, settings=settings, is_new=False)
    fitted = fit_clusters(tiles, config)
    return KeptClusters(
        fitted=fitted,
        settings=settings,
        is_new=True,
        problems=_about_new(kept, settings, config, fitted=fitted),
    )


def keep_clusters(folder: Path, clusters: KeptClusters) -> None:
    """Write new clusters for the next time into a folder that is, or becomes, the run."""
    if clusters.fitted is None or not clusters.is_new:
        return
    content = {"settings": clusters.settings, "clusters": clusters.fitted.to_dict()}
    publish_bytes(folder / "qc" / "clusters.json", json.dumps(content, indent=1).encode())


def _read(run: RunDirectory) -> dict[str, Any] | None:
    path = run.path / "qc" / "clusters.json"
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be read ({error}); remove it, and the clusters are fitted and numbered anew"
        ) from error
    return content


def _about_new(
    kept: dict[str, Any] | None,
    settings: dict[str, Any],
    config: QcConfig,
    *,
    fitted: Clusters | None,
) -> list[str]:
    problems = []
    if fitted is None and config.clusters:
        problems.append(
            f"no clusters: expected at least {config.clusters} tiles that differ; choose fewer clusters"
        )
    if kept is not None and fitted is not None and config.mark_clusters:
        changed = "; ".join(differences(kept["settings"], settings)) or "asked to"
        problems.append(
            f"the clusters were fitted and numbered anew ({changed}): look at RUN/qc whether "
            f"{', '.join(map(str, config.mark_clusters))} are still those that were meant"
        )
    return problems
