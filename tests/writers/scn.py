"""Leica SCN: a BigTIFF with one pyramid per scanned area, which lies somewhere on a large empty slide.

The XML in the first page gives places and sizes in nanometres, and which page is which level.
Source: https://openslide.org/formats/leica/.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import tifffile

from tests.writers.codings import Coding
from tests.writers.tiff_pages import state_subsampling, write_page
from wsi_pipeline.geometry import Box, Rgb, Size

NM = 500
"""Nanometres per pixel."""

_MACRO_NM = 16_000


def write_scn(
    path: Path, levels: Sequence[Rgb], *, coding: Coding, slide_px: Size, at: Box
) -> Path:
    """Write a slide of ``slide_px`` whose scanned area is ``at``, as large as the first level."""
    macro_px = (slide_px.width * NM // _MACRO_NM, slide_px.height * NM // _MACRO_NM)
    macro = cv2.resize(levels[0], macro_px, interpolation=cv2.INTER_AREA)
    sizes = [(level.shape[1], level.shape[0]) for level in levels]
    whole_nm = (slide_px.width * NM, slide_px.height * NM)
    images = _image([macro_px], 0, (*whole_nm, 0, 0)) + _image(
        sizes, 1, (at.width * NM, at.height * NM, at.x * NM, at.y * NM)
    )
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" sizeX="{whole_nm[0]}" sizeY="{whole_nm[1]}">'
        f"<barcode>MQ==</barcode>{images}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        write_page(writer, macro, coding, frozenset(), description=xml)
        for index, level in enumerate(levels):
            per_cm = 1e7 / NM * level.shape[1] / levels[0].shape[1]
            write_page(
                writer,
                level,
                coding,
                frozenset(),
                subfiletype=int(index > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    return state_subsampling(path, coding)


def _image(sizes: Sequence[tuple[int, int]], page: int, view_nm: tuple[int, int, int, int]) -> str:
    width, height = sizes[0]
    levels = "".join(
        f'<dimension sizeX="{size[0]}" sizeY="{size[1]}" r="{level}" ifd="{page + level}"/>'
        for level, size in enumerate(sizes)
    )
    return (
        '<image name="i" uuid="u"><creationDate>2026-01-01T00:00:00.0Z</creationDate>'
        '<device model="Leica SCN400" version="1"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{levels}</pixels>'
        '<view sizeX="{}" sizeY="{}" offsetX="{}" offsetY="{}" spacingZ="0"/>'.format(*view_nm)
        + "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
    )
