import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from tests.strategies import seeds
from tests.unit.labels.quality_tables import dim, tiles_of
from wsi_pipeline.config import make_config
from wsi_pipeline.labels.clusters import Clusters, assign, cluster_settings, fit_clusters
from wsi_pipeline.labels.quality_config import QcConfig

CONFIG = make_config(QcConfig, {"clusters": 3, "cluster_sample": 100})


def three_kinds(seed: int = 0) -> pd.DataFrame:
    """Return sharp tiles, blurred ones and red ones, 100 of each."""
    tiles = tiles_of(seed, slides=3, tiles=100)
    kind = tiles.index.to_numpy() % 3
    dim(tiles, kind == 1, 0.01)
    tiles["red_mean"] += (kind == 2) * np.float32(120)
    return tiles.assign(kind=kind)


def fitted(tiles: pd.DataFrame, config: QcConfig = CONFIG) -> Clusters:
    clusters = fit_clusters(tiles, config)
    assert clusters is not None
    return clusters


def test_kinds_of_tiles_become_clusters_and_the_least_sharp_is_number_0() -> None:
    tiles = three_kinds()
    metrics = ("laplacian_var", "red_mean")
    config = make_config(QcConfig, {"clusters": 3, "cluster_metrics": metrics})
    found = assign(tiles, fitted(tiles, config))
    assert (found[tiles["kind"] == 1] == 0).all()
    table = pd.crosstab(tiles["kind"], found)
    assert (table.to_numpy() > 0).sum() == 3


@given(seeds)
@settings(max_examples=8)
def test_clusters_depend_on_tiles_and_not_on_the_order_of_rows(seed: int) -> None:
    tiles = three_kinds(seed)
    shuffled = tiles.sample(frac=1, random_state=seed)
    again = pd.Series(assign(shuffled, fitted(shuffled)), shuffled.index).sort_index()
    assert (again.to_numpy() == assign(tiles, fitted(tiles))).all()


def test_clusters_come_back_from_json_as_they_were() -> None:
    tiles = three_kinds()
    clusters = fitted(tiles)
    kept = Clusters.from_dict(json.loads(json.dumps(clusters.to_dict())))
    assert kept.to_dict() == clusters.to_dict()
    assert (assign(tiles, kept) == assign(tiles, clusters)).all()


def test_tiles_without_metrics_are_in_no_cluster() -> None:
    tiles = three_kinds()
    tiles.loc[7, "gray_std"] = np.nan
    found = assign(tiles, fitted(tiles))
    assert found[7] == -1
    assert (np.delete(found, 7) >= 0).all()


def test_there_are_no_clusters_of_fewer_tiles_that_differ() -> None:
    tiles = three_kinds()
    assert fit_clusters(tiles.iloc[:2], CONFIG) is None
    assert fit_clusters(pd.concat([tiles.iloc[:1]] * 9), CONFIG) is None
    assert fit_clusters(tiles, make_config(QcConfig, {"clusters": 0})) is None
    assert fit_clusters(tiles.iloc[:0], CONFIG) is None


def test_a_metric_that_is_the_same_everywhere_does_not_matter() -> None:
    tiles = three_kinds()
    same = tiles.assign(black_pixels=np.float32(0.5))
    assert (assign(same, fitted(same)) == assign(tiles, fitted(tiles))).all()


def test_limits_of_rules_do_not_change_what_clusters_depend_on() -> None:
    lax = make_config(QcConfig, {"black_share": 0.5, "mark_clusters": "3"})
    assert cluster_settings(lax) == cluster_settings(QcConfig())
    assert cluster_settings(make_config(QcConfig, {"seed": 1})) != cluster_settings(QcConfig())


_FIT = """
import hashlib, json, sys
from tests.unit.labels.quality_tables import tiles_of
from wsi_pipeline.labels.clusters import fit_clusters
from wsi_pipeline.labels.quality_config import QcConfig
clusters = fit_clusters(tiles_of(11, slides=20, tiles=400), QcConfig())
print(hashlib.sha256(json.dumps(clusters.to_dict()).encode()).hexdigest())
"""


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_clusters_are_the_same_to_the_last_bit_whatever_the_number_of_threads(threads: str) -> None:
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    answer = subprocess.run(
        [sys.executable, "-c", _FIT],
        env={**os.environ, **limits},
        capture_output=True,
        text=True,
        check=True,
    )
    once = fit_clusters(tiles_of(11, slides=20, tiles=400), QcConfig())
    assert once is not None
    expected = hashlib.sha256(json.dumps(once.to_dict()).encode()).hexdigest()
    assert answer.stdout.strip() == expected
