"""CZI files byte by byte, as ZEN lays them out: mosaic tiles, scenes, gaps, pyramid, every compression.

pylibCZIrw's own writer knows neither JPEG XR nor pyramids, so files are made here and opened with it.
The layout is that of the structures in libCZI's CziStructs.h.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import WHITE, Box

CziCompression: TypeAlias = Literal["none", "jpegxr", "zstd0", "zstd1"]

_COMPRESSION_IDS = {"none": 0, "jpegxr": 4, "zstd0": 5, "zstd1": 6}
_PIXEL_TYPES = {  # by NumPy's type and the number of channels
    ("uint8", 1): 0,
    ("uint16", 1): 1,
    ("float32", 1): 2,
    ("uint8", 3): 3,
    ("uint16", 3): 4,
    ("float32", 3): 8,
}
_JPEGXR_BGR = bytes.fromhex("24c3dd6f034efe4bb1853d77768dc90c")
_JPEGXR_RGB = bytes.fromhex("24c3dd6f034efe4bb1853d77768dc90d")
_ALIGNED_BYTES = 32
_MULTI_SUBBLOCK = 2  # the entry's kind of pyramid, 0 at level 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subblock:
    """One stored tile of ``(height, width, 3)`` red first, or ``(height, width, 1)``."""

    x: int
    """Left edge in the file's own level-0 pixels, which may be negative."""
    y: int
    pixels: NDArray[Any]
    shrink: int = 1
    """Level-0 pixels per stored pixel, along each axis."""
    scene: int | None = 0
    m: int | None = None
    """The tile's place in the mosaic: a higher one lies on top. None in the pyramid."""
    dimensions: tuple[tuple[str, int], ...] = (("C", 0),)
    compression: CziCompression = "none"
    quality: float = 1.0
    """Of JPEG XR; 1 loses nothing."""

    @property
    def box(self) -> Box:
        """What it covers, in the file's level-0 pixels."""
        height, width = (side * self.shrink for side in self.pixels.shape[:2])
        return Box(x=self.x, y=self.y, width=width, height=height)


def write_czi(
    path: Path,
    rgb: NDArray[Any],
    *,
    mpp: tuple[float, float] | None,
    compression: CziCompression = "zstd1",
    layout: "Layout | None" = None,
) -> list[Subblock]:
    """Write a picture as a mosaic and return all tiles that were written."""
    tiles = list(mosaic(rgb, layout or Layout(), compression=compression))
    write_subblocks(path, tiles, xml=metadata_xml(mpp=mpp))
    return tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a picture is cut into stored tiles."""

    tile_px: int = 512
    overlap_px: int = 0
    scenes: tuple[Box, ...] = ()
    """Parts of the picture; all of it where there are none."""
    gaps: tuple[Box, ...] = ()
    """A tile whose top-left corner lies in a gap is left out."""
    origin: tuple[int, int] = (0, 0)
    """Where the picture's top-left corner lies in the file's pixels."""
    shrinks: tuple[int, ...] = ()
    """Levels of the pyramid."""


def mosaic(
    rgb: NDArray[Any], layout: Layout, *, compression: CziCompression = "none"
) -> Iterator[Subblock]:
    """Yield the tiles of every scene and of its pyramid, whose unscanned pixels are white."""
    scenes = layout.scenes or (Box(x=0, y=0, width=rgb.shape[1], height=rgb.shape[0]),)
    for scene, area in enumerate(scenes):
        scanned = np.full_like(rgb, WHITE)
        kept = [box for box in _cut(area, layout.tile_px, layout.overlap_px) if _kept(box, layout)]
        for m, box in enumerate(kept):
            pixels = rgb[box.y : box.y_end, box.x : box.x_end]
            scanned[box.y : box.y_end, box.x : box.x_end] = pixels
            x, y = box.x + layout.origin[0], box.y + layout.origin[1]
            yield Subblock(x=x, y=y, pixels=pixels, scene=scene, m=m, compression=compression)
        for shrink in layout.shrinks:
            for box in _cut(area, layout.tile_px * shrink, 0):
                pixels = _shrunk(scanned[box.y : box.y_end, box.x : box.x_end], shrink)
                yield Subblock(
                    x=box.x + layout.origin[0],
                    y=box.y + layout.origin[1],
                    pixels=pixels,
                    shrink=shrink,
                    scene=scene,
                    compression=compression,
                )


def _cut(area: Box, tile_px: int, overlap_px: int) -> Iterator[Box]:
    step_px = tile_px - overlap_px
    for y in range(area.y, max(area.y + 1, area.y_end - overlap_px), step_px):
        for x in range(area.x, max(area.x + 1, area.x_end - overlap_px), step_px):
            box = Box(x=x, y=y, width=tile_px, height=tile_px)
            yield box.intersection(area) or box


def _kept(box: Box, layout: Layout) -> bool:
    corner = Box(x=box.x, y=box.y, width=1, height=1)
    return not any(gap.contains(corner) for gap in layout.gaps)


def _shrunk(pixels: NDArray[Any], shrink: int) -> NDArray[Any]:
    """Return means over blocks; what is missing of the last blocks is white, as ZEN fills it."""
    down, right = -pixels.shape[0] % shrink, -pixels.shape[1] % shrink
    whole = cv2.copyMakeBorder(
        np.ascontiguousarray(pixels), 0, down, 0, right, cv2.BORDER_CONSTANT, value=[WHITE] * 3
    )
    size = whole.shape[1] // shrink, whole.shape[0] // shrink
    small: NDArray[Any] = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return small.reshape(*small.shape[:2], -1)


def metadata_xml(*, mpp: tuple[float, float] | None, name: str = "Axio Scan.Z1") -> str:
    """Return the part of ZEN's metadata that readers look at."""
    distances = "".join(
        f'<Distance Id="{axis}"><Value>{um * 1e-6!r}</Value></Distance>'
        for axis, um in zip("XY", mpp or (), strict=False)
    )
    return (
        '<?xml version="1.0"?><ImageDocument><Metadata><Information><Instrument>'
        f'<Microscopes><Microscope Id="Microscope:1" Name="{name}"/></Microscopes>'
        '<Objectives><Objective Id="Objective:1" Name="Plan-Apochromat 20x/0.8 M27">'
        "<NominalMagnification>20</NominalMagnification></Objective></Objectives>"
        "</Instrument></Information>"
        f"<Scaling><Items>{distances}</Items></Scaling></Metadata></ImageDocument>"
    )


def write_subblocks(path: Path, subblocks: Sequence[Subblock], *, xml: str) -> None:
    """Write the file: header, a segment for every tile, the directory of all, the metadata."""
    data = bytearray(_header(directory_at=0, metadata_at=0))
    entries = []
    for subblock in subblocks:
        entries.append(_entry(subblock, file_position=len(data)))
        data += _segment(b"ZISRAWSUBBLOCK", _subblock_data(subblock, entries[-1]))
    directory_at = len(data)
    data += _segment(
        b"ZISRAWDIRECTORY",
        struct.pack("<i", len(entries)).ljust(128, b"\0") + b"".join(entries),
    )
    metadata_at = len(data)
    text = xml.encode()
    data += _segment(b"ZISRAWMETADATA", struct.pack("<ii", len(text), 0).ljust(256, b"\0") + text)
    header = _header(directory_at=directory_at, metadata_at=metadata_at)
    data[: len(header)] = header
    path.write_bytes(data)


def _segment(name: bytes, data: bytes) -> bytes:
    allocated = -(-len(data) // _ALIGNED_BYTES) * _ALIGNED_BYTES
    return struct.pack("<16sqq", name, allocated, len(data)) + data.ljust(allocated, b"\0")


def _header(*, directory_at: int, metadata_at: int) -> bytes:
    version, guid = (1, 0, 0, 0), b"wsi-pipeline drn"
    data = struct.pack("<4i16s16siqqiq", *version, guid, guid, 0, directory_at, metadata_at, 0, 0)
    return _segment(b"ZISRAWFILE", data.ljust(512, b"\0"))


def _subblock_data(subblock: Subblock, entry: bytes) -> bytes:
    stored = encoded(subblock.pixels, subblock.compression, quality=subblock.quality)
    return (struct.pack("<iiq", 0, 0, len(stored)) + entry).ljust(256, b"\0") + stored


def _entry(subblock: Subblock, *, file_position: int) -> bytes:
    height, width, channels = subblock.pixels.shape
    pixel_type = _PIXEL_TYPES[subblock.pixels.dtype.name, channels]
    dimensions = [
        ("X", subblock.x, width * subblock.shrink, width),
        ("Y", subblock.y, height * subblock.shrink, height),
        *((name, start, 1, 1) for name, start in subblock.dimensions),
    ]
    if subblock.scene is not None:
        dimensions.append(("S", subblock.scene, 1, 1))
    if subblock.m is not None:
        dimensions.append(("M", subblock.m, 1, 1))
    return struct.pack(
        "<2siqiiB5xi",
        b"DV",
        pixel_type,
        file_position,
        0,
        _COMPRESSION_IDS[subblock.compression],
        _MULTI_SUBBLOCK if subblock.shrink > 1 else 0,
        len(dimensions),
    ) + b"".join(
        struct.pack("<4siifi", name.encode(), start, size, start, stored)
        for name, start, size, stored in dimensions
    )


def encoded(pixels: NDArray[Any], compression: CziCompression, *, quality: float = 1.0) -> bytes:
    """Return a tile's bytes as stored: blue first, losslessly compressed but for JPEG XR below 1."""
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    match compression:
        case "none":
            return bgr.tobytes()
        case "jpegxr":
            red_first = bytes(imagecodecs.jpegxr_encode(pixels.squeeze(), level=quality))
            return red_first.replace(_JPEGXR_RGB, _JPEGXR_BGR)
        case "zstd0":
            return bytes(imagecodecs.zstd_encode(bgr.tobytes(), level=1))
        case "zstd1":  # a header of one byte: its own length
            return b"\x01" + bytes(imagecodecs.zstd_encode(bgr.tobytes(), level=1))
