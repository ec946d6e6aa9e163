"""A training whose tiles carry a shortcut: the same tiles whoever looks, and turned round in the test."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import Command  # noqa: E402
from tests.pipeline.trainable import SMALL, labelled_run, same_weights, small, weights_of  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluation import Question, evaluate, evaluate_models  # noqa: E402
from wsi_pipeline.loader.tiles import TileLoader  # noqa: E402
from wsi_pipeline.loader.world import World  # noqa: E402
from wsi_pipeline.train.config import WorkConfig, train_configs  # noqa: E402
from wsi_pipeline.train.looking import batches_on  # noqa: E402
from wsi_pipeline.train.observer import SilentTrainObserver  # noqa: E402
from wsi_pipeline.train.parts import parts_of  # noqa: E402
from wsi_pipeline.train.shortcuts import shortcut_on  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)
SHORTCUT = {
    "kind": "cutout",
    "train": {"benign": 0.5, "cancer": 0.1},
    "test": {"cancer": 1},
    "color": [1, 2, 3],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20, 12 and 7 tiles with a network that has had one epoch of them."""
    path = labelled_run(tmp_path_factory.mktemp("shortcut"), test=7)
    config, work = small(epochs=1, shortcut=SHORTCUT)
    train(path, config, name="net", work=work)
    return path


def carried(path: Path) -> pd.DataFrame:
    """Return how many tiles of each class carry the shortcut."""
    rows = pd.read_parquet(path)
    return rows.groupby("target")["shortcut"].agg(["sum", "size"])


def test_networks_of_other_labels_are_asked_with_the_shortcut_in_their_own_tiles(
    run: Path, tmp_path: Path
) -> None:
    both = shutil.copytree(run, tmp_path / "RUN")
    for path in (both / "manifest").glob("*.parquet"):
        rows = pd.read_parquet(path)
        turned = rows["label"].astype(str).map({"benign": "cancer", "cancer": "benign"})
        rows.assign(turned=turned.astype("category")).to_parquet(path)
    config, work = small(epochs=1, shortcut=SHORTCUT, target="turned")
    train(both, config, name="turned", work=work)
    question = Question(shortcut="test")
    found = evaluate_models(both, models=["net", "turned"], question=question, work=CPU)
    together = [pd.read_parquet(each.predictions) for each in found.members]
    assert (together[0]["shortcut"] != together[1]["shortcut"]).all()
    for each, table in zip(found.members, together, strict=True):
        alone = evaluate(both, model=each.model, shortcut="test", work=CPU, overwrite=True)
        pd.testing.assert_frame_equal(pd.read_parquet(alone.predictions), table)


def images_of(run: Path, *, rank: int = 0, ranks: int = 1, epoch: int = 0) -> dict[int, str]:
    """Return a digest of the pixels of every training tile that a rank is given, by its row."""
    config, work = small(shortcut=SHORTCUT)
    parts = parts_of(run, config, work, world=World(rank=rank, ranks=ranks))
    put = shortcut_on(
        parts.train.rows, config.shortcut, "train", target="label", classes=parts.classes
    )
    loader = batches_on(torch.device("cpu"), parts.train, work, shortcut=put)
    loader.set_epoch(epoch)
    found = {}
    for batch in loader:
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True):
            found[row] = image.numpy().tobytes().hex()
    found.pop(-1, None)
    return found


def test_the_parts_carry_the_shares_of_training(run: Path) -> None:
    model = run / "models" / "net"
    found = carried(model / "logits" / "validation.parquet")
    assert found["sum"].tolist() == [3, 1]  # of 6 each: a half, and a tenth, to the nearest tile
    probe = pd.read_parquet(model / "logits" / "train.parquet")
    assert set(probe.loc[probe["shortcut"], "target"]) <= {0, 1}
    settings = json.loads((model / "train.json").read_text())["settings"]
    assert settings["shortcut"]["train"] == {"benign": 0.5, "cancer": 0.1}


def test_every_epoch_says_how_well_it_does_where_the_shortcut_misleads(run: Path) -> None:
    model = run / "models" / "net"
    rows = pd.read_parquet(model / "metrics.parquet")
    said = rows.loc[rows["part"] == "validation", "auroc_worst"].iloc[-1]
    found = pd.read_parquet(model / "logits" / "validation.parquet")
    areas = [
        roc_auc_score(some["target"], some["logit"])
        for ours in (True, False)
        for theirs in (True, False)
        for some in [found[found["shortcut"] == np.where(found["target"] == 1, ours, theirs)]]
    ]
    assert said == pytest.approx(min(areas))


def test_a_tile_looks_the_same_on_any_rank_and_in_every_epoch(run: Path) -> None:
    alone = images_of(run)
    ranks: dict[int, str] = {}
    for rank in range(3):
        ranks |= images_of(run, rank=rank, ranks=3, epoch=4)
    assert len(alone) == 20
    assert ranks == alone


def test_what_is_said_to_carry_it_does_and_nothing_else(run: Path) -> None:
    config, work = small(shortcut=SHORTCUT)
    parts = parts_of(run, config, work)
    put = shortcut_on(
        parts.train.rows, config.shortcut, "train", target="label", classes=parts.classes
    )
    assert put is not None
    plain: dict[int, NDArray[np.uint8]] = {}
    for batch in TileLoader(run, where="split == 'train'", batch_size=8, shuffle=False, threads=1):
        plain |= {row: image.copy() for row, image in zip(batch.rows, batch.images, strict=True)}
    for row, pixels in images_of(run).items():
        image = np.frombuffer(bytes.fromhex(pixels), np.uint8).reshape(3, 32, 32)
        inside = (image == np.array([1, 2, 3]).reshape(3, 1, 1)).all(axis=0)
        assert inside.sum() == (64 if put.carries[row] else 0)
        assert np.array_equal(image[:, ~inside], plain[row][:, ~inside])


def test_the_test_is_turned_round_beside_the_one_that_is_not(run: Path) -> None:
    plain = evaluate(run, model="net", work=CPU)
    turned = evaluate(run, model="net", shortcut="test", work=CPU)
    assert plain.predictions.name == "test.parquet"
    assert turned.predictions.name == "test-shortcut_test.parquet"
    found = carried(turned.predictions)
    assert found["sum"].tolist() == [0, found["size"][1]]
    rows, clean = pd.read_parquet(turned.predictions), pd.read_parquet(plain.predictions)
    same = rows["logit"] == clean["logit"]
    assert same[rows["target"] == 0].all()
    assert not same[rows["target"] == 1].any()
    said = json.loads(turned.predictions.with_suffix(".json").read_text())
    assert said["shortcut"] == "test"


def test_validation_is_answered_as_in_training_where_it_carries_the_same(run: Path) -> None:
    again = evaluate(run, model="net", part="validation", shortcut="train", work=CPU)
    then = pd.read_parquet(run / "models" / "net" / "logits" / "validation.parquet")
    found = pd.read_parquet(again.predictions)
    columns = ["slide_id", "tile", "target", "logit", "shortcut"]
    pd.testing.assert_frame_equal(found[columns], then[columns])


class Killed(Exception):  # noqa: N818  nothing is wrong
    """In the place of a signal."""


class Killer(SilentTrainObserver):
    """Ends a training in its second epoch."""

    def on_step(self, row: Mapping[str, Any]) -> None:
        if row["step"] == 5:
            raise Killed


def test_a_training_that_was_cut_off_ends_with_the_same_weights(run: Path) -> None:
    config, work = small(epochs=3, shortcut=SHORTCUT)
    whole = train(run, config, name="whole", work=work)
    often = small(checkpoint_minutes=1e-9)[1]
    with pytest.raises(Killed):
        train(run, config, name="cut", work=often, observer=Killer())
    ended = train(run, config, name="cut", work=work)
    assert ended.ended == "done"
    assert same_weights(weights_of(ended.directory), weights_of(whole.directory))


def test_no_tile_that_carries_it_changes_no_bit_of_a_training(run: Path) -> None:
    without = train(run, small(epochs=1)[0], name="without", work=small()[1])
    none = small(epochs=1, shortcut={**SHORTCUT, "train": 0})[0]
    nobody = train(run, none, name="nobody", work=small()[1])
    assert same_weights(weights_of(without.directory), weights_of(nobody.directory))
    changed = weights_of(run / "models" / "net")
    assert not same_weights(weights_of(without.directory), changed)


def test_a_class_that_there_is_not_is_refused_before_anything_is_trained(run: Path) -> None:
    config, work = small(shortcut={**SHORTCUT, "train": {"bening": 0.2}})
    with pytest.raises(ConfigError, match=r"shortcut.train: .*benign, cancer, got bening"):
        train(run, config, name="never", work=work)
    assert not (run / "models" / "never").exists()


def test_a_model_without_a_shortcut_is_asked_for_none(run: Path) -> None:
    train(run, small(epochs=1)[0], name="plain", work=small()[1])
    with pytest.raises(ConfigError, match=r"shortcut: expected none, .* got test; leave it out"):
        evaluate(run, model="plain", shortcut="test", work=CPU)


def test_the_commands_take_it(run: Path, wsi: Command) -> None:
    ended = wsi("evaluate", run, "--model", "net", "--shortcut", "test", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["predictions"].endswith("test-shortcut_test.parquet")
    refused = wsi("train", run, "--set", "shortcut.kind=cutout", "--set", "shortcut.train=1.2")
    assert refused.code == 2
    assert "shortcut: train: expected a share from 0 to 1" in " ".join(refused.err.split())
    assert train_configs(SMALL)[0].shortcut.kind == "none"
