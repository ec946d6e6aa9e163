"""What models came to, kept between commands: the same back, and nothing of another training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wsi_pipeline.errors import OutputError
from wsi_pipeline.evaluate.study.config import study_config
from wsi_pipeline.evaluate.study.plan import StudyPlan, Unit, study_plan
from wsi_pipeline.evaluate.study.records import (
    Answered,
    Record,
    measured,
    read_record,
    record_path,
    told,
    write_record,
)
from wsi_pipeline.evaluate.study.table import summaries
from wsi_pipeline.stages.report_study_figures import arms, curves, logits
from wsi_pipeline.tables import write_table
from wsi_pipeline.train.metrics import log_probabilities

WHEN = "2026-01-01 2026-01-02"


def plan(**experiments: dict[str, Any]) -> StudyPlan:
    values = {
        "arms": {"plain": {}, "sd": {"loss.decoupling": 0.01}},
        "reference": "plain",
        "method": "sd",
        "repeats": 2,
        "experiments": experiments or {"elsewhere": {"kind": "external"}},
    }
    return study_plan(study_config(values), "RUN", ["CENTRE"])


def answered(tiles: str, *, value: float, swept: bool = False) -> Answered:
    levels: tuple[dict[str, float | None], ...] = tuple(
        {"level": level, "laplacian_var": 100 / level, "balanced_accuracy": value / level}
        for level in (1.0, 2.0, 4.0)
    )
    return Answered(
        tiles=tiles,
        scores={"balanced_accuracy": value, "auroc": None},
        count=10,
        source="predictions/x.parquet",
        notes=("a note",),
        draws="sweeps/draws/x.parquet" if swept else "",
        curve=levels if swept else (),
    )


def record(unit: Unit, *, value: float = 0.5) -> Record:
    return Record(
        model=unit.model,
        settings_digest=unit.config.digest(),
        trained=WHEN,
        classes=("benign", "cancer"),
        answers={
            each.digest: (
                answered(
                    "box_blur" if each.sweeps else each.tiles, value=value, swept=bool(each.sweeps)
                ),
            )
            for each in unit.questions
        },
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    unit = plan(blurred={"kind": "sweep"}).units[0]
    written = record(unit)
    write_record(tmp_path, unit, written)
    assert read_record(tmp_path, unit, trained=WHEN) == written
    assert written.lacks(unit) == ()


def test_a_model_trained_anew_or_otherwise_has_been_asked_nothing(tmp_path: Path) -> None:
    unit = plan().units[0]
    write_record(tmp_path, unit, record(unit))
    assert read_record(tmp_path, unit, trained="2026-01-01 2026-01-03") is None
    assert read_record(tmp_path, unit, trained=None) is None
    other = replace(unit, config=unit.config.model_copy(update={"epochs": 99}))
    assert read_record(tmp_path, other, trained=WHEN) is None
    assert read_record(tmp_path / "nowhere", unit, trained=WHEN) is None


def test_a_further_question_is_lacking_and_the_others_are_not() -> None:
    before, after = (
        plan().units[0],
        plan(elsewhere={"kind": "external"}, blurred={"kind": "sweep"}).units[0],
    )
    lacking = record(before).lacks(after)
    assert [each.sweeps for each in lacking] == [("box_blur", "sharpen")]


def test_answers_about_tiles_that_are_others_by_now_are_lacking() -> None:
    unit = plan(elsewhere={"kind": "external"}, blurred={"kind": "sweep"}).units[0]
    first, *others = unit.questions
    found = record(unit)
    same = {each.digest: "" for each in unit.questions}
    assert found.of_tiles(same) == found
    assert found.of_tiles({first.digest: "other"}).lacks(unit)[0].digest == first.digest
    assert {each.digest for each in others} - {first.digest} <= found.of_tiles(
        {first.digest: "other"}
    ).answers.keys()


def test_what_is_damaged_is_said(tmp_path: Path) -> None:
    unit = plan().units[0]
    write_record(tmp_path, unit, record(unit))
    for text in ("{", "[]", '{"answers": {}}'):
        record_path(tmp_path, unit).write_text(text, encoding="utf-8")
        with pytest.raises(OutputError, match=r"plain-0\.json: cannot be read"):
            read_record(tmp_path, unit, trained=WHEN)


def test_answers_are_told_in_each_experiment_that_asked() -> None:
    asked = plan(first={"kind": "external"}, second={"kind": "external"})
    found = told(asked, {unit.model: record(unit) for unit in asked.units})
    assert [each.experiment for each in found] == ["first"] * 8 + ["second"] * 8
    assert len(measured(found)) == 16
    seeds = [(each.arm, each.seed, each.answer.tiles) for each in found[:4]]
    assert seeds == [
        *(("plain", 0, "test"), ("plain", 0, "CENTRE")),
        *(("plain", 1, "test"), ("plain", 1, "CENTRE")),
    ]


def test_figures_show_means_spread_and_every_repeat() -> None:
    asked = plan(blurred={"kind": "sweep"}, elsewhere={"kind": "external"})
    values = dict(zip((unit.model for unit in asked.units), (0.5, 0.7, 0.6, 0.6), strict=True))
    records = {unit.model: record(unit, value=values[unit.model]) for unit in asked.units}
    found = told(asked, records)
    blurred = [each for each in found if each.experiment == "blurred"]
    lines = curves(blurred, score="balanced_accuracy")["box_blur"]
    levels, plain = lines.series["plain"]
    assert levels.tolist() == [1, 2, 4]
    assert plain == pytest.approx([0.6, 0.3, 0.15])
    low, high = lines.bands["plain"]
    assert high - low == pytest.approx(2 * np.std([0.5, 0.7], ddof=1) / levels)
    assert (lines.bands["sd"][0] == lines.bands["sd"][1]).all()
    assert lines.right["sharpness"][1].tolist() == [100, 50, 25]
    elsewhere = [each for each in found if each.experiment == "elsewhere"]
    rows = summaries(measured(elsewhere), reference="plain")
    drawn = arms(rows, elsewhere, score="balanced_accuracy")
    assert [*drawn] == ["test", "CENTRE"]
    assert (drawn["CENTRE"].rows[0].low, drawn["CENTRE"].rows[0].high) == (0, 1)
    assert lines.right_log
    assert [(row.name, row.points) for row in drawn["CENTRE"].rows] == [
        ("plain", (0.5, 0.7)),
        ("sd", (0.6, 0.6)),
    ]


def predicted(path: Path, logits: list[float]) -> None:
    """Write logits of tiles that are benign and cancer by turns."""
    z = np.array(logits, np.float32)
    columns: dict[str, Any] = {
        "slide_id": ["S"] * len(z),
        "tile": np.arange(len(z)),
        "target": np.arange(len(z)) % 2,
        "weight": np.ones(len(z), np.float32),
        "logit": z,
        "probability": np.exp(log_probabilities(z)[:, 1]).astype(np.float32),
    }
    write_table(path, pa.table(columns), metadata={"classes": '["benign", "cancer"]'})


def test_logits_of_classes_are_densities_of_all_repeats_with_their_means(tmp_path: Path) -> None:
    asked = plan()
    found = told(asked, {unit.model: record(unit) for unit in asked.units})
    for number, unit in enumerate(asked.units):
        folder = tmp_path / "models" / unit.model
        predicted(folder / "predictions" / "x.parquet", [-1.0 - number, 2.0 + number])
        if unit.arm.arm == "sd":
            predicted(folder / "logits" / "train.parquet", [-5.0, 6.0])
    drawn = {each.title: each for each in logits(str(tmp_path), found)}
    assert [*drawn] == [
        f"{arm}: logits on {on}" for arm in ("plain", "sd") for on in ("test", "CENTRE")
    ]
    for lines in drawn.values():
        for xs, ys in lines.series.values():
            assert (ys.sum() * (xs[1] - xs[0])) == pytest.approx(1, rel=0.01)
    assert drawn["plain: logits on test"].marks == {"benign, test": -1.5, "cancer, test": 2.5}
    assert drawn["sd: logits on CENTRE"].marks == {
        "benign, train": -5,
        "benign, CENTRE": -3.5,
        "cancer, train": 6,
        "cancer, CENTRE": 4.5,
    }


def test_a_sweep_without_draws_of_patients_is_asked_again_and_old_keys_are_no_damage(
    tmp_path: Path,
) -> None:
    unit = plan(blurred={"kind": "sweep"}).units[0]
    write_record(tmp_path, unit, record(unit))
    path = record_path(tmp_path, unit)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["train_logits"] = {"benign": [1.0]}
    for answers in content["answers"].values():
        for each in answers:
            each.pop("draws")
            each["logits"] = {}
    path.write_text(json.dumps(content), encoding="utf-8")
    found = read_record(tmp_path, unit, trained=WHEN)
    assert found is not None
    assert [bool(each.sweeps) for each in found.lacks(unit)] == [True]
