"""What a network says of every tile of a part, as validation needs it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.shortcut import Shortcut
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.rows import Rows
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.tables import write_table
from wsi_pipeline.train.config import TrainConfig, WorkConfig
from wsi_pipeline.train.learner import Learner, enough_memory
from wsi_pipeline.train.metrics import evaluation, judged
from wsi_pipeline.train.prediction_table import (
    NO_TARGET,
    SHORTCUT,
    answer_columns,
    answer_metadata,
)
from wsi_pipeline.train.shortcut_scores import worst_auroc
from wsi_pipeline.train.shortcuts import put_into

Ask: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""uint8 images ``(B, 3, H, W)`` to logits, ``(B,)`` or ``(B, C)``."""

_LOGITS = "logits of "
_PLACES = ("targets", "weights", "rows")
_COLLECTED = 64
"""Batches whose answers wait on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLogits:
    """Tiles in order of their rows, whatever ranks have looked at them."""

    logits: NDArray[np.float32]
    """``(tiles,)`` of a single logit, else ``(tiles, C)``."""
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    rows: NDArray[np.int64]
    """Of the loader."""
    seconds: float


def batches_on(
    device: torch.device, tiles: TileLoader, work: WorkConfig, *, shortcut: Shortcut | None = None
) -> TileDataLoader:
    """Return a loader's batches, copied to a device ahead of time, with a shortcut put into them."""
    workers = {"persistent_workers": True} if work.workers else {}
    there = device if device.type == "cuda" else None
    change = None if shortcut is None else put_into(shortcut)
    return TileDataLoader(tiles, workers=work.workers, device=there, change=change, **workers)


def part_logits(
    learner: Learner, loader: TileDataLoader, *, batches: int | None = None
) -> PartLogits:
    """Return what a network under training says of the tiles of a loader's first epoch.

    Parameters
    ----------
    learner
        Asked in evaluation mode, and left in that of training.
    loader
        Unshuffled, or always shuffled alike; every rank takes its part of each batch.
    batches
        How many of the epoch; all if not given.

    Raises
    ------
    TrainError
        The device has too little memory, or another rank has ended.
    """
    began = perf_counter()
    peers = learner.peers
    asks = {"": partial(learner.task.logits, learner.judged.eval())}
    loader.set_epoch(0)
    own = one_pass(asks, islice(loader, batches), device=peers.device, config=learner.config)
    gathered = peers.gather(
        {
            "logits": own.logits[""],
            "targets": own.targets,
            "weights": own.weights,
            "rows": own.rows,
        }
    )
    learner.network.train()
    return _in_order(gathered, perf_counter() - began)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLogits:
    """What this rank was told of some batches, in their order, fillers of row -1 among them."""

    logits: Mapping[str, NDArray[np.float32]]
    """By question, ``(tiles,)`` or ``(tiles, C)`` each."""
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    rows: NDArray[np.int64]


def one_pass(
    asks: Mapping[str, Ask],
    batches: Iterable[TensorBatch],
    *,
    device: torch.device,
    config: TrainConfig,
) -> BatchLogits:
    """Ask every question of every batch; at least one batch.

    Answers stay on the device for some batches, so that it never waits for this processor in between.

    Raises
    ------
    TrainError
        The device has too little memory.
    """
    with torch.inference_mode(), enough_memory(config):
        found = list(_collected(_told(asks, batches, device)))
    whole = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    places = {name: whole.pop(name) for name in _PLACES}
    return BatchLogits(logits={name: whole[f"{_LOGITS}{name}"] for name in asks}, **places)


def _told(
    asks: Mapping[str, Ask], batches: Iterable[TensorBatch], device: torch.device
) -> Iterator[dict[str, torch.Tensor]]:
    for batch in batches:
        there = batch.to(device)
        told = {f"{_LOGITS}{name}": ask(there.images).float() for name, ask in asks.items()}
        targets = there.targets
        if targets is None:
            targets = torch.full_like(there.rows, NO_TARGET)
        yield {**told, "targets": targets, "weights": there.weights, "rows": there.rows}


def _collected(told: Iterator[dict[str, torch.Tensor]]) -> Iterator[dict[str, NDArray[Any]]]:
    while some := list(islice(told, _COLLECTED)):
        yield {name: torch.cat([each[name] for each in some]).cpu().numpy() for name in some[0]}


def row_of(
    found: PartLogits,
    learner: Learner,
    classes: tuple[str, ...],
    place: Mapping[str, Any],
    *,
    shortcut: Shortcut | None = None,
) -> dict[str, Any]:
    """Return the row of metrics.parquet of a part: terms of the loss over all its tiles, and scores.

    Raises
    ------
    PipelineError
        A logit is not a finite number.
    """
    scored = evaluation(found.logits, found.targets, found.weights, classes=classes)
    tensors = (torch.from_numpy(each) for each in (found.targets, found.weights.astype(np.float64)))
    terms = learner.task.loss(torch.from_numpy(found.logits.astype(np.float64)), *tensors)
    values = {name: float(value) for name, value in terms.items()}
    return {
        "kind": "epoch",
        **place,
        **scored,
        **_against(found, classes, shortcut),
        "loss": sum(values.values()),
        **{f"loss_{name}": value for name, value in values.items()},
        "seconds": found.seconds,
        "tiles_per_s": len(found.rows) / max(found.seconds, 1e-9),
    }


def _against(
    found: PartLogits, classes: tuple[str, ...], shortcut: Shortcut | None
) -> dict[str, float | None]:
    """Return what only tiles that carry a shortcut tell."""
    if shortcut is None:
        return {}
    tiles = judged(found.logits, found.targets, found.weights, classes=classes)
    return {"auroc_worst": worst_auroc(tiles, shortcut.carries[found.rows[found.weights > 0]])}


def write_logits(
    path: Path,
    found: PartLogits,
    rows: Rows,
    *,
    classes: tuple[str, ...],
    epoch: int,
    shortcut: Shortcut | None = None,
) -> None:
    """Write a part's logits as ``evaluate`` does, without columns of the manifest.

    Parameters
    ----------
    rows
        Of the loader.
    classes
        In order of their number.
    epoch
        From 0: the one whose weights gave them.
    shortcut
        What some tiles carried, which is written too.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    columns = answer_columns(
        rows, found.rows, targets=found.targets, weights=found.weights, logits=found.logits
    )
    if shortcut is not None:
        columns[SHORTCUT] = pa.array(shortcut.carries[found.rows])
    write_table(path, pa.table(columns), metadata=answer_metadata(classes, epoch=epoch))


def _in_order(gathered: Mapping[str, NDArray[Any]], seconds: float) -> PartLogits:
    kept = np.flatnonzero(gathered["rows"] >= 0)
    order = kept[np.argsort(gathered["rows"][kept], kind="stable")]
    return PartLogits(seconds=seconds, **{name: each[order] for name, each in gathered.items()})
