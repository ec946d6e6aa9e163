"""The least that cutting can cost: ``python -m tests.benchmarks.parts SLIDE`` prints CPU seconds as JSON.

Every stored tile of the slide decoded once, and gray, Laplacian and JPEG of every tile that is cut, by the
libraries themselves and on one thread; and, as "own", by this package's quicker ways of decoding and of the
Laplacian's variance. Timed on 500 stored tiles and 24 cut ones, different ones from all
over the slide, and multiplied; nothing is read from the disk or written while the clock runs.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import imagecodecs
import numpy as np
import tifffile
from pylibCZIrw import czi

from tests.benchmarks.subjects import SIZE, STRIDE, extents_path
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Boxes, Rgb
from wsi_pipeline.pixels import decode_jpeg
from wsi_pipeline.slides.jpeg_stream import WholeJpegs
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.tiles.metrics import laplacian_variance
from wsi_pipeline.tiles.read import read_tiles
from wsi_pipeline.tiles.window import sampling_at_level, windows_px

STORED, CUT = 500, 24
_WARM = 4  # not counted: the first calls load and set up
_Item = TypeVar("_Item")


def main(slide: Path) -> dict[str, float]:
    """Return seconds for the whole slide, by part."""
    cv2.setNumThreads(1)
    windows, tiles = _tiles(slide)
    grays = [cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY) for tile in tiles]
    count = len(windows)
    return {
        "tiles": count,
        "decode_s": _decode_s(slide, windows),
        "own_decode_s": _decode_s(slide, windows, own=True),
        "own_laplacian_s": count * _mean_s(laplacian_variance, grays),
        "gray_s": count * _mean_s(lambda tile: cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), tiles),
        "laplacian_s": count
        * _mean_s(lambda gray: cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S)), grays),
        "encode_s": count
        * _mean_s(lambda tile: imagecodecs.jpeg8_encode(tile, level=90, subsampling="420"), tiles),
    }


def _decode_s(slide: Path, windows: Boxes, *, own: bool = False) -> float:
    """Return seconds for decoding every stored tile once; of a CZI, reading every cut tile alone.

    ``own`` takes this package's decoder of JPEG, which is quicker.
    """
    if slide.suffix == ".czi":
        return _czi_s(slide, windows)
    if slide.suffix == ".mrxs":
        data = slide.with_suffix("") / "Data0000.dat"
        decode = decode_jpeg if own else imagecodecs.jpeg8_decode
        return _all_s(decode, data, np.load(extents_path(slide)).tolist())
    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages.first
        extents = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        tables = page.jpegtables
    if page.compression == tifffile.COMPRESSION.JPEG and own:
        ycbcr = page.photometric == tifffile.PHOTOMETRIC.YCBCR
        jpegs = WholeJpegs(tables, ycbcr=ycbcr)
        return _all_s(lambda data: decode_jpeg(jpegs.of(data)), slide, extents)
    if page.compression == tifffile.COMPRESSION.JPEG:
        return _all_s(lambda data: imagecodecs.jpeg8_decode(data, tables=tables), slide, extents)
    return _all_s(lambda data: imagecodecs.jpeg2k_decode(data, numthreads=1), slide, extents)


def _all_s(
    decode: Callable[[bytes], object], file: Path, extents: Sequence[tuple[int, int]]
) -> float:
    stored = []
    with file.open("rb") as handle:
        for offset, count in _spread(extents, STORED):
            handle.seek(offset)
            stored.append(handle.read(count))
    return len(extents) * _mean_s(decode, stored)


def _czi_s(slide: Path, windows: Boxes) -> float:
    with czi.open_czi(str(slide)) as opened:
        left, top, *_ = opened.total_bounding_rectangle
        rois = [(left + x, top + y, w, h) for x, y, w, h in windows.tolist()]
        read = _mean_s(lambda roi: opened.read(roi=roi), _spread(rois, 2 * CUT))
    return len(rois) * read


def _tiles(slide: Path) -> tuple[Boxes, list[Rgb]]:
    """Return where all tiles lie, and the pixels of some that lie inside."""
    reader = open_slide(slide)
    sampling = sampling_at_level(reader.info, level=0, tile_size=SIZE, stride=STRIDE)
    inside = windows_px(reader.info, sampling, edge="drop")
    found = []
    for index in _spread(range(len(inside)), CUT):
        tile = next(read_tiles(reader, sampling, inside[index : index + 1]))
        if isinstance(tile, TileError):
            raise tile
        found.append(tile)
    windows = windows_px(reader.info, sampling, edge="pad")
    reader.close()
    return windows, found


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Return so many of the items, or all of fewer, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[place] for place in places.tolist()]


def _mean_s(step: Callable[[_Item], object], items: Iterable[_Item]) -> float:
    """Return a step's processor time, the mean over different items."""
    items = list(items)
    for item in items[:_WARM]:
        step(item)
    start = time.process_time()
    for item in items:
        step(item)
    return (time.process_time() - start) / len(items)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201
