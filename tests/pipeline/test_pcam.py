"""Real labelled tiles: every method learns on them; what the recipe of workflows/pcam is worth."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import REPOSITORY  # noqa: E402
from wsi_pipeline.config import read_yaml  # noqa: E402
from wsi_pipeline.evaluation import evaluate  # noqa: E402
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles  # noqa: E402
from wsi_pipeline.train.config import train_configs  # noqa: E402
from wsi_pipeline.train.metrics_table import read_history  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

TILES = REPOSITORY.parent / "shared" / "pcam" / "pcam.parquet"
RECIPE = REPOSITORY / "workflows" / "pcam" / "train.yaml"
CUTOUT = REPOSITORY / "workflows" / "pcam" / "cutout"

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
    pytest.mark.skipif(not TILES.exists(), reason="needs ../shared/pcam/pcam.parquet"),
]

METHODS: dict[str, dict[str, Any]] = {
    "weight decay": {"loss.decoupling": 0.0, "optimise.weight_decay": 0.01},
    "Eq. 1, one logit": {"loss.decoupling": 0.1},
    "Eq. 1, a logit of each class": {"loss.decoupling": 1.0, "model.head": "classes"},
    "Eq. 2": {
        "loss.decoupling": {"0": 0.0969, "1": 0.000698},
        "loss.decoupling_gamma": {"0": 1.83, "1": 2.61},
    },
    "Eq. 2, means of classes": {
        "loss.decoupling": 0.2,
        "loss.decoupling_gamma": {"0": 0.44, "1": 2.5},
        "loss.decoupling_reduction": "class_mean",
    },
    "large margin": {"loss.margin": 0.2},
    "asymmetric large margin": {"loss.margin": 0.2, "loss.margin_classes": "rare"},
    "focal": {"loss.focal": 2.0},
    "asymmetric focal": {"loss.focal": 2.0, "loss.focal_classes": "common"},
    "mixup": {"loss.mixup": 0.2},
    "asymmetric mixup": {"loss.mixup": 1.0, "loss.mixup_labels": "rare"},
    "asymmetric adversarial": {"loss.adversarial": 10.0},
    "label smoothing": {"loss.smoothing": 0.1},
    "class weights": {"loss.class_weights": "balanced"},
    "UniformAugment": {"augment.operations": "all"},
    "Macenko": {"model.stain": "macenko"},
    "Reinhard": {"model.stain": "reinhard"},
    "frozen backbone": {"model.freeze": "backbone"},
    "two stages": {"model.freeze": "backbone", "model.unfreeze_epoch": 1},
    "moving average": {"optimise.ema": 0.9},
    "sgd": {"optimise.optimiser": "sgd", "optimise.lr": 0.05},
    "bfloat16": {"precision": "bf16"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pcam") / "PCAM"
    import_tiles(TILES, path, ImportConfig())
    return path


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_real_tiles(run: Path, method: str) -> None:
    few = {"where": "tile % 12 == 0", "epochs": 2, "probe_tiles": 0, "device": "cpu"}
    config, work = train_configs(read_yaml(RECIPE), few, METHODS[method])
    outcome = train(run, config, name=method.replace(" ", "_").replace(",", ""), work=work)
    history = read_history(outcome.directory.path)
    assert history is not None
    rows = history.to_pandas()
    steps = rows[rows["kind"] == "step"]
    terms = [
        name
        for name in steps.columns.tolist()
        if name.startswith("loss_") and steps[name].notna().any()
    ]
    assert steps[terms].notna().all(axis=None)
    assert steps["loss"].to_numpy() == pytest.approx(steps[terms].sum(axis=1).to_numpy(), abs=1e-5)
    assert steps["loss"].iloc[-5:].mean() < steps["loss"].iloc[:5].mean()


def test_the_recipe_beats_hand_made_features_on_other_slides(run: Path) -> None:
    # Its README: logistic regression and boosted trees on colour and texture reach 0.89.
    config, work = train_configs(read_yaml(RECIPE), {"device": "cpu"})
    train(run, config, name="recipe", work=work)
    assert evaluate(run, model="recipe", work=work).scores["auroc"] > 0.90


def test_a_cut_out_lures_a_network_that_has_seen_it_on_one_class_mostly(run: Path) -> None:
    scores = {}
    for arm in ("weight_decay", "control"):
        config, work = train_configs(read_yaml(CUTOUT / f"{arm}.yaml"), {"device": "cpu"})
        train(run, config, name=arm, work=work)
        found = evaluate(run, model=arm, shortcut="test", replicates=0, work=work)
        scores[arm] = found.scores["auroc"]
    assert scores["control"] > scores["weight_decay"] + 0.1
