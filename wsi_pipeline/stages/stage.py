"""What every stage needs: calls run somewhere, progress told to someone, time measured by step."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsi_pipeline.stages.run_directory import SlideRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function and its argument, to be run in some process; both can be pickled."""

    name: str
    function: Callable[[Any], Any]
    argument: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call gave: a value, or the error that it raised or died of."""

    call: Call
    value: Any = None
    error: BaseException | None = None


class Pool(Protocol):
    """Runs calls, in any order."""

    @property
    def window(self) -> int:
        """How many calls are worth having under way at once."""
        ...

    def submit(self, call: Call) -> None:
        """Take a call."""
        ...

    def next_answer(self) -> Answer:
        """Wait for a call to end; there is at least one under way."""
        ...


class SerialPool:
    """Runs each call in this thread when its answer is asked for."""

    window = 1

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()

    def submit(self, call: Call) -> None:
        """Keep the call for later."""
        self._waiting.append(call)

    def next_answer(self) -> Answer:
        """Run the oldest call."""
        call = self._waiting.popleft()
        try:
            return Answer(call=call, value=call.function(call.argument))
        except Exception as error:  # noqa: BLE001  an error is an answer, as in every pool
            return Answer(call=call, error=error)


class Observer(Protocol):
    """Is told what happens, in the process that drives the run."""

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
