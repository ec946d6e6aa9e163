"""The processes of one training: who they are, how they meet, and what they tell each other.

Gradients are summed after the backward pass, all at once, rather than by ``DistributedDataParallel``: a step
may have several backward passes and passes for images alone (adversarial ones), which its hooks do not allow.
"""

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from wsi_pipeline.errors import ConfigError, TrainError
from wsi_pipeline.loader.world import World, this_world


class PeerError(TrainError):
    """Another rank has ended: it has said why, so this one need not."""


_TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for one that says nothing, such as while rank 0 compiles or writes."""

_PORTS = (20_000, 20_000)
"""First port, and over how many the numbers of SLURM's jobs are spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """A process's rank among those of a training; alone, nothing is sent."""

    world: World
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this one writes and speaks."""
        return self.world.rank == 0

    def most(self, number: int) -> int:
        """Return the largest number that a rank says; every rank gets the same answer."""
        if self.world.ranks == 1:
            return number
        said = torch.tensor([number])
        with heard():
            distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return int(said.item())

    def word_of_first(self, word: Any) -> Any:  # noqa: ANN401  whatever it says
        """Return what the first rank says; the others' words are not heard."""
        if self.world.ranks == 1:
            return word
        said = [word if self.is_first else None]
        with heard():
            distributed.broadcast_object_list(said, 0)
        return said[0]

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all ranks."""
        if self.world.ranks > 1:
            tensor = tensor.clone()
            with heard():
                distributed.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every rank the sum of all ranks' gradients."""
        if self.world.ranks == 1:
            return
        trained = [each for each in parameters if each.requires_grad]
        for each in trained:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        gradients = [each.grad for each in trained if each.grad is not None]
        self._sum(gradients)

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the mean of tensors such as batch statistics, which each made of its own tiles."""
        floats = [each for each in tensors if each.is_floating_point()]
        if self.world.ranks == 1 or not floats:
            return
        self._sum(floats)
        for each in floats:
            each.div_(self.world.ranks)

    def copy_of_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the first one's values."""
        if self.world.ranks == 1:
            return
        for each in tensors:
            with heard():
                distributed.broadcast(each, 0)

    def gather(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return arrays of all ranks one after another, on every rank."""
        if self.world.ranks == 1:
            return dict(arrays)
        found: list[Any] = [None] * self.world.ranks
        with heard():
            distributed.all_gather_object(found, dict(arrays))
        return {name: np.concatenate([each[name] for each in found]) for name in arrays}

    @staticmethod
    def _sum(tensors: list[torch.Tensor]) -> None:
        """Sum tensors over ranks as one message."""
        if not tensors:
            return
        joined = torch.cat([each.reshape(-1) for each in tensors])
        with heard():
            distributed.all_reduce(joined)
        places = joined.split([each.numel() for each in tensors])
        for each, summed in zip(tensors, places, strict=True):
            each.copy_(summed.view_as(each))


@contextmanager
def together(device: str) -> Iterator[Peers]:
    """Meet the other ranks that torchrun or srun started, and part when this is left.

    Parameters
    ----------
    device
        As ``WorkConfig.device``.

    Raises
    ------
    ConfigError
        The device is not there.
    TrainError
        The others do not come.
    """
    world = this_world()
    chosen = device_of(device)
    joins = world.ranks > 1 and not distributed.is_initialized()
    if joins:
        _meet(world, chosen)
    try:
        yield Peers(world=world, device=chosen)
    finally:
        if joins and distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def heard() -> Iterator[None]:
    """Say in a sentence that another rank has gone.

    Raises
    ------
    PeerError
        It has.
    """
    try:
        yield
    except RuntimeError as error:
        raise PeerError(
            "another rank of this training has ended; what it said is the reason, and the same command "
            "goes on"
        ) from error


def device_of(name: str, variables: Mapping[str, str] | None = None) -> torch.device:
    """Return a device by its name; ``auto`` and ``cuda`` are this rank's own GPU.

    Raises
    ------
    ConfigError
        There is none.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device: expected a GPU for {name}, torch {torch.__version__} sees none; take --device cpu"
        )
    count = torch.cuda.device_count()
    if ":" in name:
        number = int(name.partition(":")[2])
    else:
        variables = os.environ if variables is None else variables
        local = variables.get("LOCAL_RANK", variables.get("SLURM_LOCALID", "0"))
        number = int(local) % count if count == 1 else int(local)
    if number >= count:
        raise ConfigError(f"device: expected a GPU of 0 to {count - 1}, got {number}")
    return torch.device("cuda", number)


def _meet(world: World, device: torch.device) -> None:
    os.environ.update({**_address(os.environ), **_rank_variables(world)})
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(
            backend, rank=world.rank, world_size=world.ranks, timeout=_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise TrainError(
            f"rank {world.rank} of {world.ranks} cannot meet the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} "
            f"({str(error).splitlines()[0]}); start all of them with torchrun or srun"
        ) from error


def _rank_variables(world: World) -> dict[str, str]:
    return {"RANK": str(world.rank), "WORLD_SIZE": str(world.ranks)}


def _address(variables: Mapping[str, str]) -> dict[str, str]:
    """Return where the first rank is: as torchrun says, else by what srun says of the job.

    >>> _address({"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "gpu[03-05,9]"})
    {'MASTER_ADDR': 'gpu03', 'MASTER_PORT': '20007'}
    >>> _address({"MASTER_ADDR": "a", "MASTER_PORT": "1", "SLURM_JOB_ID": "7"})
    {'MASTER_ADDR': 'a', 'MASTER_PORT': '1'}
    """
    nodes = variables.get("SLURM_STEP_NODELIST", variables.get("SLURM_JOB_NODELIST", ""))
    first, spread = _PORTS
    job = variables.get("SLURM_JOB_ID", "0")
    port = first + (int(job) if job.isdigit() else 0) % spread
    return {
        "MASTER_ADDR": variables.get("MASTER_ADDR", _first_node(nodes) or socket.gethostname()),
        "MASTER_PORT": variables.get("MASTER_PORT", str(port)),
    }


def _first_node(nodes: str) -> str:
    """Return the first name of a list as SLURM writes it.

    >>> _first_node("gpu[03-05,9],login1"), _first_node("a1,a2"), _first_node("")
    ('gpu03', 'a1', '')
    """
    found = re.match(r"([^,\[]*)(?:\[(\d+))?", nodes)
    return "" if found is None else found[1] + (found[2] or "")
