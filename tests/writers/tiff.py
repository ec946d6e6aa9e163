"""TIFF slides of several vendors, from pictures of their levels.

OpenSlide opens each under its vendor's name; a big-endian OME-TIFF it refuses, and of a little-endian
one it sees the finest level only. Sources: TIFF 6.0, https://openslide.org/formats/ (aperio,
generic-tiff, philips), OME-TIFF specification 6.3 (pyramids in SubIFDs).
"""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import tifffile

from tests.writers.codings import Coding
from tests.writers.tiff_pages import filled_up, state_subsampling, write_page
from wsi_pipeline.geometry import Rgb

Missing: TypeAlias = Sequence[Set[int]]
"""For each level, finest first, the tiles that are left out."""

MPP = 0.499
"""µm per pixel of every slide written here."""


def write_svs(path: Path, levels: Sequence[Rgb], *, coding: Coding, missing: Missing = ()) -> Path:
    """Write an Aperio slide: its finest level, a thumbnail in strips, then the other levels."""
    height, width = levels[0].shape[:2]
    tile_px = coding.tile_px
    about = (
        f"Aperio Image Library v12.0.15\r\n{width}x{height} ({tile_px.width}x{tile_px.height}) Q=80"
        f"|AppMag = 20|ScanScope ID = SS1234|MPP = {MPP:.4f}"
    )
    with tifffile.TiffWriter(path) as writer:
        for index, level in enumerate(levels):
            left_out = _at(missing, index)
            write_page(
                writer, level, coding, left_out, description=about, subfiletype=int(index > 0)
            )
            if index == 0:
                thumbnail = cv2.resize(level, (64, 48), interpolation=cv2.INTER_AREA)
                writer.write(
                    thumbnail, rowsperstrip=16, description=about, photometric="rgb", metadata=None
                )
    return state_subsampling(path, coding)


def write_generic(
    path: Path, levels: Sequence[Rgb], *, coding: Coding, missing: Missing = (), big: bool = False
) -> Path:
    """Write a pyramid without a vendor; ``big`` has 64-bit offsets."""
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for index, level in enumerate(levels):
            per_cm = 1e4 / (MPP * levels[0].shape[1] / level.shape[1])
            write_page(
                writer,
                level,
                coding,
                _at(missing, index),
                subfiletype=int(index > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    return state_subsampling(path, coding)


def write_qptiff(path: Path, levels: Sequence[Rgb], *, coding: Coding) -> Path:
    """Write an Akoya (PerkinElmer) QPTIFF of a brightfield scan, with its thumbnail in strips."""
    with tifffile.TiffWriter(path) as writer:
        for index, level in enumerate(levels):
            tags = _qptiff_tags("ReducedResolution" if index else "FullResolution")
            per_cm = 1e4 / (MPP * levels[0].shape[1] / level.shape[1])
            resolution: dict[str, Any] = {
                "resolution": (per_cm, per_cm),
                "resolutionunit": "CENTIMETER",
            }
            write_page(
                writer, level, coding, frozenset(), subfiletype=int(index > 0), **tags, **resolution
            )
            if index == 0:
                thumbnail = cv2.resize(level, (64, 48), interpolation=cv2.INTER_AREA)
                tags = _qptiff_tags("Thumbnail")
                writer.write(thumbnail, rowsperstrip=16, photometric="rgb", metadata=None, **tags)
    return state_subsampling(path, coding)


def _qptiff_tags(kind: str) -> dict[str, Any]:
    xml = (
        '<?xml version="1.0" encoding="utf-8"?><PerkinElmer-QPI-ImageDescription>'
        f"<ImageType>{kind}</ImageType></PerkinElmer-QPI-ImageDescription>"
    )
    return {"software": "PerkinElmer-QPI", "description": xml}


def write_philips(
    path: Path, levels: Sequence[Rgb], *, coding: Coding, missing: Missing = ()
) -> Path:
    """Write a Philips slide: levels filled up to whole tiles, true sizes only by the XML's spacings.

    The finest level counts as filled up too: what it is larger by repeats its last pixels.
    """
    xml = _philips_xml([round(levels[0].shape[1] / level.shape[1]) for level in levels])
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for index, level in enumerate(levels):
            tags: dict[str, Any] = {"subfiletype": int(index > 0), "software": "Philips DP v1.0"}
            if index == 0:
                tags["description"] = xml
            write_page(writer, filled_up(level, coding), coding, _at(missing, index), **tags)
    return state_subsampling(path, coding)


def write_ome(
    path: Path, levels: Sequence[Rgb], *, coding: Coding, byteorder: Literal["<", ">"]
) -> Path:
    """Write an OME-TIFF whose coarser levels are SubIFDs of the finest one."""
    height, width = levels[0].shape[:2]
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}"'
        f' SizeC="3" SizeZ="1" SizeT="1" Interleaved="true" PhysicalSizeX="{MPP}" PhysicalSizeY="{MPP}">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(path, byteorder=byteorder) as writer:
        for index, level in enumerate(levels):
            tags: dict[str, Any] = {"subfiletype": int(index > 0)}
            if index == 0:
                tags |= {"description": xml, "subifds": len(levels) - 1}
            write_page(writer, level, coding, frozenset(), **tags)
    return state_subsampling(path, coding)


def _at(missing: Missing, index: int) -> Set[int]:
    return missing[index] if index < len(missing) else frozenset()


def _philips_xml(shrinks: Sequence[int]) -> str:
    """Return Philips's description: pixel spacings of the levels, in millimetres and in quotes."""
    spacings = [f"&quot;{MPP * shrink / 1e3}&quot; " * 2 for shrink in shrinks]
    pixels = [_attribute("DICOM_PIXEL_SPACING", each.strip()) for each in spacings]
    picture = (
        _attribute("PIM_DP_IMAGE_TYPE", "WSI")
        + pixels[0]
        + _attribute(
            "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", _array("PixelDataRepresentation", *pixels)
        )
    )
    content = _attribute("DICOM_MANUFACTURER", "PHILIPS") + _attribute(
        "PIM_DP_SCANNED_IMAGES", _array("DPScannedImage", picture)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>'
        f'<DataObject ObjectType="DPUfsImport">{content}</DataObject>'
    )


def _attribute(name: str, value: str) -> str:
    return f'<Attribute Name="{name}" Group="0x301D" Element="0x1000" PMSVR="IString">{value}</Attribute>'


def _array(kind: str, *contents: str) -> str:
    objects = (f'<DataObject ObjectType="{kind}">{each}</DataObject>' for each in contents)
    return f"<Array>{''.join(objects)}</Array>"
