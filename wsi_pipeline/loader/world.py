"""Which process of how many this one is: ranks of a training, workers of a rank."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from wsi_pipeline.errors import ConfigError

_PAIRS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
"""Variables that torchrun and srun set; SLURM_NTASKS is there in a batch script too, which is one process."""


_HERE = "LOCAL_WORLD_SIZE"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Rank and worker numbers as one value."""

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(
                f"rank: expected 0 to {self.ranks - 1} of {self.ranks}, got {self.rank}"
            )
        if not 0 <= self.worker < self.workers:
            raise ConfigError(
                f"worker: expected 0 to {self.workers - 1} of {self.workers}, got {self.worker}"
            )

    def share(self, count: int) -> slice:
        """Return this rank's part of so many things; parts differ by one at most and leave nothing out."""
        return slice(self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks)

    def with_worker(self, worker: int, workers: int) -> "World":
        """Return the same rank's worker."""
        return replace(self, worker=worker, workers=workers)


def this_world(variables: Mapping[str, str] | None = None) -> World:
    """Return this process's rank: as ``torch.distributed`` has it, else torchrun or srun, else the only one.

    Raises
    ------
    ConfigError
        A variable is no number, or the rank is not one of them.
    """
    if variables is None and (world := _of_torch()) is not None:
        return world
    variables = os.environ if variables is None else variables
    for rank, ranks in _PAIRS:
        if rank in variables and ranks in variables:
            return World(rank=_number(variables, rank), ranks=_number(variables, ranks))
    return World()


def processes_here(variables: Mapping[str, str] | None = None) -> int:
    """Return how many ranks share the cores that this process sees; torchrun says so, srun parts them."""
    variables = os.environ if variables is None else variables
    return max(1, _number(variables, _HERE)) if _HERE in variables else 1


def _of_torch() -> World | None:
    """Return the rank that torch knows of, without loading torch for it."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return World(rank=distributed.get_rank(), ranks=distributed.get_world_size())


def _number(variables: Mapping[str, str], name: str) -> int:
    try:
        return int(variables[name])
    except ValueError:
        raise ConfigError(f"{name}: expected a whole number, got {variables[name]!r}") from None
