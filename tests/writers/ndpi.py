"""Hamamatsu NDPI: a TIFF whose every level is a single JPEG, as large as the level.

Scanners put restart markers into it, at which OpenSlide begins to decode; here there are none, so that
OpenSlide decodes a whole level at once. Source: https://openslide.org/formats/hamamatsu/ (NDPI).
"""

from collections.abc import Sequence
from pathlib import Path

import tifffile

from tests.writers.jpeg import encoded
from wsi_pipeline.geometry import Rgb

MPP = 0.5
_FORMAT_FLAG, _SOURCE_LENS, _X_OFFSET, _Y_OFFSET, _FOCAL_PLANE = 65420, 65421, 65422, 65423, 65424
_LONG, _SLONG, _FLOAT = 4, 9, 11  # types of a tag's values


def write_ndpi(path: Path, levels: Sequence[Rgb]) -> Path:
    """Write a slide of JPEGs of Y, Cb, Cr."""
    with tifffile.TiffWriter(path, byteorder="<") as writer:
        for level in levels:
            shrink = levels[0].shape[1] / level.shape[1]
            per_cm = 1e4 / (MPP * shrink)
            data = encoded(level, colours="ycbcr", subsampling="422", quality=85, marks="jfif")
            writer.write(
                iter([data]),
                shape=level.shape,
                dtype="u1",
                rowsperstrip=level.shape[0],
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 1),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                extratags=[
                    (271, "s", 0, "Hamamatsu", True),
                    (272, "s", 0, "C13210", True),
                    (_FORMAT_FLAG, _LONG, 1, 1, True),
                    (_SOURCE_LENS, _FLOAT, 1, 20 / shrink, True),
                    (_X_OFFSET, _SLONG, 1, 0, True),
                    (_Y_OFFSET, _SLONG, 1, 0, True),
                    (_FOCAL_PLANE, _SLONG, 1, 0, True),
                ],
            )
    return path
