"""Stopping when asked to, between two steps; and when validation gets no better."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Asked:
    """Whether SIGINT or SIGTERM has come; a second one is not waited with."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """Keep SIGINT and SIGTERM until this is left, then let what would have happened happen.

    A step is not broken off in the middle, where half of the weights are new. Only the main thread gets
    signals; elsewhere nothing is kept.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def keep(number: int, _frame: FrameType | None) -> None:
        asked.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in _SIGNALS:
        signal.signal(number, keep)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked.signal is not None:
        signal.raise_signal(asked.signal)


@dataclass(slots=True, kw_only=True)
class Best:
    """The lowest validation loss so far, and how long ago it was."""

    patience: int | None
    loss: float = float("inf")
    epoch: int = -1
    """Its number, from 0; -1 before the first."""

    def improves(self, loss: float, epoch: int) -> bool:
        """Whether this epoch is better than all before; it is remembered if so."""
        if not loss < self.loss:
            return False
        self.loss, self.epoch = loss, epoch
        return True

    def is_over(self, epoch: int) -> bool:
        """Whether nothing has become better for as many epochs as are waited.

        >>> best = Best(patience=2)
        >>> [(best.improves(loss, epoch), best.is_over(epoch)) for epoch, loss in enumerate([3, 2, 2, 4])]
        [(True, False), (True, False), (False, False), (False, True)]
        """
        return self.patience is not None and epoch - self.epoch >= self.patience
