"""Tiles that cannot be decoded: they stop an epoch, or others stand in for them up to a share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.errors import TileError
from wsi_pipeline.loader.epoch import Planned
from wsi_pipeline.loader.source import Problem


@dataclass(slots=True, kw_only=True)
class Skipping:
    """Counts what a worker leaves out of an epoch."""

    stops: bool
    """At the first one."""
    allowed: int
    """Tiles, by one worker."""
    skipped: int = 0

    def judge(self, number: int, tiles: int, problems: Sequence[Problem]) -> None:
        """Count what is wrong with a batch of so many tiles.

        Raises
        ------
        TileError
            It may not be left out, or nothing would be left of the batch.
        """
        if not problems:
            return
        if self.stops:
            raise problems[0][1]
        error = problems[-1][1]
        self.skipped += len(problems)
        if self.skipped > self.allowed:
            raise TileError(
                f"{self.skipped} tiles of this epoch cannot be decoded, most_skipped allows {self.allowed}; "
                f"the last: {error}"
            )
        if len(problems) == tiles:
            raise TileError(f"no tile of batch {number} can be decoded; the last: {error}")


def counted(planned: Planned, problems: Sequence[Problem]) -> NDArray[np.bool_]:
    """Return which tiles of a batch count, ``(batch,)``: not what fills it up, nor what has a problem."""
    counts = planned.is_tile.copy()
    counts[[place for place, _ in problems]] = False
    return counts


def stand_in(images: Any, problems: Sequence[Problem]) -> None:  # noqa: ANN401
    """Put a good image in place of each that could not be decoded; ``images`` is an array or a tensor."""
    bad = [place for place, _ in problems]
    if bad:
        good = next(place for place in range(len(images)) if place not in set(bad))
        images[bad] = images[good]
