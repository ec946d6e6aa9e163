"""Tiles of runs that store no pixels: cut again from the slides, the same windows as then."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError, SlideError, TileError
from wsi_pipeline.geometry import Boxes, Rgb
from wsi_pipeline.loader.decode import Decoding, image_into
from wsi_pipeline.loader.rows import Rows
from wsi_pipeline.loader.shards import Bounded
from wsi_pipeline.loader.source import Problem, RowNumbers
from wsi_pipeline.remote import is_url, seekable
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.open import MPP_FROM_TABLE, open_source
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.tiles.read import read_tiles
from wsi_pipeline.tiles.window import Sampling, all_windows_px, footprints0, sampling_of

OPEN_SLIDES = 64
"""Readers kept open that nobody is using."""

PART_TILES = 16
"""Tiles of one slide that one thread reads at a time: what neighbours share is decoded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The windows of a slide by the left upper corner of their footprint."""

    sampling: Sampling
    boxes: Boxes = field(repr=False)
    number: dict[tuple[int, int], int] = field(repr=False)


class SlideTiles:
    """Tiles read from slides that are on a local disk."""

    def __init__(self, rows: Rows, decoding: Decoding) -> None:
        if decoding.shrink > 1:
            raise ConfigError(
                "shrink: expected stored JPEG tiles, got a run with --store none; leave it at 1"
            )
        self._rows = rows
        self._slides = _Slides(rows)
        self._windows: Bounded[int, _Windows] = Bounded(self._slides.windows, most=OPEN_SLIDES)
        self.tile_size = self._slides.tile_size

    def parts(self, rows: RowNumbers) -> list[RowNumbers]:
        """Return places slide by slide, in order of number."""
        in_order = np.lexsort((self._rows.tile[rows], self._rows.array[rows]))
        arrays = self._rows.array[rows][in_order]
        slides = np.split(in_order, np.flatnonzero(np.diff(arrays)) + 1)
        return [part for of_slide in slides for part in _pieces(of_slide, PART_TILES)]

    def fetch(self, rows: RowNumbers) -> list[Any]:
        """Return nothing: reading and decoding are one here."""
        return [None] * len(rows)

    def decode(self, rows: RowNumbers, fetched: list[Any], out: Sequence[Rgb]) -> list[Problem]:
        """Fill images from their slide, which all rows have in common."""
        del fetched
        array = int(self._rows.array[rows[0]])
        try:
            windows = self._windows(array)
            wanted = windows.boxes[[self._number(windows, row) for row in rows.tolist()]]
            with self._slides.lent(array) as reader:
                tiles = list(read_tiles(reader, windows.sampling, wanted))
        except (SlideError, OSError) as error:
            tiles = [TileError(str(error))] * len(rows)
        problems: list[Problem] = []
        for place, (tile, image) in enumerate(zip(tiles, out, strict=True)):
            if isinstance(tile, TileError):
                where = f"{self._rows.name(int(rows[place]))}, in {self._slides.source(array).path}"
                problems.append((place, TileError(f"{where}: {tile}")))
            else:
                image_into(image, tile)
        return problems

    def _number(self, windows: _Windows, row: int) -> int:
        x, y = (int(self._rows.columns[name].values[row]) for name in ("x", "y"))
        try:
            return windows.number[x, y]
        except KeyError:
            raise SlideError(
                f"its settings give no tile at {x}, {y}; is the slide another one than then?"
            ) from None


class _Slides:
    """The slides of runs; apart from what keeps their windows, so that nothing holds itself."""

    def __init__(self, rows: Rows) -> None:
        self._arrays = rows.arrays
        self._configs = [make_config(TileConfig, run.config) for run in rows.runs]
        self._sources = [_sources(rows, run) for run in range(len(rows.runs))]
        self._readers = _Readers()
        sizes = {config.tile_size for config in self._configs}
        if len(sizes) > 1:
            raise ConfigError(
                f"runs: expected tiles of one size, got {sorted(sizes)} px; load them apart"
            )
        self.tile_size = sizes.pop()

    def source(self, array: int) -> SlideSource:
        """Return the slide of an array."""
        run, slide_id = self._arrays[array]
        return self._sources[run][slide_id]

    @contextmanager
    def lent(self, array: int) -> Iterator[SlideReader]:
        """Give a reader for one thread; one that failed is not used again."""
        reader = self._readers.take(array) or self._opened(array)
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        self._readers.give(array, reader)

    def _opened(self, array: int) -> SlideReader:
        run, _ = self._arrays[array]
        return open_source(self.source(array), slide_mpp=self._configs[run].slide_mpp)

    def windows(self, array: int) -> _Windows:
        """Return every window that the run's settings give of a slide."""
        run, slide_id = self._arrays[array]
        config = self._configs[run]
        with self.lent(array) as reader:
            sampling = sampling_of(reader.info, config, slide=slide_id)
            boxes = all_windows_px(reader.info, sampling, config)
            corners = footprints0(reader.info, sampling.level, boxes)[:, :2].tolist()
        number = {(x, y): place for place, (x, y) in enumerate(corners)}
        return _Windows(sampling=sampling, boxes=boxes, number=number)


class _Readers:
    """Open slides that nobody is using; those given back longest ago are closed."""

    def __init__(self) -> None:
        self._idle: OrderedDict[tuple[int, int], SlideReader] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, array: int) -> SlideReader | None:
        with self._lock:
            for key in self._idle:
                if key[0] == array:
                    return self._idle.pop(key)
        return None

    def give(self, array: int, reader: SlideReader) -> None:
        with self._lock:
            self._idle[array, id(reader)] = reader
            old = self._idle.popitem(last=False)[1] if len(self._idle) > OPEN_SLIDES else None
        if old is not None:
            old.close()

    def __del__(self) -> None:
        for reader in self._idle.values():
            with suppress(Exception):
                reader.close()


def _pieces(places: RowNumbers, length: int) -> list[RowNumbers]:
    return np.array_split(places, range(length, len(places), length))


def _sources(rows: Rows, number: int) -> dict[str, SlideSource]:
    """Return the slides of a run as slides.parquet names them.

    Raises
    ------
    ConfigError
        The table cannot be read, or slides are remote.
    """
    run = rows.runs[number]
    path = run.path / "slides.parquet"
    try:
        table = pq.read_table(seekable(path), columns=["slide_id", "path", "mpp_x", "mpp_note"])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); run tile again") from error
    slides = {}
    for row in table.to_pylist():
        stated = row["mpp_x"] if row["mpp_note"] == MPP_FROM_TABLE else None
        slides[row["slide_id"]] = SlideSource(
            slide_id=row["slide_id"], path=row["path"], mpp=stated
        )
    used = {slide_id for at, slide_id in rows.arrays if at == number}
    if remote := sorted(name for name in used if is_url(slides[name].path)):
        raise ConfigError(
            f"{run.path}: stores no pixels and {remote[0]} is remote; cut it with --store zarr, or copy "
            "the slides to a disk and cut there"
        )
    return slides
