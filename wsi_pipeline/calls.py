"""Calls that run somewhere else, and what they answer: the seam between stages and compute."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


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

    def drop(self) -> None:
        """End what is under way, wait until it has ended as far as it can be, and forget it."""
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

    def drop(self) -> None:
        """Forget the calls that wait."""
        self._waiting.clear()


def run_all(pool: Pool, calls: Iterable[Call]) -> Iterator[Answer]:
    """Yield the answers of independent calls as they come; at most a window of them is under way."""
    under_way = 0
    for call in calls:
        if under_way >= pool.window:
            yield pool.next_answer()
            under_way -= 1
        pool.submit(call)
        under_way += 1
    for _ in range(under_way):
        yield pool.next_answer()
