"""What a study is asked for: arms, settings one above the other, and what is refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest

from wsi_pipeline.config import read_yaml
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.study.config import (
    arm_names,
    arms_of,
    chosen,
    study_config,
    work_of,
)
from wsi_pipeline.evaluate.study.plan import StudyPlan, study_plan

ROOT = Path(__file__).resolve().parents[4]
CUTOUT = {"kind": "cutout", "train": {"a": 0.25, "b": 0.025}, "test": {"b": 1}}
ASKED: dict[str, Any] = {
    "base": {"epochs": 3, "optimise": {"lr": "1e-4"}, "device": "cpu"},
    "arms": {"plain": None, "sd": {"loss.decoupling": 0.01, "optimise.weight_decay": 0.5}},
    "reference": "plain",
    "method": "sd",
    "repeats": 2,
    "experiments": {
        "elsewhere": {"kind": "external"},
        "lured": {
            "kind": "shortcut",
            "train": {"shortcut": CUTOUT, "epochs": 1, "optimise.weight_decay": 0.25},
            "arms": {"plain": None, "sd": {"loss.decoupling": 1}, "free": {"shortcut.train": 1}},
            "control": "free",
            "paper": {"plain": {"accuracy": [0.752, 0.019], "recall": 0.523}},
        },
    },
}


def asked(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  of YAML
    return {**ASKED, **changes}


def plan(**changes: Any) -> StudyPlan:  # noqa: ANN401  of YAML
    return study_plan(study_config(asked(**changes)), "RUN", ["elsewhere/CENTRE"])


def test_an_arm_stands_above_its_experiment_and_that_above_the_base() -> None:
    study = study_config(ASKED)
    plain, sd, free = (each.config for each in arms_of(study, "lured"))
    assert [each.epochs for each in (plain, sd, free)] == [1, 1, 1]
    assert [each.optimise.lr for each in (plain, sd, free)] == [1e-4] * 3
    assert [each.optimise.weight_decay for each in (plain, sd, free)] == [0.25, 0.5, 0.25]
    assert [each.loss.decoupling for each in (plain, sd, free)] == [0, 1, 0]
    assert plain.shortcut.train == {"a": 0.25, "b": 0.025}
    assert free.shortcut.train == 1
    assert free.shortcut.test == plain.shortcut.test
    assert [each.config.epochs for each in arms_of(study, "elsewhere")] == [3, 3]


def test_models_are_shared_where_an_experiment_changes_nothing() -> None:
    study = study_config(
        asked(
            experiments={
                **ASKED["experiments"],
                "blurred": {"kind": "sweep", "arms": ["plain", "sd"]},
            }
        )
    )
    names = {name: [arm.models for arm in arms_of(study, name)] for name in study.experiments}
    assert names["elsewhere"] == ["study.plain", "study.sd"]
    assert names["blurred"] == ["study.plain", "study.sd"]
    assert names["lured"] == ["study.lured.plain", "study.lured.sd", "study.lured.free"]


def test_a_plan_has_every_model_once_with_all_that_is_asked_of_it() -> None:
    found = plan(
        experiments={**ASKED["experiments"], "blurred": {"kind": "sweep", "arms": ["plain", "sd"]}}
    )
    names = [unit.model for unit in found.units]
    assert len(names) == len(set(names)) == 2 * 5
    by_name = {unit.model: unit for unit in found.units}
    said = [(each.experiment, each.tiles, each.part) for each in by_name["study.sd-1"].questions]
    assert said == [
        ("elsewhere", "test", "test"),
        ("elsewhere", "CENTRE", "all"),
        ("blurred", "test", "test"),
        ("blurred", "test", "test"),
    ]
    lured = by_name["study.lured.free-0"].questions
    assert [(each.tiles, each.shortcut) for each in lured] == [
        ("reversed", "test"),
        ("clean", "none"),
    ]
    assert [unit.seed for unit in found.units] == [unit.config.seed for unit in found.units]
    assert found.arms("lured")["free"] == ("study.lured.free-0", "study.lured.free-1")


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 20])
def test_parts_share_the_models_and_none_is_left_out(parts: int) -> None:
    found = plan(repeats=3)
    shares = [unit.model for part in range(1, parts + 1) for unit in found.share(part, parts)]
    assert sorted(shares) == sorted(unit.model for unit in found.units)


def test_a_question_is_the_same_whoever_asks_it() -> None:
    found = plan(
        experiments={
            "elsewhere": {"kind": "external"},
            "again": {"kind": "external"},
            "other": {"kind": "external", "where": "tile > 3"},
        }
    )
    digests = {each.experiment: each.digest for each in found.units[0].questions[1::2]}
    assert digests["elsewhere"] == digests["again"] != digests["other"]


def test_how_it_is_carried_out_is_said_in_the_base_and_flags_win() -> None:
    study = study_config(ASKED)
    assert work_of(study, {}).device == "cpu"
    assert work_of(study, {"device": "cuda"}).device == "cuda"


def test_the_base_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("epochs: 7\n", encoding="utf-8")
    study = study_config(asked(base="train.yaml"), tmp_path)
    assert arms_of(study, "elsewhere")[0].config.epochs == 7


def test_some_experiments_are_chosen_by_name() -> None:
    study = study_config(ASKED)
    assert [*chosen(study, ["lured"]).experiments] == ["lured"]
    assert chosen(study, []) == study
    with pytest.raises(ConfigError, match=r"elsewhere, lured, got 'lurd' \(did you mean lured\?\)"):
        chosen(study, ["lurd"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"a b": {}}, "reference": "a b"}, "arms: expected names"),
        ({"method": "plain"}, "method: expected another arm than the reference"),
        ({"method": "sdd"}, r"expected method to be an arm of it, got 'sdd' \(did you mean sd\?\)"),
        ({"arms": {"plain": {"epoch": 1}, "sd": {}}}, "arm plain of .* elsewhere: .*epoch"),
        ({"arms": {"plain": {"epochs": 0}, "sd": {}}}, "epochs: expected a number of epochs"),
        ({"experiments": {}}, "experiments: expected"),
        ({"experiments": {"one": 3}}, "experiments.one: expected a section with a kind, got 3"),
        ({"experiments": {"one": {}}}, "experiments.one: kind: expected .* got none"),
        ({"experiments": {"one": {"kind": "sweeps"}}}, "expected shortcut, sweep or external"),
        ({"experiments": {"one": {"kind": "sweep", "control": "x"}}}, "expected control to be"),
        (
            {"experiments": {"one": {"kind": "sweep", "shifts": ["boxblur:3"]}}},
            r"experiments.one: sweep: .* got 'boxblur' \(did you mean box_blur\?\)",
        ),
        (
            {"experiments": {"one": {"kind": "sweep", "paper": {"sd": {"acc": 1}}}}},
            "paper: expected",
        ),
        ({"base": "nowhere.yaml"}, r"nowhere.yaml: expected a YAML file"),
        ({"repeats": 0}, "repeats: expected a number of trainings"),
        ({"armz": {}}, r"unknown key armz \(did you mean arms\?\)"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study_config(asked(**changes))


def test_an_experiment_that_lacks_what_it_needs_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match="elsewhere: expected --external RUN2, got none"):
        study_plan(study_config(ASKED), "RUN")
    with pytest.raises(ConfigError, match="runs of different names"):
        study_plan(study_config(ASKED), "RUN", ["a/CENTRE", "b/CENTRE"])
    with pytest.raises(ConfigError, match="none of them test"):
        study_plan(study_config(ASKED), "RUN", ["a/test"])
    bare = study_config(asked(experiments={"lured": {"kind": "shortcut"}}))
    with pytest.raises(ConfigError, match="expected a section shortcut in its settings, arm plain"):
        study_plan(bare, "RUN")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("workflows/**/*study.yaml")), ids=lambda path: path.parent.name
)
def test_the_studies_of_the_workflows_are_in_order(path: Path) -> None:
    study = study_config(read_yaml(path), path.parent)
    for name in study.experiments:
        assert study.reference in arm_names(study, name)
        assert study.method in arm_names(study, name)
    assert study_plan(study, "RUN", ["OTHER"]).units
