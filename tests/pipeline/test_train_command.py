"""The command ``train``: what it says, and how it leaves."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import Command
from tests.pipeline.trainable import labelled_run

FLAGS = ("--model", "test_efficientnet", "--image-px", "32", "--batch-size", "16", "--epochs", "1")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_run(tmp_path_factory.mktemp("command"))


def test_it_says_a_line_an_epoch_and_where_the_model_is(wsi: Command, tiles: Path) -> None:
    ended = wsi("train", tiles, *FLAGS, "--name", "first", "--device", "cpu")
    assert ended.code == 0
    assert "first: epoch 1 of 1, step 2; train loss" in ended.err
    assert ended.out.startswith(f"{tiles}/models/first trained: lowest validation loss")
    again = wsi("train", tiles, *FLAGS, "--name", "first", "--device", "cpu")
    assert "was trained before" in again.out


def test_json_is_for_machines(wsi: Command, tiles: Path) -> None:
    ended = wsi("train", tiles, *FLAGS, "--name", "machine", "--json", "--quiet")
    said = json.loads(ended.out)
    assert said["ended"] == "done"
    assert said["best_epoch"] == 0
    assert ended.err == ""


def test_a_dry_run_counts_and_writes_nothing(wsi: Command, tiles: Path) -> None:
    ended = wsi("train", tiles, *FLAGS, "--name", "dry", "--dry-run")
    assert ended.code == 0
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[:3] == [
        ["tiles", "benign", "cancer"],
        ["train", "10", "10"],
        ["validation", "6", "6"],
    ]
    assert "2 steps an epoch, 2 at the most; 99,453 parameters" in ended.out
    assert not (tiles / "models" / "dry").exists()
    said = json.loads(wsi("train", tiles, *FLAGS, "--dry-run", "--json").out)
    assert (said["steps"], said["written"]) == (2, False)


def test_a_flag_wins_over_set_and_that_over_the_file(
    wsi: Command, tiles: Path, tmp_path: Path
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("model: {name: test_efficientnet, dropout: 0.5, image_px: 64}\nepochs: 7\n")
    sets = ("--set", "model.dropout=0.4", "--set", "epochs=6", "--set", "optimise.clip=null")
    ended = wsi("train", tiles, "--config", file, *sets, *FLAGS, "--name", "wins", "--quiet")
    assert ended.code == 0
    settings = json.loads((tiles / "models" / "wins" / "train.json").read_text())["settings"]
    model = settings["model"]
    assert (model["dropout"], model["image_px"], settings["epochs"]) == (0.4, 32, 1)
    assert settings["optimise"]["clip"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "model.dropout"), "error: set: expected PATH=VALUE"),
        (("--set", "loss.rare=[cancer"), "error: set: expected a value as YAML has it"),
        (("--set", "model.dropuot=0.1"), "did you mean dropout"),
        (("--model", "resnet_50"), "error: model.name: expected a model of timm"),
        (("--target", "grade"), "no tile has a grade"),
        (("--where", "sharpness > 3"), "no column sharpness"),
        (("--device", "cuda:9"), "error: device: expected a GPU"),
        (("--name", "a/b"), "error: name: expected letters"),
    ],
)
def test_what_is_asked_for_wrongly_leaves_with_2_and_a_sentence(
    arguments: tuple[str, ...], says: str, wsi: Command, tiles: Path
) -> None:
    ended = wsi("train", tiles, *FLAGS, *arguments)
    assert ended.code == 2
    assert says in ended.err
    assert len(ended.err.splitlines()) == 1


def test_without_torch_it_says_what_to_install(
    wsi: Command, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for line in (("train", tiles, *FLAGS), ("evaluate", tiles)):
        ended = wsi(*line)
        assert ended.code == 2
        assert "pip install 'wsi-pipeline[train]'" in ended.err
