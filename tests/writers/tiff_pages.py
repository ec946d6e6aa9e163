"""Pages of a TIFF whose tiles were encoded before: what the writers of all vendors share."""

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from tests.writers.codings import Coding
from wsi_pipeline.geometry import Rgb


def write_page(
    writer: tifffile.TiffWriter,
    level: NDArray[np.uint8],
    coding: Coding,
    missing: Set[int],
    **tags: object,
) -> None:
    """Write one level as a page of tiles; those that are missing have a byte count of 0."""
    arguments: dict[str, Any] = tags
    if coding.photometric != "minisblack":
        arguments["compressionargs"] = {"outcolorspace": coding.photometric}  # else YCbCr for RGB
    if coding.subsampling is not None:
        arguments["subsampling"] = (1, 1)  # the true one by state_subsampling
    writer.write(
        _tiles(level, coding, missing),
        shape=level.shape,
        dtype=np.uint8,
        tile=(coding.tile_px.height, coding.tile_px.width),
        compression=coding.compression,
        predictor=2 if coding.predictor else None,
        photometric=coding.photometric,
        jpegtables=coding.tables,
        metadata=None,
        **arguments,
    )


def state_subsampling(path: Path, coding: Coding) -> Path:
    """Put the true YCbCrSubSampling into every page, which tifffile refuses for 4:4:0."""
    if coding.subsampling is None:
        return path
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            for each in (page, *(page.pages or ())):
                if "YCbCrSubSampling" in each.tags:
                    each.tags["YCbCrSubSampling"].overwrite(coding.subsampling)
    return path


def filled_up(level: Rgb, coding: Coding) -> Rgb:
    """Return a level whose sides are whole tiles; its last pixels are repeated, as encoders do."""
    bottom, right = -level.shape[0] % coding.tile_px.height, -level.shape[1] % coding.tile_px.width
    return np.asarray(cv2.copyMakeBorder(level, 0, bottom, 0, right, cv2.BORDER_REPLICATE))


def _tiles(level: NDArray[np.uint8], coding: Coding, missing: Set[int]) -> Iterator[bytes]:
    whole = filled_up(level, coding)
    height, width = coding.tile_px.height, coding.tile_px.width
    across = whole.shape[1] // width
    for index in range(across * (whole.shape[0] // height)):
        y, x = index // across * height, index % across * width
        tile = np.ascontiguousarray(whole[y : y + height, x : x + width])
        yield b"" if index in missing else coding.encode(tile)
