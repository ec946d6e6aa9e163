"""The table of scores against scikit-learn's, and what must hold of it for any predictions."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from scipy.special import expit, softmax
from sklearn import metrics as reference

from tests.said import THREE, TWO, drawn_predictions, predictions_of
from tests.strategies import seeds
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.table import headline, score_table
from wsi_pipeline.schema import SCORE_COLUMNS, arrow_schema


def rows_of(table: pa.Table, **wanted: str) -> pd.DataFrame:
    rows = table.to_pandas()
    for column in ("unit", "aggregate", "by", "group", "cutoff", "score"):
        rows[column] = rows[column].astype(str)
    for column, value in {"unit": "tile", "by": "all", **wanted}.items():
        rows = rows[rows[column] == value]
    return rows


def values(table: pa.Table, **wanted: str) -> dict[str, float]:
    rows = rows_of(table, **wanted)
    assert rows["score"].is_unique
    return dict(zip(rows["score"], rows["value"], strict=True))


@settings(max_examples=6)
@given(seeds)
def test_scores_of_two_classes_are_scikit_learns(seed: int) -> None:
    said = drawn_predictions(seed, patients=4, tiles=60)
    z, y = said.logits.astype(np.float64), said.targets
    weighted: dict[str, Any] = {"sample_weight": said.weights.astype(np.float64)}
    table = score_table(said, replicates=0)
    at_half = values(table, cutoff="0.5")
    assert at_half == pytest.approx(
        {
            "accuracy": reference.accuracy_score(y, z > 0, **weighted),
            "balanced_accuracy": reference.balanced_accuracy_score(y, z > 0, **weighted),
            "recall": reference.recall_score(y, z > 0, **weighted),
            "specificity": reference.recall_score(y, z > 0, pos_label=0, **weighted),
            "precision": reference.precision_score(y, z > 0, zero_division=np.nan, **weighted),
            "f1": reference.f1_score(y, z > 0, **weighted),
        },
        abs=1e-9,
        nan_ok=True,
    )
    others = values(table, cutoff="none")
    assert others.pop("ece") >= 0
    assert others == pytest.approx(
        {
            "log_loss": reference.log_loss(y, expit(z), **weighted),
            "brier": reference.brier_score_loss(y, expit(z), **weighted),
            "auroc": reference.roc_auc_score(y, z, **weighted),
            "auprc": reference.average_precision_score(y, z, **weighted),
            "prevalence": np.average(y, weights=weighted["sample_weight"]),
        },
        abs=1e-9,
    )


@settings(max_examples=4)
@given(seeds)
def test_scores_of_three_classes_are_scikit_learns(seed: int) -> None:
    said = drawn_predictions(seed, patients=4, tiles=60, classes=THREE)
    z, y = said.logits.astype(np.float64), said.targets
    weighted: dict[str, Any] = {"sample_weight": said.weights.astype(np.float64)}
    found = values(score_table(said, replicates=0))
    chosen = z.argmax(axis=1)
    p = softmax(z, axis=1)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        y, chosen, zero_division=np.nan, labels=range(3), **weighted
    )
    areas = [reference.roc_auc_score(y == each, p[:, each], **weighted) for each in range(3)]
    expected = {
        "accuracy": reference.accuracy_score(y, chosen, **weighted),
        "balanced_accuracy": reference.balanced_accuracy_score(y, chosen, **weighted),
        "recall_macro": np.nanmean(recall),
        "precision_macro": np.nanmean(precision),
        "f1_macro": np.nanmean(f1),
        "auroc_macro": np.mean(areas),
        **{f"recall_{name}": recall[at] for at, name in enumerate(THREE)},
        **{f"precision_{name}": precision[at] for at, name in enumerate(THREE)},
        **{f"auroc_{name}": areas[at] for at, name in enumerate(THREE)},
        "auprc_b": reference.average_precision_score(y == 1, p[:, 1], **weighted),
        "log_loss": reference.log_loss(y, p, labels=range(3), **weighted),
        "specificity_c": np.average(chosen[y != 2] != 2, weights=said.weights[y != 2]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(
        expected, abs=1e-9, nan_ok=True
    )


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return score_table(
        drawn_predictions(1), validation=drawn_predictions(2), replicates=300, seed=3
    )


def test_the_table_is_tidy(table: pa.Table) -> None:
    assert table.schema.equals(arrow_schema(SCORE_COLUMNS))
    keys = ["unit", "aggregate", "by", "group", "cutoff", "score"]
    assert not table.select(keys).to_pandas().duplicated().any()


def test_an_interval_is_around_its_score(table: pa.Table) -> None:
    rows = table.to_pandas().dropna(subset=["low"])
    assert len(rows) > 200
    assert (rows["low"] <= rows["value"] + 1e-12).all()
    assert (rows["value"] <= rows["high"] + 1e-12).all()
    assert set(rows["level"]) == {0.95}


def test_the_same_seed_gives_the_same_table_and_order_does_not_matter(table: pa.Table) -> None:
    again, validation = drawn_predictions(1), drawn_predictions(2)
    turned = np.random.default_rng(0).permutation(len(again))
    other = Predictions(table=again.table.take(turned), classes=TWO)
    found = score_table(other, validation=validation, replicates=300, seed=3).to_pandas()
    pd.testing.assert_frame_equal(found, table.to_pandas(), rtol=1e-9)
    seeded = score_table(again, validation=validation, replicates=300, seed=4)
    assert values(seeded, cutoff="none") == values(table, cutoff="none")
    assert (
        rows_of(seeded, score="auroc")["low"].tolist()
        != rows_of(table, score="auroc")["low"].tolist()
    )


def test_groups_are_scored_as_their_tiles_alone_are(table: pa.Table) -> None:
    said = drawn_predictions(1)
    scanner = said.only(said.groups("scanner").codes == 1)
    alone = score_table(scanner, validation=drawn_predictions(2), replicates=300, seed=3)
    for unit in ("tile", "slide", "patient"):
        for score in ("auroc", "recall", "ece", "f1"):
            mine = rows_of(table, unit=unit, by="scanner", group="B", score=score)
            assert len(mine) > 0
            theirs = rows_of(alone, unit=unit, score=score)
            columns = ["aggregate", "cutoff", "value", "low", "high", "tiles", "patients"]
            pd.testing.assert_frame_equal(
                mine[columns].reset_index(drop=True), theirs[columns].reset_index(drop=True)
            )


@pytest.mark.parametrize("by", ["patient_id", "slide_id"])
def test_each_patient_and_slide_has_scores_without_intervals(table: pa.Table, by: str) -> None:
    said = drawn_predictions(1)
    groups = said.groups(by)
    for number in (0, len(groups.names) - 1):
        name = groups.names[number]
        part = said.only(groups.codes == number)
        alone = values(score_table(part, replicates=0), cutoff="none")
        mine = values(table, by=by, group=name, cutoff="none")
        del mine["log_loss_after_temperature"], mine["brier_after_temperature"]
        del mine["ece_after_temperature"]
        assert mine == pytest.approx(alone, nan_ok=True)
        held = rows_of(table, by=by, group=name)
        assert held["low"].isna().all()
        assert set(held["tiles"]) == {len(part)}
        assert set(held["patients"]) == {1}


def test_without_validation_there_is_no_cutoff_of_it_and_no_temperature() -> None:
    found = score_table(drawn_predictions(1), replicates=0).to_pandas()
    assert set(found["cutoff"]) == {"0.5", "none"}
    assert not found["score"].astype(str).str.contains("temperature").any()


def test_what_validation_settles_is_in_the_table(table: pa.Table) -> None:
    cutoff = values(table, cutoff="validation")["cutoff"]
    temperature = values(table, cutoff="none")["temperature"]
    said = drawn_predictions(1)
    p, y = expit(said.logits.astype(np.float64)), said.targets
    recall = np.average(p[y == 1] > cutoff, weights=said.weights[y == 1])
    assert values(table, cutoff="validation")["recall"] == pytest.approx(recall)
    cooled = expit(said.logits / temperature)
    brier = np.average((cooled - y) ** 2, weights=said.weights)
    assert values(table, cutoff="none")["brier_after_temperature"] == pytest.approx(brier)


def test_five_patients_are_reported_as_such() -> None:
    found = rows_of(score_table(drawn_predictions(1, patients=5), replicates=200), score="auroc")
    assert found["note"].tolist() == ["5 patients: only 126 distinct resamples"]
    assert found["low"].notna().all()


def test_one_patient_has_no_interval_and_it_is_said() -> None:
    found = rows_of(score_table(drawn_predictions(1, patients=1), replicates=50), score="recall")
    assert found["low"].isna().all()
    assert found["note"].tolist() == ["1 patient: no interval"]


def test_a_class_that_few_patients_have_is_told() -> None:
    patients = [f"P{each:02d}" for each in range(20) for _ in range(4)]
    y = np.array([1, 0, 0, 0] * 3 + [0] * 68)
    said = predictions_of(np.random.default_rng(0).normal(0, 1, 80) + y, y, patients=patients)
    table = score_table(said, replicates=200)
    note = rows_of(table, score="recall")["note"].iloc[0]
    assert "rests on 3 of 20 patients" in note
    assert rows_of(table, score="accuracy")["note"].tolist() == [""]


def test_a_class_without_tiles_has_null_scores_that_say_so() -> None:
    said = predictions_of([0.5, -0.5, 1.0], [1, 1, 1], patients=["a", "b", "c"])
    table = score_table(said, validation=said, replicates=50)
    for score in ("auroc", "auprc", "precision", "specificity", "balanced_accuracy"):
        row = rows_of(table, score=score).iloc[0]
        assert np.isnan(row["value"])
        assert "cannot be said: no tile of benign" in row["note"]
    assert values(table, cutoff="0.5")["recall"] == pytest.approx(2 / 3)
    assert values(table, cutoff="0.5")["f1"] == pytest.approx(4 / 5)
    assert "validation" not in set(table.to_pandas()["cutoff"])


@settings(max_examples=10)
@given(seeds)
def test_what_is_1_whatever_the_network_says_is_no_score_of_a_slide_or_patient(seed: int) -> None:
    random = np.random.default_rng(seed)
    patients = [name for name in ("all", "none", "some") for _ in range(8)]
    y = np.concatenate([np.ones(8), np.zeros(8), np.arange(8) % 2]).astype(np.int64)
    table = score_table(predictions_of(random.normal(size=24), y, patients=patients), replicates=20)
    for by in ("patient_id", "slide_id"):
        for score in ("precision", "auprc", "auroc"):
            rows = rows_of(table, by=by, score=score).set_index("group")
            assert rows["value"].isna().tolist()[:2] == [True, True]
            assert rows.loc["all", "note"] == "cannot be said: no tile of benign"
            assert rows.loc["none", "note"] == "cannot be said: no tile of cancer"
        assert values(table, by=by, group="some", cutoff="none")["auprc"] <= 1
        assert values(table, by=by, group="all", cutoff="0.5")["recall"] >= 0


def test_without_a_positive_tile_nothing_is_said_of_finding_them() -> None:
    said = predictions_of([0.5, -0.5, -1.0], [0, 0, 0], patients=["a", "b", "c"])
    table = score_table(said, replicates=50)
    for score in ("recall", "precision", "f1", "balanced_accuracy", "auroc"):
        row = rows_of(table, score=score).iloc[0]
        assert np.isnan(row["value"]), score
        assert "no tile of cancer" in row["note"], score
    assert not {"balanced_accuracy", "precision", "f1"} & {row[0] for row in headline(table)}
    assert values(table, cutoff="0.5")["specificity"] == pytest.approx(2 / 3)


def test_a_class_that_is_said_and_not_there_counts_in_score_and_interval() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(300, 3)).astype(np.float32)
    targets = np.arange(300) % 2  # none of the third class, which is said of every third tile
    patients = [f"P{number % 20:02d}" for number in range(300)]
    said = predictions_of(logits, targets, patients=patients, classes=THREE)
    rows = rows_of(score_table(said, replicates=400)).set_index("score")
    expected = reference.precision_score(targets, logits.argmax(axis=1), average="macro")
    assert rows.loc["precision_macro", "value"] == pytest.approx(expected, abs=1e-9)
    for score in ("precision_macro", "f1_macro", "recall_macro"):
        row = rows.loc[score]
        assert row["low"] < row["value"] < row["high"], score


def test_tiles_without_a_label_count_for_nothing() -> None:
    said = predictions_of([0.5, -0.5, 9.0], [1, 0, -1], patients=["a", "b", "c"])
    row = rows_of(score_table(said, replicates=0), score="accuracy").iloc[0]
    assert (row["value"], row["tiles"], row["patients"]) == (1.0, 2, 2)


def test_the_headline_is_of_all_tiles(table: pa.Table) -> None:
    shown = headline(table)
    assert ("auroc", "none") in {row[:2] for row in shown}
    auroc = next(row for row in shown if row[0] == "auroc")
    row = rows_of(table, score="auroc").iloc[0]
    assert auroc[2:] == (f"{row['value']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}")
    assert len(shown) == len({row[:2] for row in shown})
