"""Wrong words to ``evaluate`` and ``study``: each is met with a sentence, and nothing is begun."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import Command, Ended  # noqa: E402
from tests.pipeline.trainable import SMALL, labelled_run, small  # noqa: E402
from wsi_pipeline.evaluation import evaluate  # noqa: E402
from wsi_pipeline.train import peers  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

STUDY: dict[str, Any] = {
    "base": {**SMALL, "epochs": 1},
    "arms": {"plain": {}, "sd": {"loss.decoupling": 0.01}},
    "reference": "plain",
    "method": "sd",
    "repeats": 1,
    "experiments": {"elsewhere": {"kind": "external"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUN with a network, and others: WORDS has other classes, BARE no labels, WHOLE no parts."""
    folder = tmp_path_factory.mktemp("asked")
    run = labelled_run(folder, test=7)
    train(run, small(epochs=1)[0], name="net", work=small()[1])
    evaluate(run, model="net", work=WorkConfig(device="cpu", threads=1))
    other = labelled_run(folder / "other", train=2, validation=2, test=4)
    for name in ("WORDS", "BARE", "WHOLE"):
        shutil.copytree(other, folder / name)
    _change(folder / "WORDS", lambda rows: rows.assign(label=rows["label"].map(_other_word)))
    _change(folder / "BARE", lambda rows: rows.drop(columns="label"))
    _change(folder / "WHOLE", lambda rows: rows.drop(columns="split"))
    return folder


def _other_word(word: str) -> str:
    return "tumour" if word == "cancer" else word


def _change(run: Path, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    for path in (run / "manifest").glob("*.parquet"):
        how(pd.read_parquet(path).astype({"label": str})).to_parquet(path)


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def words(ended: Ended) -> str:
    """Return what was said on standard error in one line, without frames."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.err).split())


NET = ("--model", "net")
ASKED: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown model": (("--model", "nett"), r"models/nett: expected a model .*mean net\?"),
    "no name of a model": ((), r"models/model: expected a model that was trained .*there are net"),
    "an unknown part": (
        (*NET, "--part", "tset"),
        r"part: expected train, validation, test or all, got 'tset'",
    ),
    "unknown views": ((*NET, "--tta", "d3"), r"tta: expected none, flips or d4, got 'd3'"),
    "an unknown device": ((*NET, "--device", "gpu"), r"device: expected auto, cpu.*got 'gpu'"),
    "a negative number": ((*NET, "--workers", "-1"), r"workers: expected .*0 or more, got -1"),
    "an unknown shift": (
        (*NET, "--sweep", "boxblur"),
        r"sweep: expected one of box_blur.*got 'boxblur' \(did you mean box_blur\?\)",
    ),
    "a level out of range": (
        (*NET, "--sweep", "sharpen:2"),
        r"sweep sharpen: expected numbers from 0 to 1 .*got 2",
    ),
    "a negative level": (
        (*NET, "--sweep", "box_blur:-3"),
        r"sweep box_blur: expected whole numbers from 1 to 101 .*got -3",
    ),
    "a level that is no number": (
        (*NET, "--sweep", "box_blur:x"),
        r"sweep box_blur: expected levels .*such as box_blur:1,2,3, got 'x'",
    ),
    "an unknown place": (
        (*NET, "--sweep", "noise", "--apply-at", "end"),
        r"apply_at: expected source, input or both, got 'end'",
    ),
    "a sweep of views": (
        (*NET, "--sweep", "noise", "--tta", "d4"),
        r"sweep: expected one view .*got tta d4; leave tta out, or leave sweep out",
    ),
    "a sweep of shortcuts": (
        (*NET, "--sweep", "noise", "--shortcut", "test"),
        r"sweep: expected tiles without .*got shortcut test; leave shortcut out, or leave",
    ),
    "a sweep of an ensemble": (
        (*NET, "--sweep", "noise", "--ensemble", "all"),
        r"sweep: expected models one by one, got ensemble all; leave ensemble out: repeats",
    ),
    "a place without a sweep": (
        (*NET, "--apply-at", "input"),
        r"apply_at: expected together with sweep, got it alone; add a sweep, such as box_blur",
    ),
    "logits without a sweep": ((*NET, "--keep-logits"), r"keep_logits: expected together with"),
    "a misspelt column": (
        (*NET, "--where", "scaner == 'A'"),
        r"where: no column scaner in the manifest \(did you mean scanner\?\)",
    ),
    "half an expression": ((*NET, "--where", "label =="), r"where: expected an expression such as"),
    "a condition that no tile meets": (
        (*NET, "--where", "tile > 99"),
        r"where: .*leaves no tile of",
    ),
    "a shortcut of none": (
        (*NET, "--shortcut", "test"),
        r"shortcut: expected none, .*got test; leave it out, or train with a shortcut",
    ),
    "the same run": ((*NET, "--on", "{}/RUN"), r"on: expected another run, got .*leave it out"),
    "a run of other classes": (
        (*NET, "--on", "{}/WORDS", "--part", "all"),
        r"WORDS: expected benign, cancer as label, .*got tumour; label the run alike, or leave",
    ),
    "a run that is not there": ((*NET, "--on", "{}/NONE"), r"NONE: expected a run with tiles"),
    "a sweep without labels": (
        (*NET, "--on", "{}/BARE", "--part", "all", "--sweep", "noise"),
        r"BARE: .*no.* label.*label the run first \(wsi-pipeline label\)",
    ),
    "a part of a run that is not divided": (
        (*NET, "--on", "{}/WHOLE"),
        r"WHOLE: no tile has a split, .*ask for all of them \(--part all\), or divide",
    ),
    "a sweep of a run that is not divided": (
        (*NET, "--on", "{}/WHOLE", "--sweep", "noise"),
        r"WHOLE: no tile has a split, .*ask for all of them \(--part all\), or divide",
    ),
    "an unknown kind of map": (
        (*NET, "--overwrite", "--heat-maps", "jpg"),
        r"heat_maps: kinds: expected png, ome-tiff, geojson, or several of them, got 'jpg'$",
    ),
    "no kind of map": ((*NET, "--heat-maps", ""), r"heat_maps: kinds: expected png, ome-tiff"),
    "an unknown method": (
        (*NET, "--cam", "lime"),
        r"cam: method: expected gradcam or hirescam, got 'lime'",
    ),
    "an unknown slide": (
        (*NET, "--part", "all", "--heat-maps", "png", "--slides", "tiles_tset"),
        r"slides: .*RUN has no tiles_tset \(did you mean tiles_test\?\); there are tiles_test",
    ),
    "slides of nothing": (
        (*NET, "--slides", "tiles_test"),
        r"slides: expected together with heat_maps or cam, got it alone; leave it out",
    ),
    "an ensemble of a model's name": ((*NET, "--ensemble", "net"), r"ensemble: net is the name of"),
    "fewer draws than none": (
        (*NET, "--replicates", "-1"),
        r"replicates: expected a number of draws, 0 or more, got -1",
    ),
    "a flag of another command": ((*NET, "--repeats", "2"), r"No such option: --repeats"),
}


@pytest.mark.parametrize("case", ASKED)
def test_evaluate_says_what_is_wrong_and_leaves_everything_as_it_was(
    case: str, folder: Path, wsi: Command
) -> None:
    flags, message = ASKED[case]
    before = files_in(folder)
    given = [each.replace("{}", str(folder)) for each in flags]
    device = () if "--device" in flags else ("--device", "cpu")
    ended = wsi("evaluate", folder / "RUN", *given, *device)
    assert ended.code == 2
    assert re.search(message, words(ended)), words(ended)
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert files_in(folder) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NONE", r"NONE: expected a run, there is nothing; correct the path"),
        ("BARE", r"BARE/models/model: expected a model that was trained .*there is none"),
    ],
)
def test_a_run_without_models_or_none_at_all_is_named(
    name: str, message: str, folder: Path, wsi: Command
) -> None:
    ended = wsi("evaluate", folder / name)
    assert ended.code == 2
    assert re.search(message, words(ended)), words(ended)


def test_a_run_without_labels_has_predictions_and_a_note(folder: Path, wsi: Command) -> None:
    asked = (*NET, "--on", folder / "BARE", "--part", "all", "--device", "cpu")
    ended = wsi("evaluate", folder / "RUN", *asked)
    assert ended.code == 0
    assert "note: no tile has a label: there are predictions and no scores" in ended.err
    assert "8 tiles in " in ended.out
    assert "score" not in ended.out


BROKEN = (
    ("manifest/tiles_test.parquet", 1, "cannot be read as a Parquet table"),
    ("models/net/predictions/test.scores.parquet", 1, "cannot be read as a Parquet table"),
    ("models/net/predictions/test.parquet", 2, "no table of predictions; make it with"),
    ("models/net/checkpoints/best.pt", 1, "cannot be read as a checkpoint"),
    ("models/net/train.json", 2, "cannot be read"),
)


@pytest.mark.parametrize(("name", "code", "message"), BROKEN)
def test_a_broken_file_is_named(
    name: str, code: int, message: str, folder: Path, tmp_path: Path, wsi: Command
) -> None:
    run = shutil.copytree(folder / "RUN", tmp_path / "RUN")
    path = run / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ended = wsi("evaluate", run, *NET, "--device", "cpu")
    assert ended.code == code
    assert f"{path}: " in ended.err
    assert message in ended.err
    assert "Traceback" not in ended.err


def _study(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  YAML
    return {**STUDY, **changes}


def _experiment(**about: Any) -> dict[str, Any]:  # noqa: ANN401  YAML
    return _study(experiments={"e": about})


STUDIED: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "an unknown key": (_study(armz={}), (), r"unknown key armz \(did you mean arms\?\); known are"),
    "a misspelt setting": (
        _study(arms={"plain": {}, "sd": {"loss.decuopling": 0.1}}),
        (),
        r"arm sd of experiment elsewhere: loss: unknown key decuopling \(did you mean decoupling",
    ),
    "a setting that is no number": (
        _study(arms={"plain": {}, "sd": {"loss.decoupling": "much"}}),
        (),
        r"arm sd .*: loss: decoupling: expected a number.*got 'much'",
    ),
    "an unknown experiment": (
        _experiment(kind="extrenal"),
        (),
        r"experiments.e: kind: expected shortcut, sweep or external, got 'extrenal'",
    ),
    "an unknown shift": (
        _experiment(kind="sweep", shifts=["blur"]),
        (),
        r"experiments.e: sweep: expected one of box_blur, .*got 'blur'",
    ),
    "no experiment": (_study(experiments={}), (), r"experiments: expected names .*got \{\}"),
    "an unknown reference": (
        _study(reference="nobody"),
        (),
        r"expected reference to be an arm of it, got 'nobody'; its arms are plain, sd",
    ),
    "a lost base": (_study(base="none.yaml"), (), r"none.yaml: expected a YAML file, it cannot be"),
    "no other run": (
        STUDY,
        (),
        r"experiments.elsewhere: expected --external RUN2, got none; give one, or choose other",
    ),
    "its own run": (STUDY, ("--external", "{}/RUN"), r"external: expected another run, got"),
    "a run of other classes": (
        STUDY,
        ("--external", "{}/WORDS"),
        r"WORDS: expected benign, cancer as label, .*got tumour; label the run alike",
    ),
    "a run without labels": (
        STUDY,
        ("--external", "{}/BARE"),
        r"BARE: expected tiles with a label, got none; label the run first",
    ),
    "a run that is not there": (STUDY, ("--external", "{}/NONE"), r"NONE: expected a run with"),
    "a part of none": (STUDY, ("--part", "3/2"), r"part: expected I/N with 1 ≤ I ≤ N, .*'3/2'"),
    "no repeats": (STUDY, ("--repeats", "0"), r"--repeats.*greater than or equal to 1"),
    "an unknown choice": (
        STUDY,
        ("--only", "x"),
        r"only: expected experiments of .*elsewhere, got",
    ),
    "a flag of another command": (STUDY, ("--replicates", "0"), r"No such option: --replicates"),
}


@pytest.mark.parametrize("case", STUDIED)
def test_study_says_what_is_wrong_and_begins_nothing(
    case: str, folder: Path, tmp_path: Path, wsi: Command
) -> None:
    content, flags, message = STUDIED[case]
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    before = files_in(folder)
    given = [each.replace("{}", str(folder)) for each in flags]
    ended = wsi("study", file, "--run", folder / "RUN", "-o", tmp_path / "OUT", *given)
    assert ended.code == 2
    assert re.search(message, words(ended)), words(ended)
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert files_in(folder) == before
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_study_that_is_no_file_is_named(
    name: str, folder: Path, tmp_path: Path, wsi: Command
) -> None:
    ended = wsi("study", tmp_path / name, "--run", folder / "RUN", "-o", tmp_path / "OUT")
    assert ended.code == 2
    assert f"{tmp_path / name}: expected a YAML file, it cannot be read (" in ended.err


def test_what_was_made_is_named_with_its_place_and_what_comes_next(
    folder: Path, tmp_path: Path, wsi: Command
) -> None:
    run = shutil.copytree(folder / "RUN", tmp_path / "RUN")
    settings = tmp_path / "train.yaml"
    settings.write_text(yaml.safe_dump({**SMALL, "epochs": 1}), encoding="utf-8")
    trained = wsi("train", run, "--config", settings, "--name", "sd", "--repeats", "2")
    assert trained.code == 0, trained.err
    last = trained.out.splitlines()[-2:]
    assert last == [
        f"trained: sd-0, sd-1 in {run}/models",
        f"next: wsi-pipeline evaluate {run} --model sd",
    ]
    again = wsi("train", run, "--config", settings, "--name", "sd-0")
    assert "sd-0 was trained before: lowest validation loss" in again.out
    assert again.out.splitlines()[-1] == f"next: wsi-pipeline evaluate {run} --model sd-0"
    asked = wsi("evaluate", run, "--model", "sd", "--device", "cpu", "--tta", "flips")
    assert asked.code == 0, asked.err
    assert "sd-0, sd-1, test part, 4 views of each tile: 7 tiles in" in asked.err
    assert "sd-0, sd-1, validation part, 4 views of each tile: 12 tiles in" in asked.err
    assert "7 tiles with a label, of 1 slide and 1 patient" in asked.out
    assert f"{run}/models/sd-1/predictions/test-tta_flips.parquet" in asked.out
    assert asked.out.splitlines()[-1] == f"next: wsi-pipeline report {run}"
    swept = wsi("evaluate", run, "--model", "sd", "--device", "cpu", "--sweep", "noise:2,9")
    assert "sd-0, sd-1, 3 levels of each tile: 7 tiles in" in swept.err
    said = swept.out.splitlines()[-3:]
    assert said == [
        f"every score at 3 levels: {run}/models/sd/sweeps/curves/test.parquet",
        f"drawn: {run}/models/sd/sweeps/test-noise-source.svg",
        f"next: wsi-pipeline report {run}",
    ]
    plain = wsi("evaluate", run, "--model", "sd-0", "--device", "cpu", "--json")
    assert json.loads(plain.out)["model"] == "sd-0"


def test_ranks_meet_once_for_a_sweep_and_what_is_drawn_beside_it(
    folder: Path, tmp_path: Path, wsi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def noted(name: str) -> Callable[[str], Any]:
        @contextmanager
        def together(device: str) -> Iterator[peers.Peers]:
            seen.append(f"{name} begins")
            with original(device) as met:
                yield met
            seen.append(f"{name} ends")

        return together

    original = peers.together
    monkeypatch.setattr("wsi_pipeline.train.peers.together", noted("all"))
    monkeypatch.setattr("wsi_pipeline.robustness.together", noted("sweep"))
    monkeypatch.setattr("wsi_pipeline.evaluation.together", noted("answers"))
    run = shutil.copytree(folder / "RUN", tmp_path / "RUN")
    ended = wsi("evaluate", run, *NET, "--device", "cpu", "--sweep", "noise:2", "--collage")
    assert ended.code == 0, ended.err
    inner = ["sweep begins", "sweep ends", "answers begins", "answers ends"]
    assert seen == ["all begins", *inner, "all ends"]
