"""Who looks on while a network is asked."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

SlidesTold: TypeAlias = Callable[[int, int], None]
"""Is told how many slides of how many are done."""


class AskObserver(Protocol):
    """Told how far the asking is, by the first rank of several, of its own share."""

    def on_begin(self, models: Sequence[str], tiles: int, *, there: int, asked: str = "") -> None:
        """Take note of a pass: which models are asked, of how many tiles, and how many were answered before.

        Parameters
        ----------
        tiles
            That this process answers, those of an earlier one not among them.
        there
            Of all processes, answered by an earlier command.
        asked
            Which tiles, and how, in words.
        """
        ...

    def on_tiles(self, count: int) -> None:
        """Take note of tiles that were answered, by every model that lacked them."""
        ...


class SilentAskObserver:
    """Does nothing."""

    def on_begin(self, models: Sequence[str], tiles: int, *, there: int, asked: str = "") -> None:
        """Do nothing."""

    def on_tiles(self, count: int) -> None:
        """Do nothing."""
