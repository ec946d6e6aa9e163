"""Small runs with labels and parts that a network learns in seconds."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.pipeline.images import parquet_of_images
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles
from wsi_pipeline.train.config import TrainConfig, WorkConfig, train_configs
from wsi_pipeline.train.model_directory import ModelDirectory

SIDE_PX = 32
SMALL = {
    "model": {
        "name": "test_efficientnet",
        "image_px": SIDE_PX,
        "dropout": 0.1,
        "stochastic_depth": 0.1,
    },
    "augment": {"operations": "none", "crop": [1, 1]},
    "batch_size": 8,
    "epochs": 3,
    "probe_tiles": 8,
    "device": "cpu",
    "threads": 1,
}
"""Settings of a training of seconds: a network of 100 000 parameters on images of 32 px."""


def labelled_run(folder: Path, *, train: int = 20, validation: int = 12, test: int = 4) -> Path:
    """Import tiles of two classes, benign and cancer, that differ in colour, and return their run."""
    rng = np.random.default_rng(11)
    images: list[bytes | None] = []
    labels, splits = [], []
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        for number in range(count):
            label = ("benign", "cancer")[number % 2]
            noise = rng.integers(0, 120, (SIDE_PX, SIDE_PX, 3))
            noise[..., 0 if label == "cancer" else 2] += 90
            images.append(_jpeg(noise.astype(np.uint8)))
            labels.append(label)
            splits.append(split)
    folder.mkdir(parents=True, exist_ok=True)
    parquet_of_images(folder / "tiles.parquet", images, label=labels, split=splits)
    import_tiles(folder / "tiles.parquet", folder / "RUN", ImportConfig())
    return folder / "RUN"


def small(**changes: object) -> tuple[TrainConfig, WorkConfig]:
    """Return ``SMALL`` with changes, whose paths have ``__`` for a dot."""
    return train_configs(SMALL, {name.replace("__", "."): value for name, value in changes.items()})


def weights_of(model: ModelDirectory | Path, name: str = "last") -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint."""
    path = model if isinstance(model, Path) else model.path
    content = torch.load(path / "checkpoints" / f"{name}.pt", weights_only=True)
    weights: dict[str, torch.Tensor] = (
        content["learner"]["network"] if name == "last" else content["network"]
    )
    return weights


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are equal to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def _jpeg(pixels: "np.typing.NDArray[np.uint8]") -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="JPEG", quality=95)
    return target.getvalue()
