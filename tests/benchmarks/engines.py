"""One way of reading: ``python -m tests.benchmarks.engines ENGINE SLIDE TILES`` prints figures as JSON.

Tiles are read row by row from the top, whole rows of those that lie inside the slide, at least so many.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import openslide
from pylibCZIrw import czi

from tests.benchmarks.subjects import SIZE, STRIDE
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Boxes, Rgb
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.tiles.read import read_tiles
from wsi_pipeline.tiles.window import sampling_at_level, windows_px

Engine: TypeAlias = Callable[[Path, Boxes], Iterator[Rgb]]


def by_openslide(slide: Path, windows: Boxes) -> Iterator[Rgb]:
    """Yield tiles of OpenSlide, one ``read_region`` each."""
    with openslide.OpenSlide(slide) as opened:
        for x, y, *size in windows.tolist():
            yield np.asarray(opened.read_region((x, y), 0, tuple(size)).convert("RGB"))


def in_bands(slide: Path, windows: Boxes) -> Iterator[Rgb]:
    """Yield tiles of this package's fallback: OpenSlide, neighbours read together."""
    yield from _read(OpenSlideReader(slide, reason="benchmark"), windows)


def by_this_package(slide: Path, windows: Boxes) -> Iterator[Rgb]:
    """Yield tiles as this package reads the file."""
    yield from _read(open_slide(slide), windows)


def by_pylibczirw(slide: Path, windows: Boxes) -> Iterator[Rgb]:
    """Yield tiles of pylibCZIrw, read one by one."""
    with czi.open_czi(str(slide)) as opened:
        left, top, *_ = opened.total_bounding_rectangle
        for x, y, width, height in windows.tolist():
            bgr = opened.read(roi=(left + x, top + y, width, height), background_pixel=(1, 1, 1))
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


ENGINES: Mapping[str, Engine] = {
    "openslide": by_openslide,
    "bands": in_bands,
    "ours": by_this_package,
    "pylibczirw": by_pylibczirw,
}


def main(engine: str, slide: Path, least: int) -> dict[str, float]:
    """Return CPU milliseconds per tile, opening included, how many tiles, and their mean grey level."""
    cv2.setNumThreads(1)
    windows = first_rows(slide, least)
    start = time.process_time()
    levels = [int(tile[::64, ::64].sum()) for tile in ENGINES[engine](slide, windows)]
    taken = time.process_time() - start
    return {
        "cpu_ms": 1e3 * taken / len(windows),
        "tiles": len(windows),
        "mean": sum(levels) / (3 * 16 * 16 * len(windows)),
    }


def first_rows(slide: Path, least: int) -> Boxes:
    """Return the windows of whole rows of tiles, at least so many, or all."""
    reader = open_slide(slide)
    sampling = sampling_at_level(reader.info, level=0, tile_size=SIZE, stride=STRIDE)
    windows = windows_px(reader.info, sampling, edge="drop")
    reader.close()
    last = windows[min(least, len(windows)) - 1]
    rows: Boxes = windows[windows[:, 1] <= last[1]]
    return rows


def _read(reader: SlideReader, windows: Boxes) -> Iterator[Rgb]:
    sampling = sampling_at_level(reader.info, level=0, tile_size=SIZE, stride=STRIDE)
    for tile in read_tiles(reader, sampling, windows):
        if isinstance(tile, TileError):
            raise tile
        yield tile
    reader.close()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
