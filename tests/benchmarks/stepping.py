"""One side of the trainer's benchmark in a process of its own: ``python -m tests.benchmarks.stepping``.

Prints its figures as JSON. EfficientNet-b0 on batches that lie in memory: the GPU's where there is one, with
bfloat16, else the processor's. All sides keep channels last; first steps are not counted.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from wsi_pipeline.loader.batch import Batch
from wsi_pipeline.loader.tensors import TensorBatch, tensors_of
from wsi_pipeline.loader.world import World
from wsi_pipeline.train.config import train_configs
from wsi_pipeline.train.history import History
from wsi_pipeline.train.learner import PRECISIONS, Learner
from wsi_pipeline.train.model import make_model
from wsi_pipeline.train.peers import Peers
from wsi_pipeline.train.steplog import StepLog
from wsi_pipeline.train.task import Task

NAME, SIDE_PX = "efficientnet_b0", 224
AS_THEY_ARE = {"crop": [1, 1], "flip": False, "quarter_turns": False, "operations": "none"}
"""Images that the trainer does nothing random to, as the bare loop does not."""

_FIRST, _BATCHES = 3, 4
"""Steps that are not counted, and batches that come in turns."""


def main(side: str, batch_size: int, steps: int) -> dict[str, float]:
    """Return tiles a second of whole steps."""
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if has_gpu else "cpu")
    step = _sides()[side](device, batch_size)
    for number in range(_FIRST):
        step(number)
    _wait(device)
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(steps):
        step(number)
    _wait(device)
    tiles = batch_size * steps
    return {
        "tiles_per_s": tiles / (time.perf_counter() - began),
        "cpu_ms": 1e3 * (time.process_time() - cpu) / tiles,
    }


def _sides() -> dict[str, Callable[[torch.device, int], Callable[[int], object]]]:
    return {
        "bare": _bare,
        "ours": lambda device, size: _ours(device, size, AS_THEY_ARE),
        "augmented": lambda device, size: _ours(device, size, {}),
    }


def _bare(device: torch.device, batch_size: int) -> Callable[[int], object]:
    """Return a step as a page of torch's documentation has it, on prepared images."""
    network = timm.create_model(NAME, num_classes=1, drop_rate=0.2, drop_path_rate=0.2)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loss_of = torch.nn.BCEWithLogitsLoss()
    batches = []
    for each in _batches(batch_size):
        images = (each.images.float() / 255).contiguous(memory_format=torch.channels_last)
        batches.append((images.to(device), _targets(each).float().to(device)))

    def step(number: int) -> None:
        images, targets = batches[number % _BATCHES]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(images).squeeze(1)
        loss = loss_of(logits.float(), targets)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def _ours(device: torch.device, batch_size: int, augment: Any) -> Callable[[int], object]:  # noqa: ANN401  YAML
    """Return the trainer's own step: changes of images, losses, schedule, clipping, checks and rows."""
    precision = "bf16" if device.type == "cuda" else "fp32"
    config, work = train_configs(
        {"model": {"name": NAME, "image_px": SIDE_PX}, "augment": augment, "precision": precision}
    )
    task = Task(config.loss, ("a", "b"), autocast=PRECISIONS[config.precision])
    peers = Peers(world=World(), device=device)
    learner = Learner(make_model(config.model, 2), task, config, work, peers=peers)
    learner.begin_epoch(0)
    history = History(Path(tempfile.mkdtemp()))
    log = StepLog(lambda row: history.add([row]), may_overflow=False)
    batches = [each.to(device) for each in _batches(batch_size)]

    def step(number: int) -> None:
        batch = batches[number % _BATCHES]
        log.add(learner.learn(batch, steps=1000), batch)

    return step


def _batches(batch_size: int) -> list[TensorBatch]:
    rng = np.random.default_rng(2)
    return [tensors_of(_batch(rng, batch_size, number)) for number in range(_BATCHES)]


def _batch(rng: np.random.Generator, size: int, number: int) -> Batch:
    images = rng.integers(0, 256, (size, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return Batch(
        epoch=0,
        number=number,
        images=images.transpose(0, 3, 1, 2),
        targets=rng.integers(0, 2, size),
        weights=np.ones(size, np.float32),
        rows=np.arange(size),
        tiles=np.arange(size, dtype=np.int32),
        slide_ids=("slide",) * size,
        keys=rng.integers(0, 2**63, size).astype(np.uint64),
        columns={},
    )


def _targets(batch: TensorBatch) -> torch.Tensor:
    if batch.targets is None:
        raise TypeError
    return batch.targets


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))  # noqa: T201
