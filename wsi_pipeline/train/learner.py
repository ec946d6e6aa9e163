"""A network, its optimiser and what a step does with them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from wsi_pipeline.augment.policy import Augmenter
from wsi_pipeline.errors import TrainError
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.randomness import generator
from wsi_pipeline.train.config import TrainConfig, WorkConfig
from wsi_pipeline.train.model import Network, parameter_groups
from wsi_pipeline.train.peers import Peers
from wsi_pipeline.train.schedule import learning_rate
from wsi_pipeline.train.task import Task

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A step that was taken; its numbers may still be on their way from the device."""

    step: int
    """From 0."""
    learning_rate: float
    names: tuple[str, ...]
    """Of the terms."""
    numbers: torch.Tensor
    """float32 ``(terms + 2,)``: the terms over all ranks, their tiles, the gradients' norm."""


class Learner:
    """Takes steps; everything random in a step follows from the seed and the step's number."""

    def __init__(
        self, network: Network, task: Task, config: TrainConfig, work: WorkConfig, *, peers: Peers
    ) -> None:
        self.config = config
        self.peers = peers
        self.task = task
        self.step = 0
        """Steps taken."""
        layout = torch.channels_last if work.channels_last else torch.contiguous_format
        self._layout = layout
        self.network = network.to(device=peers.device, memory_format=layout)
        groups = parameter_groups(network, weight_decay=config.weight_decay)
        self._parameters = [each for group in groups for each in group["params"]]
        self.optimiser = _optimiser(config, groups)
        self._scaler = torch.amp.GradScaler(
            peers.device.type, enabled=config.precision == "fp16", init_scale=2.0**14
        )
        self._augment = Augmenter(config.augment, config.model.image_px)
        self._forward: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(network) if work.compile else network
        )
        self.averaged: Network | None = None
        """Moving average of the weights, where one is asked for."""
        if config.optimise.ema is not None:
            self.averaged = deepcopy(self.network).eval().requires_grad_(requires_grad=False)

    @property
    def judged(self) -> Network:
        """The network that is validated and kept."""
        return self.network if self.averaged is None else self.averaged

    def begin_epoch(self, epoch: int) -> None:
        """Unfreeze what is to be trained from this epoch on, and go to training mode."""
        if (first := self.config.model.unfreeze_epoch) is not None and epoch >= first:
            self.network.unfreeze()
        self.network.train()

    def learn(self, batch: TensorBatch, *, steps: int) -> Taken:
        """Take a step with a batch, or several where the loss has more phases.

        Parameters
        ----------
        batch
            This rank's part, on the CPU.
        steps
            Of the whole training.

        Raises
        ------
        TrainError
            The device has too little memory, or another rank has ended.
        """
        rate = learning_rate(self.step, steps=steps, config=self.config.optimise)
        self._set_rate(rate)
        self._seed()
        with enough_memory(self.config):
            names, numbers = self._phases(batch)
        self._agree()
        self._average()
        self.step += 1
        return Taken(step=self.step - 1, learning_rate=rate, names=names, numbers=numbers)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a step depends on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was asked for."""
        self.step = int(state["step"])
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def _set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]

    def _seed(self) -> None:
        """Let dropout and stochastic depth follow from seed, step and rank: nothing of them is saved."""
        drawn = generator(self.config.seed, "step", self.step, self.peers.world.rank)
        torch.manual_seed(int(drawn.integers(2**63)))

    def _phases(self, batch: TensorBatch) -> tuple[tuple[str, ...], torch.Tensor]:
        batch = batch.to(self.peers.device)
        images = self._augment(self.network.stained(batch.images), batch.keys)
        whole = self.peers.total(batch.weights.sum()).clamp_min(1e-12)
        chunks = list(self._chunks(batch, images))
        begun = [self.task.phases(self._forward, *chunk) for chunk in chunks]
        shares = [chunk[2].sum() / whole for chunk in chunks]
        terms: dict[str, torch.Tensor] = {}
        norms = []
        for phase in self.task.phase_names:
            for each, share in zip(begun, shares, strict=True):
                _, found = next(each)
                self._scaler.scale(torch.stack(list(found.values())).sum() * share).backward()
                for name, value in found.items():
                    named = name if len(self.task.phase_names) == 1 else f"{phase}_{name}"
                    terms[named] = terms.get(named, 0) + value.detach() * share
            norms.append(self._update())
        tiles = (batch.weights > 0).sum()
        summed = self.peers.total(torch.stack([*terms.values(), tiles]).float())
        return tuple(terms), torch.cat([summed, torch.stack(norms).max()[None]])

    def _chunks(
        self, batch: TensorBatch, images: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield images, targets, weights and keys of the parts in which a batch goes through the network."""
        parts = min(self.config.optimise.accumulate, len(batch))
        for at in torch.arange(len(batch)).tensor_split(parts):
            part = slice(int(at[0]), int(at[-1]) + 1)
            prepared = self.network.prepared(images[part]).contiguous(memory_format=self._layout)
            yield prepared, targets_of(batch)[part], batch.weights[part], batch.keys[part]

    def _update(self) -> torch.Tensor:
        """Change the weights by the gradients there are; return their norm before it is clipped."""
        self.peers.add_gradients(self._parameters)
        self._scaler.unscale_(self.optimiser)
        longest = self.config.optimise.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, longest)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        return norm.detach().float()

    def _agree(self) -> None:
        """Give all ranks the same batch statistics, which each has made of its own tiles.

        After every step, as what reads them (the adversarial step) must not depend on when a checkpoint was
        written. Those of frozen parts are the same already, and stay so to the bit.
        """
        moving = (part for part in self.network.modules() if part.training)
        self.peers.average(each for part in moving for each in part.buffers(recurse=False))

    def _average(self) -> None:
        """Move the averaged weights towards those of now."""
        if self.averaged is None or self.config.optimise.ema is None:
            return
        new = 1 - self.config.optimise.ema
        pairs = zip(
            self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True
        )
        for kept, now in pairs:
            if kept.is_floating_point():
                kept.lerp_(now, new)
            else:
                kept.copy_(now)


def targets_of(batch: TensorBatch) -> torch.Tensor:
    """Return a batch's classes.

    Raises
    ------
    TrainError
        Its loader was made without a target.
    """
    if batch.targets is None:
        raise TrainError("the loader gives no targets; make it with target=COLUMN")
    return batch.targets


def seed_weights(seed: int) -> None:
    """Let the first weights follow from the seed."""
    torch.manual_seed(int(generator(seed, "weights").integers(2**63)))


@contextmanager
def enough_memory(config: TrainConfig) -> Iterator[None]:
    """Say what to lower where the device has too little memory.

    Raises
    ------
    TrainError
        It has.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        parts = config.optimise.accumulate
        raise TrainError(
            f"out of memory with batch_size {config.batch_size} at {config.model.image_px} px "
            f"in {config.precision}: go through the network in more parts (optimise.accumulate {2 * parts}, "
            "the same result but for batch statistics), lower batch_size or model.image_px, or take bf16"
        ) from error


def _is_memory(error: BaseException) -> bool:
    named = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return named or "can't allocate memory" in str(error)


def _optimiser(config: TrainConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    how = config.optimise
    if how.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=how.lr, betas=(how.momentum, 0.999))
    nesterov = how.momentum > 0
    return torch.optim.SGD(groups, lr=how.lr, momentum=how.momentum, nesterov=nesterov)
