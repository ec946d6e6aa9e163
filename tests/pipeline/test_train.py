"""A training: what it learns and writes, that it goes on as it would have, and what it refuses."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.trainable import labelled_run, same_weights, small, weights_of  # noqa: E402
from wsi_pipeline.errors import ConfigError, TrainError  # noqa: E402
from wsi_pipeline.evaluation import evaluate  # noqa: E402
from wsi_pipeline.loader.dataset import TileDataLoader  # noqa: E402
from wsi_pipeline.loader.tensors import TensorBatch  # noqa: E402
from wsi_pipeline.loader.tiles import TileLoader  # noqa: E402
from wsi_pipeline.loader.world import World  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.train.learner import Learner, Taken  # noqa: E402
from wsi_pipeline.train.loop import Job, Running  # noqa: E402
from wsi_pipeline.train.metrics_table import read_history  # noqa: E402
from wsi_pipeline.train.model_directory import model_directory  # noqa: E402
from wsi_pipeline.train.observer import SilentTrainObserver  # noqa: E402
from wsi_pipeline.train.peers import Peers  # noqa: E402
from wsi_pipeline.training import TrainOutcome, load_network, plan, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

Change: TypeAlias = Callable[[pd.DataFrame], Iterable[str | None]]
"""Rows of a manifest to the new words of a column; None in its place removes the column."""

TIMES = ["seconds", "tiles_per_s", "stall_share"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 36 tiles of two classes; tests train models of other names in it."""
    return labelled_run(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def undisturbed(tiles: Path) -> TrainOutcome:
    """A training that nothing has interrupted."""
    return trained(tiles, "undisturbed")


def trained(run: Path, name: str, **changes: object) -> TrainOutcome:
    config, work = small(**changes)
    return train(run, config, name=name, work=work)


def rows_of(outcome: TrainOutcome | Path) -> pd.DataFrame:
    folder = outcome if isinstance(outcome, Path) else outcome.directory.path
    table = read_history(folder)
    assert table is not None
    return table.to_pandas()


class Stops(SilentTrainObserver):
    """Ends a training as a crash would, after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, row: Mapping[str, Any]) -> None:
        if row["step"] >= self.after:
            raise ZeroDivisionError


class Interrupts(SilentTrainObserver):
    """Sends this process a signal after so many steps."""

    def __init__(self, after: int, number: int = signal.SIGINT) -> None:
        self.after = after
        self.number = number

    def on_step(self, row: Mapping[str, Any]) -> None:
        if row["step"] == self.after:
            signal.raise_signal(self.number)


def test_it_learns_what_tells_two_classes_apart(tiles: Path) -> None:
    outcome = trained(tiles, "learns", epochs=12, optimise__lr=0.01, probe_tiles=0)
    last = rows_of(outcome).query("kind == 'epoch' and part == 'validation'").iloc[-1]
    assert last["auroc"] == 1.0
    assert last["loss"] < 0.3


def test_every_step_and_epoch_has_a_row(undisturbed: TrainOutcome) -> None:
    rows = rows_of(undisturbed)
    steps = rows[rows["kind"] == "step"]
    assert steps["step"].tolist() == list(range(1, 10))
    assert steps["epoch"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert steps["tiles"].tolist() == [8, 8, 4] * 3
    assert (
        steps[["loss", "loss_cross_entropy", "learning_rate", "gradient_norm"]]
        .notna()
        .all(axis=None)
    )
    epochs = rows[rows["kind"] == "epoch"]
    assert epochs["part"].tolist() == ["train", "validation"] * 3
    assert epochs["tiles"].tolist() == [8, 12] * 3


def test_terms_of_the_loss_add_up_to_it(tiles: Path) -> None:
    outcome = trained(tiles, "terms", loss__decoupling=0.1, epochs=1)
    rows = rows_of(outcome)
    assert np.allclose(rows["loss"], rows["loss_cross_entropy"] + rows["loss_decoupling"])
    assert (rows["loss_decoupling"] > 0).all()


def test_best_weights_and_their_logits_are_kept(undisturbed: TrainOutcome, tiles: Path) -> None:
    rows = rows_of(undisturbed).query("part == 'validation'")
    assert undisturbed.best_loss == rows["loss"].min()
    assert undisturbed.best_epoch == rows["epoch"].iloc[int(rows["loss"].argmin())]
    trained_network = load_network(undisturbed.directory)
    assert trained_network.classes == ("benign", "cancer")
    logits = pq.read_table(undisturbed.directory.logits("validation")).to_pandas()
    assert len(logits) == 12
    images = validation_images(tiles)
    with torch.inference_mode():
        again = trained_network.network(images)
    assert np.allclose(again.numpy(), logits["logit"], atol=1e-5)


def validation_images(run: Path) -> Any:  # noqa: ANN401  a tensor
    loader = TileLoader(run, where="split == 'validation'", batch_size=12, shuffle=False)
    return next(iter(TileDataLoader(loader))).images


@pytest.mark.parametrize("after", [1, 5])
def test_what_was_cut_off_ends_with_the_same_weights_and_rows(
    after: int, tiles: Path, undisturbed: TrainOutcome
) -> None:
    name = f"cut{after}"
    config, work = small(checkpoint_minutes=1e-9)
    with pytest.raises(ZeroDivisionError):
        train(tiles, config, name=name, work=work, observer=Stops(after))
    outcome = train(tiles, config, name=name, work=work)
    assert same_weights(weights_of(outcome.directory), weights_of(undisturbed.directory))
    assert same_weights(
        weights_of(outcome.directory, "best"), weights_of(undisturbed.directory, "best")
    )
    assert rows_of(outcome).drop(columns=TIMES).equals(rows_of(undisturbed).drop(columns=TIMES))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimise__ema": 0.9},
        {"optimise__optimiser": "sgd"},
        {"loss__mixup": 0.2, "loss__adversarial": 1.0},
        {"precision": "bf16"},
        {"precision": "fp16", "optimise__clip": None},
        {"optimise__accumulate": 2},
        {"model__freeze": "backbone", "model__unfreeze_epoch": 1},
        {"balance": ["label"], "seed": 3, "model__stain": "macenko"},
        {"augment__operations": "all", "augment__crop": [0.5, 1], "augment__noise": 5.0},
    ],
    ids="+".join,
)
def test_it_goes_on_as_it_would_have_whatever_is_trained(
    changes: dict[str, Any], tiles: Path, tmp_path: Path
) -> None:
    config, work = small(epochs=2, checkpoint_minutes=1e-9, **changes)
    whole = train(tiles, config, name=f"whole-{tmp_path.name}", work=work)
    with pytest.raises(ZeroDivisionError):
        train(tiles, config, name=f"cut-{tmp_path.name}", work=work, observer=Stops(4))
    again = train(tiles, config, name=f"cut-{tmp_path.name}", work=work)
    assert same_weights(weights_of(whole.directory), weights_of(again.directory))
    assert same_weights(weights_of(whole.directory, "best"), weights_of(again.directory, "best"))


def test_how_it_is_carried_out_may_change_and_changes_nothing(
    tiles: Path, undisturbed: TrainOutcome
) -> None:
    config, work = small(checkpoint_minutes=1e-9)
    with pytest.raises(ZeroDivisionError):
        train(tiles, config, name="carried", work=work, observer=Stops(4))
    _, other = small(threads=2)
    outcome = train(tiles, config, name="carried", work=other)
    assert same_weights(weights_of(outcome.directory), weights_of(undisturbed.directory))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(
    number: int, tiles: Path, undisturbed: TrainOutcome
) -> None:
    config, work = small()
    name = f"signal{number}"
    heard = []
    before = signal.signal(number, lambda each, _: heard.append(each))
    try:
        outcome = train(tiles, config, name=name, work=work, observer=Interrupts(2, number))
    finally:
        signal.signal(number, before)
    assert outcome.ended == "stopped"
    assert heard == [number, number] or heard == [number]
    left = torch.load(outcome.directory.last, weights_only=True)
    assert left["learner"]["step"] == 3
    ended = train(tiles, config, name=name, work=work)
    assert ended.ended == "done"
    assert same_weights(weights_of(ended.directory), weights_of(undisturbed.directory))


def test_cut_off_while_it_validates_no_step_is_taken_again(
    tiles: Path, undisturbed: TrainOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wsi_pipeline.train.loop.row_of", cut_off)
    with pytest.raises(ZeroDivisionError):
        trained(tiles, "validates")
    left = torch.load(model_directory(tiles, "validates").last, weights_only=True)
    place = (left["loader"]["epoch"], left["loader"]["batch"])
    assert (left["learner"]["step"], place) == (3, (0, 3))
    with pytest.raises(ZeroDivisionError):
        trained(tiles, "validates")
    monkeypatch.undo()
    outcome = trained(tiles, "validates")
    assert same_weights(weights_of(outcome.directory), weights_of(undisturbed.directory))
    assert rows_of(outcome).drop(columns=TIMES).equals(rows_of(undisturbed).drop(columns=TIMES))


def test_deterministic_algorithms_are_asked_for_and_put_back(
    tiles: Path, undisturbed: TrainOutcome
) -> None:
    class Looks(SilentTrainObserver):
        seen: ClassVar[list[bool]] = []

        def on_step(self, row: Mapping[str, Any]) -> None:  # noqa: ARG002
            self.seen.append(torch.are_deterministic_algorithms_enabled())

    config, work = small(deterministic=True)
    outcome = train(tiles, config, name="repeats", work=work, observer=Looks())
    assert all(Looks.seen)
    assert not torch.are_deterministic_algorithms_enabled()
    assert same_weights(weights_of(outcome.directory), weights_of(undisturbed.directory))


class TrainsToo(SilentTrainObserver):
    """Has a second command train the same model meanwhile."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.said = ""

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002
        with pytest.raises(ConfigError) as said:
            trained(self.run, "twice", epochs=1)
        self.said = str(said.value)


def test_two_commands_do_not_train_the_same_model(tiles: Path) -> None:
    second = TrainsToo(tiles)
    config, work = small(epochs=1)
    assert train(tiles, config, name="twice", work=work, observer=second).ended == "done"
    assert f":{os.getpid()} since" in second.said
    assert second.said.endswith("wait for it to end, or take another --name")


def test_outside_the_main_thread_it_trains_too(tiles: Path) -> None:
    config, work = small(epochs=1)
    ended: list[str] = []
    thread = threading.Thread(
        target=lambda: ended.append(train(tiles, config, name="thread", work=work).ended)
    )
    thread.start()
    thread.join()
    assert ended == ["done"]


def test_what_is_trained_is_not_trained_again(tiles: Path, undisturbed: TrainOutcome) -> None:
    before = undisturbed.directory.last.read_bytes()
    again = trained(tiles, "undisturbed")
    assert again.ended == "already"
    assert (again.best_epoch, again.best_loss) == (undisturbed.best_epoch, undisturbed.best_loss)
    assert undisturbed.directory.last.read_bytes() == before


def test_it_ends_when_validation_gets_no_better(tiles: Path) -> None:
    outcome = trained(tiles, "patient", epochs=20, patience=2, optimise__lr=1e-12, probe_tiles=0)
    epochs = rows_of(outcome).query("kind == 'epoch'")["epoch"].max()
    assert outcome.ended == "done"
    assert epochs == outcome.best_epoch + 2
    assert epochs < 19


def test_another_seed_is_another_training(tiles: Path, undisturbed: TrainOutcome) -> None:
    other = trained(tiles, "seed", seed=1)
    assert not same_weights(weights_of(other.directory), weights_of(undisturbed.directory))


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tiles: Path) -> None:
    same = {"model__name": "test_convnext", "model__dropout": 0, "model__stochastic_depth": 0}
    whole = trained(tiles, "whole", epochs=1, **same)
    parts = trained(tiles, "parts", epochs=1, optimise__accumulate=3, **same)
    pairs = zip(
        weights_of(whole.directory).values(), weights_of(parts.directory).values(), strict=True
    )
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in pairs)


def test_another_models_best_weights_can_be_begun_with(
    tiles: Path, undisturbed: TrainOutcome
) -> None:
    config, work = small(
        model__pretrained=str(undisturbed.directory.best), model__freeze="backbone", epochs=1
    )
    outcome = train(tiles, config, name="from-best", work=work)
    before, after = (weights_of(each.directory, "best") for each in (undisturbed, outcome))
    kept = [name for name in before if "classifier" not in name]
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_a_moving_average_is_what_is_validated_and_kept(tiles: Path) -> None:
    outcome = trained(tiles, "ema", optimise__ema=0.5, epochs=1)
    content = torch.load(outcome.directory.last, weights_only=True)["learner"]
    assert same_weights(content["averaged"], weights_of(outcome.directory, "best"))
    assert not same_weights(content["averaged"], content["network"])


def test_what_is_frozen_stays_until_its_epoch(tiles: Path) -> None:
    frozen = {"model__freeze": "backbone", "epochs": 2}
    for epoch, stays in ((None, True), (1, False)):
        outcome = trained(tiles, f"frozen{epoch}", model__unfreeze_epoch=epoch, **frozen)
        first = weights_of(begun(tiles, **frozen))
        last = weights_of(outcome.directory)
        head = {name for name in last if "classifier" in name}
        assert all(not torch.equal(first[name], last[name]) for name in head)
        kept = [torch.equal(first[name], last[name]) for name in last if name not in head]
        assert all(kept) == stays


def begun(run: Path, **changes: object) -> Path:
    """Return a model after its first step, whose frozen weights are the first ones."""
    config, work = small(checkpoint_minutes=1e-9, **changes)
    folder = model_directory(run, "begun")
    with pytest.raises(ZeroDivisionError):
        train(run, config, name="begun", work=work, overwrite=True, observer=Stops(2))
    return folder.path


def test_train_json_says_what_was_trained(undisturbed: TrainOutcome) -> None:
    said = json.loads(undisturbed.directory.train_json.read_text())
    assert said["settings"]["model"]["name"] == "test_efficientnet"
    assert said["data"]["tiles"] == {
        "train": {"benign": 10, "cancer": 10},
        "validation": {"benign": 6, "cancer": 6},
    }
    assert said["ended"] is not None
    assert said["versions"]["torch"] == metadata.version("torch")
    assert said["best"]["epoch"] == undisturbed.best_epoch


def test_a_plan_counts_tiles_steps_and_parameters(tiles: Path) -> None:
    config, work = small(model__freeze="backbone")
    found = plan(tiles, config, work)
    assert (found.steps_per_epoch, found.steps) == (3, 9)
    assert found.parts.counts["train"] == {"benign": 10, "cancer": 10}
    assert 0 < found.trained < found.parameters


def test_tiles_of_the_test_part_are_never_read(tiles: Path) -> None:
    parts = plan(tiles, *small()).parts
    assert {name for _, name in parts.train.rows.arrays} == {"tiles_train"}
    assert {name for _, name in parts.validation.rows.arrays} == {"tiles_validation"}
    assert (len(parts.train.rows), len(parts.validation.rows)) == (20, 12)


def test_a_loss_that_is_no_number_stops_it_and_names_batch_and_tiles(
    tiles: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: TrainOutcome
) -> None:
    learn = Learner.learn

    def broken(self: Learner, batch: TensorBatch, *, steps: int) -> Taken:
        if self.step == 4:
            with torch.no_grad():
                next(self.network.parameters()).fill_(float("nan"))
        return learn(self, batch, steps=steps)

    monkeypatch.setattr(Learner, "learn", broken)
    config, work = small(checkpoint_minutes=1e-9)
    with pytest.raises(TrainError, match=r"step 5, batch 1 of epoch 1 \(cross_entropy nan") as said:
        train(tiles, config, name="broken", work=work)
    assert "tiles tiles_train: " in str(said.value)
    kept = weights_of(model_directory(tiles, "broken").path)
    assert all(torch.isfinite(each).all() for each in kept.values())
    monkeypatch.setattr(Learner, "learn", learn)
    outcome = train(tiles, config, name="broken", work=work)
    assert same_weights(weights_of(outcome.directory), weights_of(undisturbed.directory))


def test_too_little_memory_says_what_to_lower(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("wsi_pipeline.train.task.Task.phases", full)
    with pytest.raises(TrainError, match=r"batch_size 8 at 32 px in fp32.*optimise.accumulate 2"):
        trained(tiles, "memory")


def test_a_model_of_other_settings_is_refused_with_what_differs(
    tiles: Path, undisturbed: TrainOutcome
) -> None:
    with pytest.raises(ConfigError, match=r"optimise.lr: was 0.001, now 0.1.*--overwrite"):
        trained(tiles, "undisturbed", optimise__lr=0.1)
    assert undisturbed.directory.last.exists()


def test_what_has_taken_no_step_may_begin_with_other_settings(tiles: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.name"):
        trained(tiles, "unborn", model__name="no_such_network")
    assert trained(tiles, "unborn", epochs=1).ended == "done"


def test_overwrite_trains_anew(tiles: Path) -> None:
    trained(tiles, "anew", epochs=1)
    config, work = small(epochs=2)
    outcome = train(tiles, config, name="anew", work=work, overwrite=True)
    assert outcome.ended == "done"
    assert rows_of(outcome).query("kind == 'step'")["step"].max() == 6


def test_other_labels_than_before_are_refused(tiles: Path, tmp_path: Path) -> None:
    copy = tmp_path / "RUN"
    shutil.copytree(tiles, copy, ignore=shutil.ignore_patterns("models"))
    trained(copy, "model", epochs=1)
    swapped = {"benign": "cancer", "cancer": "benign"}
    edited(copy, "tiles_train", label=lambda rows: rows["label"].map(swapped))
    with pytest.raises(ConfigError, match="begun with other tiles or labels"):
        trained(copy, "model", epochs=1)


@pytest.mark.parametrize("other", [{"optimise__lr": 0.5}, {"model__name": "resnet10t"}])
def test_a_checkpoint_of_another_configuration_is_refused(
    other: dict[str, object], tiles: Path, undisturbed: TrainOutcome
) -> None:
    name = f"foreign-{'-'.join(other)}"
    config, work = small(**other)
    with pytest.raises(ZeroDivisionError):
        train(tiles, config, name=name, work=work, observer=Stops(4))
    shutil.copy(undisturbed.directory.last, model_directory(tiles, name).last)
    with pytest.raises(ConfigError, match=r"last.pt: expected a checkpoint of these settings"):
        train(tiles, config, name=name, work=work)


@pytest.mark.parametrize("name", ["last", "train_json"])
def test_a_trained_network_is_not_lost_with_a_file_beside_it(name: str, tiles: Path) -> None:
    directory = trained(tiles, f"lost-{name}", epochs=1).directory
    getattr(directory, name).unlink()
    best = directory.best.read_bytes()
    with pytest.raises(ConfigError, match=r"expected (last.pt|train.json) beside"):
        trained(tiles, f"lost-{name}", epochs=1)
    assert directory.best.read_bytes() == best
    assert trained_anew(tiles, f"lost-{name}").ended == "done"


def trained_anew(run: Path, name: str) -> TrainOutcome:
    config, work = small(epochs=1)
    return train(run, config, name=name, work=work, overwrite=True)


def test_answers_of_a_network_go_with_it(tiles: Path) -> None:
    trained(tiles, "answers", epochs=1)
    answered = evaluate(tiles, model="answers", work=WorkConfig(device="cpu", threads=1))
    assert answered.predictions.exists()
    trained_anew(tiles, "answers")
    assert not answered.predictions.parent.exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOfTwo(Peers):
    """A rank that hears zeros as the first one's weights."""

    @property
    def is_first(self) -> bool:
        return False

    def copy_of_first(self, tensors: Iterable[Any]) -> None:
        for each in tensors:
            each.zero_()


def test_a_moving_average_begins_with_the_first_ranks_weights(tiles: Path) -> None:
    config, work = small(optimise__ema=0.9)
    parts = plan(tiles, config, work).parts
    peers = SecondOfTwo(world=World(), device=torch.device("cpu"))
    directory = model_directory(tiles, "second")
    running = Running(Job(config=config, work=work, parts=parts, directory=directory, peers=peers))
    assert running.learner.averaged is not None
    for network in (running.learner.network, running.learner.averaged):
        assert not any(each.any() for each in network.state_dict().values())


def test_a_damaged_checkpoint_is_named(tiles: Path) -> None:
    outcome = trained(tiles, "damaged", epochs=1)
    data = outcome.directory.last.read_bytes()
    outcome.directory.last.write_bytes(data[: len(data) // 2])
    said = json.loads(outcome.directory.train_json.read_text())
    outcome.directory.train_json.write_text(json.dumps({**said, "ended": None}))
    with pytest.raises(TrainError, match=r"last.pt: cannot be read as a checkpoint"):
        trained(tiles, "damaged", epochs=1)


def edited(run: Path, slide: str, **columns: Change | None) -> None:
    path = run / "manifest" / f"{slide}.parquet"
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pandas()
    for name, values in columns.items():
        place = table.column_names.index(name)
        if values is None:
            table = table.remove_column(place)
        else:
            words = pa.array(list(values(rows)), pa.string()).dictionary_encode()
            table = table.set_column(place, name, words)
    pq.write_table(table, path)


def changed(tiles: Path, folder: Path, slides: Sequence[str], **columns: Change | None) -> Path:
    copy = folder / "RUN"
    shutil.copytree(tiles, copy, ignore=shutil.ignore_patterns("models"))
    for slide in slides:
        edited(copy, slide, **columns)
    return copy


ALL = ("tiles_train", "tiles_validation", "tiles_test")


@pytest.mark.parametrize(
    ("slides", "columns", "says"),
    [
        (
            ALL,
            {"split": None},
            "no tile has a split; divide the patients first: wsi-pipeline split",
        ),
        (ALL, {"label": None}, r"no tile has a label; give tiles their labels first"),
        (
            ALL[1:2],
            {"split": lambda rows: ["test"] * len(rows)},
            "no tile is in the validation part",
        ),
        (ALL[:1], {"split": lambda rows: ["test"] * len(rows)}, "no tile is in the train part"),
        (ALL, {"label": lambda rows: ["benign"] * len(rows)}, "every tile of the train part"),
        (
            ALL[1:2],
            {"label": lambda rows: ["benign"] * len(rows)},
            "the validation part has no tile of label cancer",
        ),
        (ALL[1:2], {"label": lambda rows: ["stroma"] * len(rows)}, "lacks stroma"),
    ],
)
def test_a_run_that_cannot_be_learnt_from_is_refused_in_a_sentence(
    slides: Sequence[str], columns: dict[str, Change | None], says: str, tiles: Path, tmp_path: Path
) -> None:
    copy = changed(tiles, tmp_path, slides, **columns)
    with pytest.raises(ConfigError, match=says) as said:
        trained(copy, "model")
    assert "\n" not in str(said.value)
    assert not (copy / "models").exists()


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a run"):
        trained(tmp_path, "model")


def test_a_name_that_is_no_folders_is_refused(tiles: Path) -> None:
    with pytest.raises(ConfigError, match="name: expected letters"):
        trained(tiles, "../other")


def test_tiles_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    run = labelled_run(tmp_path)
    (path,) = (each for each in (run / "manifest").iterdir() if "train" in each.name)
    rows = pd.read_parquet(path)
    rows.loc[:4, "label"] = None
    rows.to_parquet(path)
    config, work = small()
    planned = plan(run, config, work)
    assert planned.unlabelled == 5
    assert sum(planned.parts.counts["train"].values()) == 15


def test_training_anew_leaves_nothing_of_the_network_before(tmp_path: Path) -> None:
    run = labelled_run(tmp_path)
    config, work = small(epochs=1)
    outcome = train(run, config, name="again", work=work)
    before = outcome.directory.path / "predictions" / "test.parquet"
    before.parent.mkdir()
    before.write_bytes(b"of the network before")
    train(run, config, name="again", work=work, overwrite=True)
    assert not before.exists()


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({}, "../elsewhere", "name: expected letters"),
        ({"device": "cuda:99"}, "model", "device: expected"),
        ({"model__pretrained": "nothing.pth"}, "model", "nothing.pth is none"),
        (
            {"loss__decoupling": {"a": 1.0}},
            "model",
            "decoupling: expected a number of each of benign, cancer",
        ),
    ],
)
def test_a_plan_refuses_what_the_training_would(
    tiles: Path, changes: dict[str, Any], name: str, says: str
) -> None:
    config, work = small(**changes)
    with pytest.raises(ConfigError, match=says):
        plan(tiles, config, work, name=name)
