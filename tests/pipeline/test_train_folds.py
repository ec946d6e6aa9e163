"""Folds: which tiles train, validate and are evaluated, and that those held out are in none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline.evaluation import Part, evaluate  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.training import plan, train  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as ``split --folds 2`` gives it: 20 tiles in fold 0 and 1, and 6 of a collection's `testing`."""
    path = labelled_run(tmp_path_factory.mktemp("folds"), validation=0, test=6)
    for part in (path / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(part)
        rows["split"] = rows["split"].astype(str).replace("test", "testing").astype("category")
        rows["fold"] = (np.arange(len(rows)) // 2 % 2).astype(np.int8)
        rows.to_parquet(part)
    return path


def test_a_test_part_trains_no_fold_whatever_it_is_called(run: Path) -> None:
    parts = plan(run, *small(fold=1)).parts
    assert parts.counts == {
        "train": {"benign": 5, "cancer": 5},
        "validation": {"benign": 5, "cancer": 5},
    }


def test_a_network_of_a_fold_is_evaluated_on_its_own_parts(run: Path) -> None:
    config, work = small(fold=1, epochs=1)
    train(run, config, name="net", work=work)
    parts: tuple[Part, ...] = ("train", "validation", "test")
    found = {
        part: pd.read_parquet(
            evaluate(
                run, model="net", part=part, work=WorkConfig(device="cpu", threads=1)
            ).predictions
        )
        for part in parts
    }
    assert {part: len(rows) for part, rows in found.items()} == {
        "train": 10,
        "validation": 10,
        "test": 6,
    }
    then = pd.read_parquet(run / "models" / "net" / "logits" / "validation.parquet")
    assert found["validation"]["tile"].tolist() == then["tile"].tolist()
