"""Several networks as one, tiles without labels, and views: what is written and what is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline.cli.evaluate_scores import show  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluate.predictions import read_predictions  # noqa: E402
from wsi_pipeline.evaluation import Question, evaluate, evaluate_models  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two repeats, one of which has two logits."""
    path = labelled_run(tmp_path_factory.mktemp("models"), test=12)
    for seed, head in enumerate(("single", "classes")):
        config, work = small(epochs=1, seed=seed, model__head=head)
        train(path, config, name=f"net-{seed}", work=work)
    return path


def change(run: Path, **columns: Any) -> Path:  # noqa: ANN401  whatever pandas takes
    """Return the run with columns of its manifest replaced, or dropped for None."""
    for path in (run / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(path)
        for name, values in columns.items():
            rows = rows.drop(columns=name) if values is None else rows.assign(**{name: values})
        rows.to_parquet(path)
    return run


def test_repeats_are_members_and_one_ensemble(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate_models(run, models=["net"], work=CPU)
    assert found.ensemble is not None
    folder = run / "models" / "net"
    assert found.ensemble.predictions == folder / "predictions" / "test.parquet"
    members = json.loads((folder / "ensemble.json").read_text())["members"]
    assert members == ["net-0", "net-1"]
    single, double = (read_predictions(each.predictions) for each in found.members)
    assert (single.logits.ndim, double.logits.ndim) == (1, 2)
    positive = [single.judged().probabilities[:, 1], double.judged().probabilities[:, 1]]
    mean = pd.read_parquet(found.ensemble.predictions)["probability"]
    np.testing.assert_allclose(mean, np.mean(positive, axis=0), rtol=1e-5)
    show(found, {}, {}, json=False, quiet=False)
    said = capsys.readouterr().out
    assert "standard deviation" in said
    assert "95 % interval, seeds and patients" in said
    assert "intervals: 2 repeats; 1 patient: no interval" in said
    wider = evaluate_models(run, models=["net"], question=Question(part="all"), work=CPU)
    average = next(each.mean for each in wider.spreads if each.score == "accuracy")
    interval = wider.nested["accuracy"]
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= average <= interval.high
    assert "the mean of their probabilities" in said
    again = evaluate_models(run, models=["net-*"], work=CPU)
    assert again.ensemble is not None
    assert again.ensemble.was_there
    assert again.ensemble.scores == found.ensemble.scores


def test_members_with_other_validation_tiles_are_an_ensemble_without_a_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = labelled_run(tmp_path, test=12)
    for fold in range(2):
        where = f"slide_id != 'tiles_validation' or tile != {fold}"
        config, work = small(epochs=1, where=where)
        train(run, config, name=f"fold-{fold}", work=work)
    found = evaluate_models(run, models=["fold"], work=CPU)
    assert found.ensemble is not None
    assert found.ensemble.table is not None
    assert "validation" not in found.ensemble.table["cutoff"].to_pylist()
    tables = [each.table for each in found.members if each.table is not None]
    assert len(tables) == 2
    assert all("validation" in each["cutoff"].to_pylist() for each in tables)
    show(found, {}, {}, json=False, quiet=True)
    assert "members have other validation tiles" in capsys.readouterr().err
    assert not list((run / "models").glob("*/predictions/*.parts"))


def test_new_answers_never_lie_beside_old_scores(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate(run, model="net-0", where="tile < 8", work=CPU)
    about, scores = (found.predictions.with_suffix(end) for end in (".json", ".scores.parquet"))
    then = about.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("wsi_pipeline.evaluation.judge", _cut_off)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, model="net-0", where="tile < 8", overwrite=True, work=CPU)
    assert (about.exists(), scores.exists()) == (False, False)
    assert not evaluate(run, model="net-0", where="tile < 8", work=CPU).was_there
    assert about.read_bytes() == then


def _cut_off(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_rows_say_whose_and_where_the_tiles_are(run: Path) -> None:
    found = evaluate(run, model="net-0", work=CPU)
    rows = pd.read_parquet(found.predictions)
    assert {"patient_id", "label", "x", "y", "width", "height"} <= {*rows.columns}
    assert rows["logit"].dtype == np.float32
    classes = np.array(["benign", "cancer"])
    assert rows["label"].tolist() == classes[rows["target"]].tolist()
    said = json.loads(found.predictions.with_suffix(".json").read_text())
    assert (said["epoch"], said["epochs_count_from"]) == (0, 0)
    assert said["model"] == "net-0"


def test_a_centre_without_labels_gets_predictions_and_a_note(run: Path, tmp_path: Path) -> None:
    other = labelled_run(tmp_path, train=2, validation=2, test=6).rename(tmp_path / "CENTRE")
    change(other, label=None, split=None)
    with pytest.raises(ConfigError, match=r"no tile has a split, .*--part all"):
        evaluate(run, model="net-0", on=other, work=CPU)
    found = evaluate(run, model="net-0", on=other, part="all", work=CPU)
    assert found.notes[-1] == "no tile has a label: there are predictions and no scores"
    rows = pd.read_parquet(found.predictions)
    assert len(rows) == 10
    assert rows["target"].isna().all()
    assert rows["logit"].notna().all()
    assert (rows["weight"] == 0).all()
    assert (found.scores["tiles"], found.scores["auroc"], found.table) == (0, None, None)


def test_tiles_without_a_label_are_asked_and_in_no_score(run: Path, tmp_path: Path) -> None:
    other = labelled_run(tmp_path, train=2, validation=2, test=6).rename(tmp_path / "SOME")
    change(other, label=_but_for_every_third)
    found = evaluate(run, model="net-0", on=other, part="all", work=CPU)
    rows = pd.read_parquet(found.predictions)
    without = rows["tile"] % 3 == 0
    assert without.sum() == 4
    assert (rows["target"].isna() == without).all()
    assert (rows["label"].isna() == without).all()
    assert found.scores["tiles"] == 6
    assert "4 of 10 tiles have no label and are in no score" in found.notes


def _but_for_every_third(rows: pd.DataFrame) -> pd.Categorical:
    labels = [None if number % 3 == 0 else "cancer" for number in rows["tile"]]
    return pd.Categorical(labels, categories=["benign", "cancer"])


def test_validation_settles_a_cut_off_without_being_asked_again(run: Path) -> None:
    found = evaluate(run, model="net-0", work=CPU)
    assert found.table is not None
    assert "validation" in found.table["cutoff"].to_pylist()
    assert not (found.predictions.parent / "validation.parquet").exists()
    logits = run / "models" / "net-0" / "logits" / "validation.parquet"
    hidden = logits.rename(logits.with_suffix(".hidden"))
    try:
        again = evaluate(run, model="net-0", work=CPU)
    finally:
        hidden.rename(logits)
    assert (found.predictions.parent / "validation.parquet").exists()
    assert again.table is not None
    then, now = (np.array(each["value"], np.float64) for each in (found.table, again.table))
    np.testing.assert_allclose(now, then, rtol=1e-4)  # the logits differ in their last digits


def test_views_are_another_file_and_validation_is_seen_alike(run: Path) -> None:
    plain = evaluate(run, model="net-0", work=CPU)
    turned = evaluate(run, model="net-0", tta="d4", work=CPU)
    assert turned.predictions.name == "test-tta_d4.parquet"
    assert (turned.predictions.parent / "validation-tta_d4.parquet").exists()
    first, second = (read_predictions(each.predictions).logits for each in (plain, turned))
    assert not np.array_equal(first, second)


def test_models_of_other_tiles_or_names_are_no_ensemble(run: Path) -> None:
    both = evaluate_models(run, models=["net-1", "net-0"], ensemble="both", work=CPU)
    assert both.ensemble is not None
    assert both.ensemble.model == "both"
    one = evaluate_models(run, models=["net-1"], question=Question(part="validation"), work=CPU)
    assert one.ensemble is None
    with pytest.raises(ConfigError, match=r"nets: expected a model .*did you mean net-1\?|net-0"):
        evaluate_models(run, models=["nets"], work=CPU)
