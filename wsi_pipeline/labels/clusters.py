"""Tiles with alike metrics in numbered clusters: standardised, principal components, k-means.

Fitted to a sample that the seed draws, on one thread, so that the same tiles give the same clusters on any
machine's cores; every tile then goes to the nearest centre. Clusters are numbered by sharpness, cluster 0
the least sharp, so a number says something and does not depend on where k-means began.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from wsi_pipeline.labels.quality_config import QcConfig

Floats: TypeAlias = NDArray[np.float64]

_STARTS = 4  # of k-means, the best of which is kept
_CHUNK_ROWS = 65_536
_LOGARITHMIC = "laplacian_var"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Fitted centres, and how metrics become what they lie among."""

    metrics: tuple[str, ...]
    means: Floats = field(repr=False)
    """``(metrics,)``."""
    spreads: Floats = field(repr=False)
    """``(metrics,)`` standard deviations, 1 where a metric is the same everywhere."""
    components: Floats = field(repr=False)
    """``(components, metrics)`` of standardised metrics."""
    centres: Floats = field(repr=False)
    """``(clusters, components)``, the least sharp first."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, exact."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else list(value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what ``to_dict`` was given."""
        arrays = {name: np.array(values[name], np.float64) for name in _ARRAYS}
        return cls(metrics=tuple(values["metrics"]), **arrays)


_ARRAYS = ("means", "spreads", "components", "centres")


def cluster_settings(config: QcConfig) -> dict[str, Any]:
    """Return what clusters depend on; while it is the same, so are their numbers."""
    values = config.model_dump(mode="json")
    names = ("clusters", "cluster_metrics", "cluster_variance", "cluster_sample", "seed")
    return {name: values[name] for name in names}


def fit_clusters(tiles: pd.DataFrame, config: QcConfig) -> Clusters | None:
    """Return the clusters of a cohort's tiles, or None where fewer tiles than clusters differ.

    Parameters
    ----------
    tiles
        ``slide_id``, ``tile`` and ``config.cluster_metrics``; tiles without metrics are left out.
    config
        Number of clusters, metrics, sample and seed.
    """
    features = _features(tiles, config.cluster_metrics)
    usable = np.flatnonzero(np.isfinite(features).all(axis=1))
    if config.clusters == 0:
        return None
    rows = usable[_drawn(tiles.iloc[usable], count=config.cluster_sample, seed=config.seed)]
    if len(np.unique(features[rows], axis=0)) < config.clusters:
        return None
    with threadpool_limits(1):
        return _fitted(features[rows], config)


def assign(tiles: pd.DataFrame, clusters: Clusters) -> NDArray[np.int16]:
    """Return the nearest cluster of every tile, -1 for those without metrics."""
    found = np.full(len(tiles), -1, np.int16)
    with threadpool_limits(1):
        for first in range(0, len(tiles), _CHUNK_ROWS):
            part = slice(first, first + _CHUNK_ROWS)
            features = _features(tiles.iloc[part], clusters.metrics)
            places = _on_components(features, clusters)  # (rows, components)
            nearest = _nearest(np.nan_to_num(places), clusters.centres)
            found[part] = np.where(np.isfinite(places).all(axis=1), nearest, -1)
    return found


def _features(tiles: pd.DataFrame, metrics: Sequence[str]) -> Floats:
    """Return ``(tiles, metrics)``; sharpness by the logarithm of one more than it."""
    features = np.column_stack([tiles[name].to_numpy(np.float64) for name in metrics])
    for column, name in enumerate(metrics):
        if name == _LOGARITHMIC:
            features[:, column] = np.log10(1 + features[:, column])
    return features


def _drawn(tiles: pd.DataFrame, *, count: int, seed: int) -> NDArray[np.intp]:
    """Return rows of a sample that depends on the tiles' names and the seed, not on the order of rows."""
    names = tiles["slide_id"].astype(str).astype("category")
    by_slide = pd.util.hash_array(names.cat.categories.to_numpy(object)).astype(np.uint64)
    mixed = by_slide[names.cat.codes.to_numpy()] + tiles["tile"].to_numpy(np.uint64)
    lots = pd.util.hash_array(mixed ^ pd.util.hash_array(np.array([seed], np.uint64)))
    return np.argsort(lots, kind="stable")[:count]


def _fitted(features: Floats, config: QcConfig) -> Clusters:
    spreads = features.std(axis=0)
    spreads[spreads < 1e-9] = 1.0
    means = features.mean(axis=0)
    standard = (features - means) / spreads
    share = config.cluster_variance
    pca = PCA(n_components=share if share < 1 else None, svd_solver="full").fit(standard)
    components = np.asarray(pca.components_, np.float64)
    places = standard @ components.T  # (rows, components)
    kmeans = KMeans(
        n_clusters=config.clusters, n_init=_STARTS, random_state=config.seed, algorithm="lloyd"
    ).fit(places)
    centres = np.asarray(kmeans.cluster_centers_, np.float64)
    sharp = centres @ components @ _sharpness_axis(config.cluster_metrics)
    order = np.lexsort((*centres.T[::-1], sharp))
    return Clusters(
        metrics=config.cluster_metrics,
        means=means,
        spreads=spreads,
        components=components,
        centres=centres[order],
    )


def _sharpness_axis(metrics: Sequence[str]) -> Floats:
    """Return the metric by which clusters are numbered: sharpness, or the first one without it."""
    axis = np.zeros(len(metrics))
    axis[metrics.index(_LOGARITHMIC) if _LOGARITHMIC in metrics else 0] = 1
    return axis


def _on_components(features: Floats, clusters: Clusters) -> Floats:
    return np.asarray((features - clusters.means) / clusters.spreads @ clusters.components.T)


def _nearest(places: Floats, centres: Floats) -> NDArray[np.int16]:
    squares = (centres**2).sum(axis=1) - 2 * places @ centres.T  # (rows, clusters), less |place|²
    return np.asarray(squares.argmin(axis=1), np.int16)
