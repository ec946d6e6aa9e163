"""Who looks at a training while it goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How long a training is at the most, and where it goes on."""

    name: str
    """Of the model."""
    epochs: int
    steps_per_epoch: int
    """Steps of the optimiser."""
    step: int = 0
    """Steps that an earlier process has done."""

    @property
    def steps(self) -> int:
        """Steps of the optimiser in all."""
        return self.epochs * self.steps_per_epoch


class TrainObserver(Protocol):
    """Told what happens; in one process of several, by the loop itself."""

    def on_begin(self, extent: Extent) -> None:
        """Take note of how long it is."""
        ...

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Take the row of a step, as it goes into metrics.parquet."""
        ...

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the rows of an epoch's end, one for each part."""
        ...


class SilentTrainObserver:
    """Does nothing."""

    def on_begin(self, extent: Extent) -> None:
        """Do nothing."""

    def on_step(self, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing."""
