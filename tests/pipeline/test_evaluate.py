"""A trained network asked for tiles of a part: what it says, what is written, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import Command  # noqa: E402
from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluation import Evaluated, evaluate, planned  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.train.model_directory import model_directory  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a network that has had one epoch; test has seven tiles, not a whole batch."""
    path = labelled_run(tmp_path_factory.mktemp("evaluate"), test=7)
    config, work = small(epochs=1)
    train(path, config, name="net", work=work)
    return path


def table_of(found: Evaluated) -> pd.DataFrame:
    return pd.read_parquet(found.predictions)


def test_every_tile_of_the_part_has_one_row_and_no_other_has(run: Path) -> None:
    found = table_of(evaluate(run, model="net", work=CPU))
    tiles = pd.read_parquet(run / "manifest").query("split == 'test'")
    expected = sorted(zip(tiles["slide_id"], tiles["tile"], strict=True))
    assert sorted(zip(found["slide_id"], found["tile"], strict=True)) == expected
    assert found["target"].tolist() == (tiles["label"] == "cancer").astype(int).tolist()


def test_validation_is_answered_as_in_training(run: Path) -> None:
    again = table_of(evaluate(run, model="net", part="validation", work=CPU))
    then = pd.read_parquet(run / "models" / "net" / "logits" / "validation.parquet")
    pd.testing.assert_frame_equal(again[then.columns], then)


def test_scores_are_those_of_the_logits(run: Path) -> None:
    found = evaluate(run, model="net", part="all", work=CPU)
    rows = table_of(found)
    assert len(rows) == 39
    assert found.scores["auroc"] == pytest.approx(roc_auc_score(rows["target"], rows["logit"]))
    written = json.loads(found.predictions.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["scores"]["auroc"] == found.scores["auroc"]
    assert written["classes"] == ["benign", "cancer"]


def test_another_run_is_answered_by_the_same_network(run: Path, tmp_path: Path) -> None:
    other = labelled_run(tmp_path / "elsewhere", test=5)
    found = evaluate(run, model="net", on=other, work=CPU)
    assert found.predictions == run / "models" / "net" / "predictions" / "RUN-test.parquet"
    assert len(table_of(found)) == 5
    assert not (other / "models").exists()


def test_another_run_of_the_same_name_takes_nobodys_place(run: Path, tmp_path: Path) -> None:
    first, second = (labelled_run(tmp_path / name, test=6, train=2, validation=2) for name in "ab")
    evaluate(run, model="net", on=first, part="all", work=CPU)
    with pytest.raises(ConfigError, match=r"holds what the network says of .*a/RUN; move it away"):
        evaluate(run, model="net", on=second, part="all", work=CPU)


def test_patients_that_were_trained_on_are_noted_in_another_run(run: Path) -> None:
    found = evaluate(run, model="net", on=run, part="validation", work=CPU)
    assert any("that the network was trained on: tiles_" in note for note in found.notes)
    assert evaluate(run, model="net", work=CPU).notes == ()


def test_patients_of_an_unlabelled_run_are_looked_up_among_its_slides(
    run: Path, tmp_path: Path
) -> None:
    other = labelled_run(tmp_path, test=5).rename(tmp_path / "BY_PATIENT")
    own, theirs = run / "slides.parquet", other / "slides.parquet"
    before = own.read_bytes() if own.exists() else None
    try:
        for path in (own, theirs):
            slides = sorted(file.stem for file in (path.parent / "manifest").glob("*.parquet"))
            table = pd.DataFrame({"slide_id": slides, "patient_id": "Frida"})
            table.to_parquet(path)
        found = evaluate(run, model="net", on=other, overwrite=True, work=CPU)
    finally:
        own.unlink()
        if before is not None:
            own.write_bytes(before)
    assert any("Frida" in note for note in found.notes)


@pytest.mark.parametrize(
    ("part", "said"),
    [("validation", "chosen by"), ("train", "has learnt these tiles"), ("all", "are among these")],
)
def test_parts_that_flatter_are_noted_on_the_terminal_and_in_the_file(
    run: Path, wsi: Command, part: str, said: str
) -> None:
    shown = wsi("evaluate", run, "--model", "net", "--part", part, "--device", "cpu")
    assert said in " ".join(shown.err.split())
    written = run / "models" / "net" / "predictions" / f"{part}.json"
    assert any(said in note for note in json.loads(written.read_text(encoding="utf-8"))["notes"])


def test_a_network_that_is_not_trained_to_its_end_is_noted(run: Path) -> None:
    model = model_directory(run, "net")
    content = model.train_json.read_text(encoding="utf-8")
    model.train_json.write_text(json.dumps({**json.loads(content), "ended": None}))
    try:
        assert "best weights so far" in evaluate(run, model="net", work=CPU).notes[0]
    finally:
        model.train_json.write_text(content)


def test_a_condition_has_a_file_of_its_own(run: Path) -> None:
    whole = evaluate(run, model="net", work=CPU)
    some = evaluate(run, model="net", where="label == 'cancer'", work=CPU)
    assert len(table_of(whole)) == 7
    assert some.predictions != whole.predictions
    assert json.loads(some.predictions.with_suffix(".json").read_text())["where"]


def test_a_condition_chooses_among_the_tiles(run: Path) -> None:
    found = table_of(evaluate(run, model="net", part="all", where="label == 'cancer'", work=CPU))
    assert set(found["target"]) == {1}


def test_a_score_that_needs_both_classes_is_none_of_one(run: Path) -> None:
    found = evaluate(run, model="net", where="label == 'cancer'", work=CPU)
    assert found.scores["auroc"] is None
    assert found.scores["balanced_accuracy"] is None
    assert found.notes == ("no tile of benign: scores that need one cannot be said",)
    assert np.isfinite(found.scores["recall_cancer"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "nett"}, "nett: expected a model that was trained"),
        ({"model": "net", "where": "scaner == 'B'"}, "scaner"),
        ({"model": "net", "where": "tile > 10000"}, "no tile"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    run: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(run, **asked, work=CPU)


def test_a_label_that_the_network_has_not_learnt_is_refused(run: Path, tmp_path: Path) -> None:
    other = labelled_run(tmp_path / "elsewhere", test=4).rename(tmp_path / "UNLEARNT")
    for path in (other / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(path)
        rows["label"] = rows["label"].astype(str).replace("cancer", "tumour").astype("category")
        rows.to_parquet(path)
    with pytest.raises(ConfigError, match="tumour"):
        evaluate(run, model="net", on=other, work=CPU)


def with_numbers(folder: Path, *, add: int = 0) -> Path:
    """Return a run of tiles whose `grade` is 0 and 1, or more."""
    run = labelled_run(folder)
    for path in (run / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(path)
        rows["grade"] = (rows["label"].astype(str) == "cancer").astype(np.int8) + np.int8(add)
        rows.to_parquet(path)
    return run


def test_numbers_are_classes_too_and_others_are_refused(run: Path, tmp_path: Path) -> None:
    numbered = with_numbers(tmp_path / "own")
    config, work = small(epochs=1, target="grade")
    train(numbered, config, name="net", work=work)
    again = table_of(evaluate(numbered, model="net", part="validation", work=CPU))
    then = pd.read_parquet(numbered / "models" / "net" / "logits" / "validation.parquet")
    pd.testing.assert_frame_equal(again[then.columns], then)
    other = with_numbers(tmp_path / "other", add=1).rename(tmp_path / "NUMBERS")
    with pytest.raises(ConfigError, match=r"expected 0, 1 as grade.* got 2"):
        evaluate(numbered, model="net", on=other, work=CPU)
    for path in (other / "manifest").glob("*.parquet"):
        pd.read_parquet(path).assign(grade=0.9999999).to_parquet(path)
    with pytest.raises(ConfigError, match=r"expected 0, 1 as grade.* got 0\.9999999"):
        evaluate(numbered, model="net", on=other, work=CPU)
    for path in (other / "manifest").glob("*.parquet"):
        pd.read_parquet(path).assign(label=np.int8(0)).to_parquet(path)
    with pytest.raises(ConfigError, match=r"expected benign, cancer as label.* got 0"):
        evaluate(run, model="net", on=other, work=CPU)


def test_the_command_prints_scores_and_where_the_logits_are(run: Path, wsi: Command) -> None:
    ended = wsi("evaluate", run, "--model", "net", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "auroc" in ended.out
    assert "predictions/test.parquet" in ended.out.replace("\n", "")
    answered = wsi("evaluate", run, "--model", "net", "--device", "cpu", "--json")
    said = json.loads(answered.out)
    assert 0 <= said["scores"]["auroc"] <= 1
    assert [each["class"] for each in said["logit_shifts"]] == ["benign", "cancer"]
    assert all(each["shift"] == each["here"] - each["train"] for each in said["logit_shifts"])


def test_a_dry_run_says_what_would_be_asked_and_writes_nothing(
    run: Path, tmp_path: Path, wsi: Command
) -> None:
    other = labelled_run(tmp_path / "centre", test=5)
    file = tmp_path / "evaluate.yaml"
    file.write_text(f"model: net\non: {other}\npart: all\ntta: flips\ndevice: cpu\n")
    said = wsi("evaluate", run, "--config", file, "--dry-run", "--part", "test", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert [(each["part"], each["tiles"], each["left"]) for each in told["answers"]] == [
        ("test", 5, 5),
        ("validation", 12, 12),
    ]
    assert (told["views"], told["written"]) == (4, False)
    assert not [note for note in told["answers"][1]["notes"] if "validation" in note]
    assert not [*(run / "models" / "net").glob("predictions/*tta*")]


def test_a_dry_run_knows_what_is_there(run: Path) -> None:
    evaluate(run, model="net", work=CPU)
    assert [each.left for each in planned(run, models=["net"], work=CPU)] == [0]
    again = planned(run, models=["net"], work=CPU, overwrite=True)
    assert [each.left for each in again] == [again[0].tiles]


def test_intervals_are_of_as_many_draws_as_asked_for(run: Path) -> None:
    asked: dict[str, Any] = {"model": "net", "part": "all", "work": CPU}
    found = [evaluate(run, **asked, replicates=draws).table for draws in (50, 60, 50, 0)]
    first, second, again, none = (pd.DataFrame(each.to_pydict()) for each in found if each)
    pd.testing.assert_frame_equal(first, again)
    assert not first["low"].equals(second["low"])
    assert none["low"].isna().all()
    pd.testing.assert_series_equal(first["value"], none["value"])
