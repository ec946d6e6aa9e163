"""Joins runs, tiles and the loop: trains a network on a run's tiles.

>>> from wsi_pipeline.train.config import train_configs
>>> from wsi_pipeline.training import train
>>> config, work = train_configs({"model": {"image_px": 96}, "epochs": 5})
>>> outcome = train("RUN", config, name="first", work=work)  # doctest: +SKIP
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import absolute
from wsi_pipeline.stages.lease import sole_use_of
from wsi_pipeline.train.checkpoint import read_checkpoint
from wsi_pipeline.train.config import TrainConfig, WorkConfig, train_configs
from wsi_pipeline.train.loop import Job
from wsi_pipeline.train.loop import train as train_on
from wsi_pipeline.train.losses import Loss
from wsi_pipeline.train.model import Network, load_pretrained, make_model
from wsi_pipeline.train.model_directory import (
    ModelDirectory,
    check_same,
    model_directory,
    now,
    read_train_json,
    tidy,
    write_train_json,
)
from wsi_pipeline.train.observer import SilentTrainObserver, TrainObserver
from wsi_pipeline.train.parts import TRAIN, Parts, parts_of, unlabelled
from wsi_pipeline.train.peers import Peers, device_of, together


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """What a training came to."""

    directory: ModelDirectory
    ended: Literal["done", "stopped", "already"]
    """``already``: an earlier command had trained it to its end."""
    best_epoch: int
    best_loss: float
    """Of validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """What a training would do."""

    parts: Parts
    unlabelled: int
    """Tiles of these parts that are left out, as they have no label."""
    steps_per_epoch: int
    steps: int
    parameters: int
    trained: int
    """Parameters of these that are not frozen at the start."""


def train(
    run: str | Path,
    config: TrainConfig,
    *,
    name: str = "model",
    work: WorkConfig | None = None,
    overwrite: bool = False,
    observer: TrainObserver | None = None,
) -> TrainOutcome:
    """Train a network on a run's tiles, or go on with one that was cut off; it is in ``RUN/models/NAME``.

    Started by torchrun or srun, all ranks train one network; the first one writes.

    Parameters
    ----------
    run
        The run directory or its URL.
    config
        What is learnt.
    name
        Of the model.
    work
        How it is carried out.
    overwrite
        Remove what an earlier training of this name has left.
    observer
        Is told of rows as they come.

    Raises
    ------
    ConfigError
        The run has no split, no labels or lacks a class, the model was begun with other settings, or another
        process trains it.
    TrainError
        A loss is no number, memory is too little, a checkpoint is damaged, or another rank has ended.
    """
    work = work or WorkConfig()
    directory = model_directory(run, name)
    parts = parts_of(run, config, work)
    with together(work.device) as peers, _model_held(directory, peers) as held, repeatable(work):
        if peers.is_first:
            _begin(directory, config, parts, overwrite=overwrite)
        if peers.word_of_first(_is_over(directory)):
            return _outcome(directory, "already")
        job = Job(
            config=config,
            work=work,
            parts=parts,
            directory=directory,
            peers=peers,
            name=name,
            observer=observer or SilentTrainObserver(),
            check=held,
        )
        ended = train_on(job)
        if peers.is_first:
            _end(directory, config, parts, ended)
        peers.most(0)  # nobody leaves before the first has written
        return _outcome(directory, ended)


def plan(
    run: str | Path, config: TrainConfig, work: WorkConfig | None = None, *, name: str = "model"
) -> TrainPlan:
    """Return what a training would do; nothing is written, no weights are fetched.

    Raises
    ------
    ConfigError
        As for ``train``.
    """
    work = work or WorkConfig()
    model_directory(run, name)
    device_of(work.device)
    parts = parts_of(run, config, work)
    network = make_model(config.model, len(parts.classes), fresh=False)
    Loss(config.loss, parts.classes, tiles=parts.counts[TRAIN])
    if isinstance(config.model.pretrained, str):
        load_pretrained(network)
    sizes = {name: each.numel() for name, each in network.net.named_parameters()}
    return TrainPlan(
        parts=parts,
        unlabelled=unlabelled(run, config),
        steps_per_epoch=len(parts.train),
        steps=config.epochs * len(parts.train),
        parameters=sum(sizes.values()),
        trained=sum(size for name, size in sizes.items() if name not in network.frozen),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A network with its best weights, and what it was trained by."""

    network: Network
    """In evaluation mode; takes uint8 tiles of any side."""
    classes: tuple[str, ...]
    """In order of their number."""
    config: TrainConfig
    epoch: int
    """From 0: the one whose weights these are."""


def load_network(directory: ModelDirectory | str | Path) -> Trained:
    """Return a trained network.

    Parameters
    ----------
    directory
        ``RUN/models/NAME``.

    Raises
    ------
    ConfigError
        There is no such model, or it has not finished an epoch.
    TrainError
        Its checkpoint is damaged.
    """
    if not isinstance(directory, ModelDirectory):
        directory = ModelDirectory(path=absolute(directory))
    content = read_checkpoint(directory.best)
    if content is None:
        raise ConfigError(
            f"{directory.path}: expected a model that was trained, it has no {directory.best.name}; run "
            "wsi-pipeline train first"
        )
    config, _ = train_configs(content["settings"])
    classes = tuple(content["classes"])
    network = make_model(config.model, len(classes), fresh=False)
    network.load_state_dict(content["network"])
    return Trained(
        network=network.eval(), classes=classes, config=config, epoch=int(content["epoch"])
    )


@contextmanager
def repeatable(work: WorkConfig) -> Iterator[None]:
    """Let torch take algorithms that repeat themselves, or the quickest ones; put back as it was.

    Which one cuDNN takes for a convolution is tried out where they need not repeat themselves: all steps have
    images of one size.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not work.deterministic
    if work.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextmanager
def _model_held(directory: ModelDirectory, peers: Peers) -> Iterator[Callable[[], None]]:
    """Keep other commands from training the same model meanwhile; give what looks whether they do."""
    if not peers.is_first:
        yield lambda: None
        return
    otherwise = "wait for it to end, or take another --name"
    with sole_use_of(directory.path, otherwise=otherwise) as held:
        yield held.check


def _begin(
    directory: ModelDirectory, config: TrainConfig, parts: Parts, *, overwrite: bool
) -> None:
    about = parts.about()
    tidy(directory)
    check_same(directory, config, about, overwrite=overwrite)
    if read_train_json(directory) is None:
        write_train_json(directory, config, about)


def _end(directory: ModelDirectory, config: TrainConfig, parts: Parts, ended: str) -> None:
    if ended == "done":
        write_train_json(directory, config, parts.about(), ended=now(), best=_best(directory))


def _best(directory: ModelDirectory) -> dict[str, Any]:
    """Return epoch and validation loss of the best weights."""
    content = read_checkpoint(directory.last) or {}
    return dict(content.get("best", {"epoch": -1, "loss": float("inf")}))


def _is_over(directory: ModelDirectory) -> bool:
    before = read_train_json(directory)
    return before is not None and before["ended"] is not None


def _outcome(
    directory: ModelDirectory, ended: Literal["done", "stopped", "already"]
) -> TrainOutcome:
    best = _best(directory)
    return TrainOutcome(
        directory=directory, ended=ended, best_epoch=best["epoch"], best_loss=best["loss"]
    )
