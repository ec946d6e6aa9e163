"""Slides without pixels: a file says its grid; reading, measuring and encoding a tile cost next to nothing.

Everything else of ``stages.cut`` runs as it is: plans, shards, records, tables, pictures. Worker processes
import this module.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from wsi_pipeline.calls import Answer, Call, Pool
from wsi_pipeline.config import TileConfig
from wsi_pipeline.geometry import Box, Boxes, Rgb, Size
from wsi_pipeline.schema import METRIC_COLUMNS
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, check_window, level_of
from wsi_pipeline.stages import cut
from wsi_pipeline.stages.units import SlideJob, UnitJob
from wsi_pipeline.tiles.window import Sampling

CONFIG = TileConfig(tissue="none", min_tissue=0.0)
FLAGS = ("--tissue", "none", "--min-tissue", "0")
"""The same for the command."""

_STRIDE_PX = 819
_DOWNSAMPLE = 32  # of the second level, from which the overview of 2000 px or more comes
_WHOLE = [column.name for column in METRIC_COLUMNS if column.name.rpartition("_q")[2].isdigit()]
_REAL = [column.name for column in METRIC_COLUMNS if column.name not in _WHOLE]
_TOPS = {"laplacian_var": 2000.0, "background": 1.0, "black_pixels": 1.0, "white_pixels": 1.0}


def make_slides(folder: Path, count: int, *, across: int, down: int) -> Path:
    """Make so many files, each of which says its grid of tiles, and return their folder."""
    folder.mkdir()
    for number in range(count):
        said = {"across": across, "down": down, "number": number}
        (folder / f"slide-{number:04d}.svs").write_text(json.dumps(said), encoding="utf-8")
    return folder


class StubReader:
    """A slide of two levels, the same everywhere."""

    def __init__(self, path: Path) -> None:
        """Take the file that says the grid."""
        said: dict[str, int] = json.loads(path.read_bytes())
        self.number = said["number"]
        size0 = Size(width=said["across"] * _STRIDE_PX, height=said["down"] * _STRIDE_PX)
        small = Size(width=size0.width // _DOWNSAMPLE, height=size0.height // _DOWNSAMPLE)
        self.info = SlideInfo(
            backend="stub",
            backend_reason="a benchmark's",
            format="stub",
            levels=(level_of(size0, size0), level_of(small, size0)),
            bounds0=Box(x=0, y=0, width=size0.width, height=size0.height),
            mpp_x=0.25,
            mpp_y=0.25,
            mpp_note="from the file",
        )

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return a piece of the second level, the only one that is asked for."""
        check_window(self.info, level, window_px)
        shown = _gradient(self.info.levels[level].size_px)
        rows = slice(window_px.y, window_px.y_end)
        return shown[rows, window_px.x : window_px.x_end].copy()

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows one by one."""
        return (self.read(level, window) for window in windows_px)

    def close(self) -> None:
        """Nothing is held."""


@cache
def _gradient(size_px: Size) -> Rgb:
    across = np.linspace(120, 240, size_px.width).astype(np.uint8)
    shown: Rgb = np.repeat(across[None, :, None], size_px.height, axis=0).repeat(3, axis=2)
    return shown


class StubbedPool:
    """Hands calls on to another pool with the pixel work taken out of them, and counts them."""

    def __init__(self, pool: Pool) -> None:
        """Take the pool that does the rest."""
        self._pool = pool
        self.begun = self.cut = self.finished = 0

    @property
    def window(self) -> int:
        """As the other pool's."""
        return self._pool.window

    def submit(self, call: Call) -> None:
        """Submit a call without its pixel work."""
        if call.function is cut.begin_slide:
            self.begun += 1
            call = replace(call, function=begin_slide)
        elif call.function is cut.cut_unit:
            self.cut += 1
            call = replace(call, function=cut_unit)
        else:
            self.finished += 1
        self._pool.submit(call)

    def next_answer(self) -> Answer:
        """Return the other pool's."""
        return self._pool.next_answer()

    def drop(self) -> None:
        """Drop what the other pool has under way."""
        self._pool.drop()


def begin_slide(job: SlideJob) -> cut.Begun:
    """Plan a slide as ``stages.cut`` does."""
    with patch.multiple(cut, **_INSTEAD):
        return cut.begin_slide(job)


def cut_unit(unit: UnitJob) -> cut.UnitDone:
    """Cut a unit as ``stages.cut`` does."""
    with patch.multiple(cut, **_INSTEAD):
        return cut.cut_unit(unit)


def _open(source: SlideSource, *, slide_mpp: float | None) -> StubReader:  # noqa: ARG001
    return StubReader(Path(source.path))


def _tiles(reader: StubReader, _sampling: Sampling, windows: Boxes) -> Iterator[dict[str, float]]:
    """Yield, in place of each tile, what its metrics will be: drawn evenly, the worst case for a table."""
    draw = np.random.default_rng([reader.number, *windows[0].tolist()])
    tops = np.array([_TOPS.get(name, 180.0) for name in _REAL])
    real = (draw.random((len(windows), len(_REAL))) * tops).tolist()
    whole = draw.integers(0, 180, (len(windows), len(_WHOLE))).tolist()
    for numbers in zip(real, whole, strict=True):
        yield dict(zip((*_REAL, *_WHOLE), (*numbers[0], *numbers[1]), strict=True))


def _metrics(tile: Mapping[str, float], **_settings: object) -> Mapping[str, float]:
    return tile


def _encoded(tile: Mapping[str, float], _codec: str) -> bytes:
    return str(tile["laplacian_var"]).encode()


_INSTEAD: dict[str, Any] = {
    "open_source": _open,
    "read_tiles": _tiles,
    "tile_metrics": _metrics,
    "encode_tile": _encoded,
}
