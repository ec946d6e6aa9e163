"""Slides and ranges of their tiles as jobs: what is sent to workers, and how a slide is divided."""

import math
from dataclasses import dataclass

from wsi_pipeline.config import TileConfig
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.stages.lease import Holder
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.store.layout import SHARD_TILES

UNIT_TILES = 4 * SHARD_TILES
"""A slide of at most so many tiles is one work unit: 256 of 1024 px are about 2 s of one core and 42 MB."""

_MOST_UNIT_TILES = 32 * SHARD_TILES
_UNIT_ROWS = 8
"""A unit is as many rows of a square slide, for the overlap of two units is decoded in both."""

_TAIL = 3
"""A unit takes at most this part of what is left of its slide, so that workers end together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideJob:
    """One slide to be cut into one run."""

    source: SlideSource
    run: RunDirectory
    config: TileConfig
    redo: bool = False
    """Begin anew, whatever an earlier attempt has left."""
    attempt: str = ""
    """The same in all copies of a call, another one with the next command."""
    before: int | None = None
    """The result that a redo is to replace, as ``stages.attempt.mark_of`` its record tells."""
    holder: Holder | None = None
    """The command that has it cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitJob:
    """A range of one slide's tiles: whole shards."""

    slide: SlideJob
    first: int
    end: int


def units_of(job: SlideJob, tiles: int) -> list[UnitJob]:
    """Return the units of a slide, whole shards, smaller towards its end: a function of its tiles alone.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987).
    """
    if tiles <= UNIT_TILES:
        return [UnitJob(slide=job, first=0, end=tiles)] if tiles else []
    rows = _UNIT_ROWS * math.isqrt(tiles)
    most = min(max(UNIT_TILES, rows), _MOST_UNIT_TILES) // SHARD_TILES
    units: list[UnitJob] = []
    first = 0
    while first < tiles:
        shards = min(most, math.ceil((tiles - first) / (_TAIL * SHARD_TILES)))
        end = min(tiles, first + shards * SHARD_TILES)
        units.append(UnitJob(slide=job, first=first, end=end))
        first = end
    return units
