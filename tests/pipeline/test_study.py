"""A whole study on small runs: what is written, what is not done twice, parts, kills, and bad luck."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import Command, environment, leftovers  # noqa: E402
from tests.pipeline.test_train_ranks import free_port  # noqa: E402
from tests.pipeline.trainable import SMALL, labelled_run  # noqa: E402
from wsi_pipeline import study as studies  # noqa: E402
from wsi_pipeline.errors import ConfigError, OutputError, TrainError  # noqa: E402
from wsi_pipeline.evaluate.ask.observer import SilentAskObserver  # noqa: E402
from wsi_pipeline.evaluate.study.config import StudyConfig, study_config, work_of  # noqa: E402
from wsi_pipeline.evaluation import evaluate  # noqa: E402
from wsi_pipeline.study import StudyOutcome, planned, study  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

ARMS: dict[str, Any] = {"plain": {}, "sd": {"loss.decoupling": 0.01}}
ELSEWHERE: dict[str, Any] = {"elsewhere": {"kind": "external"}}
LURED: dict[str, Any] = {
    "kind": "shortcut",
    "train": {
        "shortcut": {
            "kind": "cutout",
            "train": {"benign": 0.25, "cancer": 0.1},
            "test": {"cancer": 1},
        }
    },
    "arms": {"plain": None, "sd": None, "free": {"shortcut.train": 1}},
    "control": "free",
    "paper": {"plain": {"accuracy": [0.752, 0.019]}, "sd": {"accuracy": 0.837}},
}
BLURRED: dict[str, Any] = {"kind": "sweep", "shifts": ["box_blur:3,5", "sharpen:1"]}
ALL: dict[str, Any] = {"lured": LURED, "blurred": BLURRED, **ELSEWHERE}


def asked(experiments: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "base": {**SMALL, "epochs": 1},
        "arms": ARMS,
        "reference": "plain",
        "method": "sd",
        "repeats": 2,
        "experiments": experiments or ELSEWHERE,
        **changes,
    }


def carried_out(run: Path, config: StudyConfig, out: Path, **more: Any) -> StudyOutcome:  # noqa: ANN401
    other = str(run.parent / "OTHER")
    return study(run, config, out=out, externals=[other], work=work_of(config, {}), **more)


def two_runs(folder: Path) -> Path:
    """Return a run of few tiles; another one stands beside it."""
    labelled_run(folder / "b", train=2, validation=2, test=8).rename(folder / "OTHER")
    return labelled_run(folder / "a", train=16, validation=8, test=8).rename(folder / "RUN")


class Told(SilentAskObserver):
    """Remembers what networks were asked."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}

    def on_begin(self, models: Sequence[str], tiles: int, *, there: int, asked: str = "") -> None:
        super().on_begin(models, tiles, there=there, asked=asked)
        for model in models:
            self.asked.setdefault(model, []).append(asked)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, told: Told) -> tuple[Path, StudyOutcome]:
    """A run, and a study of all three kinds on it."""
    run = two_runs(tmp_path_factory.mktemp("study"))
    out = run.parent / "OUT"
    return run, carried_out(run, study_config(asked(ALL)), out, ask_observer=told)


def test_what_networks_are_asked_is_told(whole: tuple[Path, StudyOutcome], told: Told) -> None:
    assert told.asked.keys() == set(whole[1].done)
    swept = [each for each in told.asked["study.sd-0"] if "levels of each tile" in each]
    assert len(swept) == 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return two_runs(tmp_path)


def table_of(outcome: StudyOutcome) -> pd.DataFrame:
    return pd.read_parquet(outcome.out / "table2.parquet")


def test_every_model_is_trained_once_and_asked_everything(
    whole: tuple[Path, StudyOutcome],
) -> None:
    run, outcome = whole
    assert outcome.missing == ()
    assert sorted(outcome.done) == sorted(path.name for path in (run / "models").iterdir())
    assert len(outcome.done) == 2 * (2 + 3)
    found = pd.read_parquet(outcome.out / "repeats.parquet")
    tiles = found.groupby("experiment")["tiles"].unique().map(list).to_dict()
    assert tiles == {
        "lured": ["reversed", "clean"],
        "blurred": ["test", "box_blur", "sharpen"],
        "elsewhere": ["test", "OTHER"],
    }
    assert set(found.query("experiment == 'lured'")["arm"]) == {"plain", "sd", "free"}


def test_scores_are_those_of_the_predictions(whole: tuple[Path, StudyOutcome]) -> None:
    run, outcome = whole
    rows = pd.read_parquet(run / "models/study.sd-1/predictions/OTHER-all.parquet")
    assert len(rows) == 12
    right = ((rows["logit"] > 0) == (rows["target"] == 1)).mean()
    found = pd.read_parquet(outcome.out / "repeats.parquet").query(
        "tiles == 'OTHER' and model == 'study.sd-1' and score == 'accuracy'"
    )
    assert found["value"].tolist() == [pytest.approx(right)]


def test_tiles_of_the_reversed_test_carry_the_shortcut(whole: tuple[Path, StudyOutcome]) -> None:
    run, _ = whole
    folder = run / "models/study.lured.sd-0/predictions"
    turned = pd.read_parquet(folder / "test-shortcut_test.parquet")
    assert (turned["shortcut"] == (turned["target"] == 1)).all()


def test_the_table_has_means_spread_differences_and_the_papers_numbers(
    whole: tuple[Path, StudyOutcome],
) -> None:
    _, outcome = whole
    found = table_of(outcome).set_index(["experiment", "tiles", "arm", "score"])
    values = pd.read_parquet(outcome.out / "repeats.parquet").set_index(
        ["experiment", "tiles", "arm", "score"]
    )["value"]
    key = ("elsewhere", "OTHER", "sd", "log_loss")
    ours, theirs = (values.loc[(*key[:2], arm, key[3])].to_numpy() for arm in ("sd", "plain"))
    assert found.loc[key, "mean"] == pytest.approx(ours.mean())
    assert found.loc[key, "std"] == pytest.approx(ours.std(ddof=1))
    assert found.loc[key, "difference"] == pytest.approx((ours - theirs).mean())
    assert found.loc[key, "least_p"] == 0.5
    assert found["difference_nested_low"].loc[key] <= found["difference_nested_high"].loc[key]
    one_slide = table_of(outcome).query("tiles in ['box_blur', 'clean']")  # whose patient is one
    assert one_slide["nested_low"].isna().all()
    compared = found["difference"].notna().groupby("arm").any()
    assert compared.to_dict() == {"free": True, "plain": False, "sd": True}
    paper = found["paper_mean"].dropna()
    assert [*paper.items()] == [
        (("lured", "reversed", "plain", "accuracy"), 0.752),
        (("lured", "reversed", "sd", "accuracy"), 0.837),
    ]
    csv = pd.read_csv(outcome.out / "table2.csv")
    assert csv["mean"].tolist() == pytest.approx(table_of(outcome)["mean"].tolist())


def test_every_score_of_the_study_is_there(whole: tuple[Path, StudyOutcome]) -> None:
    _, outcome = whole
    found = table_of(outcome).query("tiles == 'OTHER' and arm == 'sd'")["score"].tolist()
    assert found == [
        "accuracy",
        "recall",
        "specificity",
        "balanced_accuracy",
        "auroc",
        "log_loss",
        "brier",
        "ece",
        "ece_after_temperature",
        "logit_shift_benign",
        "logit_shift_cancer",
    ]


def test_the_page_says_what_happened_and_stands_alone(whole: tuple[Path, StudyOutcome]) -> None:
    _, outcome = whole
    page = (outcome.out / "study.html").read_text(encoding="utf-8")
    for each in outcome.answers:
        assert each.text.replace("'", "&#x27;") in page
    assert "http" not in page.split("</head>")[1].replace("http://www.w3.org", "")
    assert {each.tiles for each in outcome.answers} == {
        *("reversed", "clean", "test", "OTHER", "box_blur", "sharpen")
    }
    for name in ("figure2", "figure3", "figure4", "shortcut", "logits"):
        assert (outcome.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert leftovers(outcome.out) == []


def test_everything_is_resolved_in_one_file(whole: tuple[Path, StudyOutcome]) -> None:
    run, outcome = whole
    found = json.loads((outcome.out / "study.json").read_text(encoding="utf-8"))
    assert study_config(found["study"]) == study_config(asked(ALL))
    by_name = {each["model"]: each["settings"] for each in found["models"]}
    trained = json.loads((run / "models/study.sd-1/train.json").read_text(encoding="utf-8"))
    assert by_name["study.sd-1"] == trained["settings"]
    assert found["externals"] == {"OTHER": str(run.parent / "OTHER")}


def test_what_is_done_is_not_done_again(
    whole: tuple[Path, StudyOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, outcome = whole
    before = (outcome.out / "table2.csv").read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    for name in ("train", "evaluate", "sweep"):
        monkeypatch.setattr(studies, name, refuse)
    again = carried_out(run, study_config(asked(ALL)), outcome.out)
    assert again.done == outcome.done
    assert (outcome.out / "table2.csv").read_bytes() == before


def test_parts_give_what_one_process_gives(run: Path) -> None:
    config = study_config(asked(repeats=1))
    first = carried_out(run, config, run.parent / "PARTS", part=(1, 2))
    assert (first.done, first.missing) == (("study.plain-0",), ("study.sd-0",))
    assert first.answers == ()
    assert not (first.out / "study.html").exists()
    second = carried_out(run, config, run.parent / "PARTS", part=(2, 2))
    assert second.missing == ()
    assert second.answers
    other = two_runs(run.parent / "alone")
    alone = carried_out(other, config, run.parent / "ALONE")
    for name in ("table2.csv", "figure4.png"):
        assert (alone.out / name).read_bytes() == (second.out / name).read_bytes()


def test_a_study_that_is_cut_off_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = study_config(asked(repeats=1))
    calls: list[str] = []

    def interrupted(*given: Any, **named: Any) -> Any:  # noqa: ANN401  as evaluate
        calls.append(named["model"])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return evaluate(*given, **named)

    monkeypatch.setattr(studies, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carried_out(run, config, run.parent / "OUT")
    assert [unit.state for unit in planned_of(run, config)] == ["done", "trained"]
    outcome = carried_out(run, config, run.parent / "OUT")
    assert outcome.missing == ()
    assert calls[4:] == ["study.sd-0", "study.sd-0"]


def planned_of(run: Path, config: StudyConfig) -> tuple[studies.PlannedUnit, ...]:
    other = str(run.parent / "OTHER")
    work = work_of(config, {})
    return planned(run, config, out=run.parent / "OUT", externals=[other], work=work)


def test_a_plan_says_what_is_to_do_and_writes_nothing(run: Path) -> None:
    found = planned_of(run, study_config(asked(ALL)))
    assert {unit.state for unit in found} == {"to do"}
    assert {(unit.tiles, unit.steps) for unit in found} == {(16, 2)}
    assert {unit.model: unit.questions for unit in found}["study.sd-0"] == 3
    assert not (run / "models").exists()
    assert not (run.parent / "OUT").exists()


def test_another_question_is_asked_without_training_again(run: Path) -> None:
    carried_out(run, study_config(asked(repeats=1)), run.parent / "OUT")
    weights = run / "models/study.sd-0/checkpoints/best.pt"
    before = weights.stat().st_mtime_ns
    blurred = study_config(asked({**ELSEWHERE, "blurred": BLURRED}, repeats=1))
    assert {unit.state for unit in planned_of(run, blurred)} == {"trained"}
    found = table_of(carried_out(run, blurred, run.parent / "OUT"))
    assert "box_blur" in set(found["tiles"])
    assert weights.stat().st_mtime_ns == before


def test_tiles_that_are_labelled_anew_are_asked_again_and_the_others_are_not(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study_config(asked(repeats=1))
    before = table_of(carried_out(run, config, run.parent / "OUT")).query("tiles == 'OTHER'")
    for path in (run.parent / "OTHER" / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(path)
        turned = rows["label"].astype(str).map({"benign": "cancer", "cancer": "benign"})
        rows.assign(label=turned).to_parquet(path)
    assert {unit.state for unit in planned_of(run, config)} == {"trained"}
    calls: list[Any] = []

    def noted(*given: Any, **named: Any) -> Any:  # noqa: ANN401  as evaluate
        calls.append(named["on"])
        return evaluate(*given, **named)

    monkeypatch.setattr(studies, "evaluate", noted)
    after = table_of(carried_out(run, config, run.parent / "OUT")).query("tiles == 'OTHER'")
    assert calls == [str(run.parent / "OTHER")] * 2
    ours, theirs = (
        each.set_index(["arm", "score"])["mean"].xs("accuracy", level="score")
        for each in (before, after)
    )
    assert (ours + theirs).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("where", ["scaner == 'A'", "label =="])
def test_a_condition_that_fits_no_run_is_refused_before_anything_is_trained(
    run: Path, where: str
) -> None:
    config = study_config(asked({"elsewhere": {"kind": "external", "where": where}}))
    with pytest.raises(ConfigError, match=r"experiments\.elsewhere: .*where: "):
        planned_of(run, config)
    with pytest.raises(ConfigError, match=r"experiments\.elsewhere: .*where: "):
        carried_out(run, config, run.parent / "OUT")
    assert not (run / "models").exists()


def test_a_training_that_fails_is_named_and_the_others_are_done(run: Path) -> None:
    arms = {**ARMS, "wild": {"optimise.lr": 1e30, "optimise.clip": None}}
    config = study_config(asked(arms=arms, repeats=1))
    with pytest.raises(TrainError, match=r"1 models of the study have failed: study\.wild-0"):
        carried_out(run, config, run.parent / "OUT")
    assert [unit.state for unit in planned_of(run, config)] == ["done", "done", "begun"]
    assert not (run.parent / "OUT" / "study.html").exists()


def test_a_damaged_record_is_said(whole: tuple[Path, StudyOutcome], tmp_path: Path) -> None:
    run, outcome = whole
    shutil.copytree(outcome.out / "units", tmp_path / "units")
    (tmp_path / "units/study.sd-0.json").write_text("{", encoding="utf-8")
    with pytest.raises(OutputError, match=r"study\.sd-0\.json: cannot be read"):
        carried_out(run, study_config(asked(ALL)), tmp_path)


def test_runs_that_cannot_be_asked_are_refused_before_anything_is_trained(run: Path) -> None:
    config, out = study_config(asked()), run.parent / "OUT"
    with pytest.raises(ConfigError, match="NOWHERE"):
        study(run.parent / "NOWHERE", config, out=out, externals=[str(run.parent / "OTHER")])
    for path in (run.parent / "OTHER" / "manifest").glob("*.parquet"):
        pd.read_parquet(path).drop(columns="label").to_parquet(path)
    with pytest.raises(ConfigError, match=r"OTHER: expected tiles with a label, got none; label"):
        carried_out(run, config, out)
    assert not (run / "models").exists()


def test_the_command_shows_the_plan_and_the_answers(
    whole: tuple[Path, StudyOutcome], wsi: Command
) -> None:
    run, outcome = whole
    file = run.parent / "study.yaml"
    file.write_text(yaml.safe_dump(asked(ALL)), encoding="utf-8")
    line = ("study", file, "--run", run, "--external", run.parent / "OTHER", "-o", outcome.out)
    shown = wsi(*line, "--dry-run", "--part", "2/4")
    assert shown.code == 0, shown.err
    assert "part 2 of 4: 3 of 10 networks, 0 not done" in shown.out
    said = wsi(*line)
    assert said.code == 0, said.err
    assert "elsewhere: Balanced accuracy on OTHER: sd" in said.out
    assert "study.html" in said.out.replace("\n", "")
    told = json.loads(wsi(*line, "--json", "--only", "elsewhere").out)
    assert {each["experiment"] for each in told["answers"]} == {"elsewhere"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--only", "lurd"), "did you mean lured?"),
        (("--part", "3/2"), "part: expected"),
        (("--external", "x/test"), "none of them test"),
    ],
)
def test_wrong_usage_ends_in_a_sentence(
    run: Path, wsi: Command, flags: tuple[str, str], message: str
) -> None:
    file = run.parent / "study.yaml"
    file.write_text(yaml.safe_dump(asked(ALL)), encoding="utf-8")
    ended = wsi("study", file, "--run", run, "-o", run.parent / "OUT", *flags)
    assert ended.code == 2
    assert message in ended.err


@pytest.mark.slow
def test_two_ranks_carry_out_one_study(run: Path) -> None:
    file = run.parent / "study.yaml"
    file.write_text(yaml.safe_dump(asked(repeats=1)), encoding="utf-8")
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    line += ["--master-port", free_port(), "-m", "wsi_pipeline", "study", str(file)]
    line += ["--run", str(run), "--external", str(run.parent / "OTHER")]
    ended = subprocess.run(
        [*line, "-o", str(run.parent / "OUT"), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["missing"] == []
    assert {unit.state for unit in planned_of(run, study_config(asked(repeats=1)))} == {"done"}
