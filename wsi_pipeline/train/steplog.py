"""Rows of steps, one step late: the device is not waited for while it could be given the next one."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from wsi_pipeline.config import first_of
from wsi_pipeline.errors import TrainError
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.train.learner import Taken

_NAMED = 5
"""Tiles that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A step whose numbers are not yet asked for."""

    taken: Taken
    batch: TensorBatch
    """On the CPU: what a message needs to name tiles."""
    seconds: float
    stalled: float
    """Seconds of these spent waiting for the batch."""


class StepLog:
    """Turns steps into rows; a number that is none stops the training."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None], *, may_overflow: bool) -> None:
        """Begin.

        Parameters
        ----------
        tell
            Gets each row.
        may_overflow
            Whether gradients may be infinite, as those of float16 are until their scale is found.
        """
        self._tell = tell
        self._may_overflow = may_overflow
        self._waiting: Waiting | None = None
        self._began = perf_counter()
        self._stalled = 0.0

    def timed(self, batches: Iterable[TensorBatch]) -> Iterator[TensorBatch]:
        """Yield batches, and remember how long each was waited for."""
        self._began = perf_counter()
        given = iter(batches)
        while True:
            asked = perf_counter()
            batch = next(given, None)
            self._stalled = perf_counter() - asked
            if batch is None:
                return
            yield batch

    def add(self, taken: Taken, batch: TensorBatch) -> None:
        """Take a step, and tell of the one before.

        Raises
        ------
        TrainError
            That one had a loss or a gradient that is no number.
        """
        self.flush()
        ended = perf_counter()
        self._waiting = Waiting(
            taken=taken, batch=batch, seconds=ended - self._began, stalled=self._stalled
        )
        self._began = ended

    def flush(self) -> None:
        """Tell of the last step too; a checkpoint is written after it, so that none has such weights.

        Raises
        ------
        TrainError
            It had a loss or a gradient that is no number.
        """
        if self._waiting is None:
            return
        step, self._waiting = self._waiting, None
        *terms, tiles, norm = step.taken.numbers.tolist()
        if not all(map(math.isfinite, terms)) or not (self._may_overflow or math.isfinite(norm)):
            raise TrainError(_diverged(step, dict(zip(step.taken.names, terms, strict=True)), norm))
        seconds = max(step.seconds, 1e-9)
        self._tell(
            {
                "kind": "step",
                "part": "train",
                "epoch": step.batch.epoch,
                "step": step.taken.step + 1,
                "tiles": int(tiles),
                "loss": sum(terms),
                **{
                    f"loss_{name}": each for name, each in zip(step.taken.names, terms, strict=True)
                },
                "learning_rate": step.taken.learning_rate,
                "gradient_norm": norm if math.isfinite(norm) else None,
                "seconds": step.seconds,
                "tiles_per_s": tiles / seconds,
                "stall_share": min(1.0, step.stalled / seconds),
            }
        )


def _diverged(step: Waiting, terms: Mapping[str, float], norm: float) -> str:
    """Return which batch gave what is no number, and its tiles."""
    what = ", ".join(f"{name} {value:g}" for name, value in terms.items())
    batch = step.batch
    pairs = zip(batch.slide_ids, batch.tiles.tolist(), strict=True)
    tiles = first_of([f"{slide}: {tile}" for slide, tile in pairs if tile >= 0], _NAMED)
    return (
        f"the loss or its gradient is not a number at step {step.taken.step + 1}, batch {batch.number} "
        f"of epoch {batch.epoch} ({what}, gradient {norm:g}; tiles {tiles}); the last good checkpoint is "
        "kept: lower optimise.lr, set optimise.clip, or look at these tiles, and train anew with --overwrite"
    )
