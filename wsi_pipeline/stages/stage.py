"""What every stage needs: progress told to someone, time measured by step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from wsi_pipeline.stages.run_directory import SlideRecord


class Observer(Protocol):
    """Is told what happens, in the process that drives the run."""

    def slides_found(self, count: int) -> None:
        """Say how many slides there are."""
        ...

    def slide_planned(self, slide_id: str, tiles: int) -> None:
        """Say that a slide is about to be cut into so many tiles."""
        ...

    def unit_cut(self, slide_id: str, tiles: int, stored_bytes: int) -> None:
        """Say that so many tiles of a slide are on the disk."""
        ...

    def slide_ended(self, record: SlideRecord) -> None:
        """Say that a slide is done, failed, or skipped."""
        ...


class SilentObserver:
    """Tells nobody."""

    def slides_found(self, count: int) -> None:
        """Do nothing."""

    def slide_planned(self, slide_id: str, tiles: int) -> None:
        """Do nothing."""

    def unit_cut(self, slide_id: str, tiles: int, stored_bytes: int) -> None:
        """Do nothing."""

    def slide_ended(self, record: SlideRecord) -> None:
        """Do nothing."""


@dataclass(slots=True)
class StepClock:
    """Seconds spent by named step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time inside towards a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - start})

    def add(self, seconds: dict[str, float]) -> None:
        """Add seconds by step."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value
