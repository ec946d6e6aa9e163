"""Ventana BIF: a TIFF whose tiles are photos that overlap; an XML says by how much.

The first page is the label with the scanner's XML (iScan). Photos are numbered from the bottom left in
a serpentine; each joint of two neighbours states its overlap. Coarser levels shrink the stored photos
side by side, overlaps included. Source: https://openslide.org/formats/ventana/.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from tests.writers.codings import Coding
from tests.writers.tiff_pages import state_subsampling, write_page
from wsi_pipeline.geometry import WHITE, Rgb

MPP = 0.25
_XML_PACKET, _BYTE = 700, 1  # a TIFF tag, and the type of its values


def write_bif(
    path: Path, rgb: Rgb, *, coding: Coding, overlap_px: int = 0, levels: int = 2
) -> Path:
    """Write a slide of the pixels of ``rgb``; what the last photos see past them is white."""
    width, height = coding.tile_px.width, coding.tile_px.height
    columns = -(-(rgb.shape[1] - overlap_px) // (width - overlap_px))
    rows = -(-(rgb.shape[0] - overlap_px) // (height - overlap_px))
    stored = np.full((rows * height, columns * width, 3), WHITE, np.uint8)
    for row, column in product(range(rows), range(columns)):
        y0, x0 = row * (height - overlap_px), column * (width - overlap_px)
        photo = rgb[y0 : y0 + height, x0 : x0 + width]
        y, x = row * height, column * width
        stored[y : y + photo.shape[0], x : x + photo.shape[1]] = photo
    joints = "".join(_joints(rows, columns, overlap_px))
    stitching = _stitching(
        f'NumRows="{rows}" NumCols="{columns}" Width="{width}" Height="{height}"', joints
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        _write_label(writer)
        for index in range(levels):
            size = (stored.shape[1] >> index, stored.shape[0] >> index)
            level = np.asarray(cv2.resize(stored, size, interpolation=cv2.INTER_AREA))
            tags: dict[str, Any] = {
                "description": f"level={index} mag={40 / 2**index:g} quality=90"
            }
            if index == 0:
                tags["extratags"] = [_packet(stitching)]
            write_page(writer, level, coding, frozenset(), **tags)
    return state_subsampling(path, coding)


def _write_label(writer: tifffile.TiffWriter) -> None:
    scanner = (
        f'<iScan Magnification="40" ScanRes="{MPP}" Z-layers="1" ScannerModel="VENTANA DP 200"/>'
    )
    writer.write(
        np.full((64, 64, 3), WHITE, np.uint8),
        photometric="rgb",
        description="Label_Image",
        extratags=[_packet(scanner)],
        metadata=None,
    )


def _packet(xml: str) -> tuple[int, int, int, bytes, bool]:
    data = xml.encode()
    return _XML_PACKET, _BYTE, len(data), data, True


def _stitching(size: str, joints: str) -> str:
    return (
        '<EncodeInfo Ver="2"><SlideStitchInfo>'
        f'<ImageInfo AOIScanned="1" AOIIndex="0" {size} Pos-X="0" Pos-Y="0">{joints}</ImageInfo>'
        '</SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )


def _joints(rows: int, columns: int, overlap_px: int) -> Iterator[str]:
    """Yield every pair of neighbours; the rows count from the bottom, every second from the right."""

    def number(row: int, column: int) -> int:
        from_bottom = rows - 1 - row
        return 1 + from_bottom * columns + (columns - 1 - column if from_bottom % 2 else column)

    for row, column in product(range(rows), range(columns)):
        here = number(row, column)
        if column + 1 < columns:
            yield _joint("RIGHT", here, number(row, column + 1), overlap_x=overlap_px)
        if row:
            yield _joint("UP", here, number(row - 1, column), overlap_y=overlap_px)


def _joint(
    direction: str, first: int, second: int, *, overlap_x: int = 0, overlap_y: int = 0
) -> str:
    return (
        f'<TileJointInfo FlagJoined="1" Confidence="100" Direction="{direction}" Tile1="{first}"'
        f' Tile2="{second}" OverlapX="{overlap_x}" OverlapY="{overlap_y}"/>'
    )
