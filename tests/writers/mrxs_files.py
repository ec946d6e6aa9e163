"""The files of an MRXS folder: Slidedat.ini, Index.dat and Data0000.dat, Data0001.dat, …."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

ImageFormat: TypeAlias = Literal["JPEG", "PNG", "BMP24"]
"""PNG and BMP lose nothing; scanners write JPEG."""

PositionRecord: TypeAlias = Literal[
    "VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer", "nothing"
]
"""Where photos lie is written plainly, or deflated, or not at all: they lie as planned."""

Place: TypeAlias = tuple[int, int]
"""Column and row: of a photo, or of an image at level 0."""

Extent: TypeAlias = tuple[int, int, int]
"""Offset and length in a file of images, and the file's number."""

Places: TypeAlias = dict[tuple[int, Place], Extent]
"""Where an image lies, by zoom level and place at level 0."""

MPP = 0.25
_SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
_VERSION = b"01.02"
_WHITE_BGR = 0x00FFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What Slidedat.ini says."""

    images_across: int
    images_down: int
    images_per_photo: int
    """Along one side."""
    image_px: int
    overlap_px: int
    """Of neighbouring photos at level 0."""
    zoom_levels: int
    image_format: ImageFormat
    positions: PositionRecord = "VIMSLIDE_POSITION_BUFFER"
    data_files: int = 1
    """Files that images are dealt out to, one after the other."""
    image_height_px: int | None = None
    """None where images are squares."""
    page_items: int | None = None
    """Most images on a page of the index; None: all of a level on one."""


def data_files(
    levels: Sequence[Mapping[Place, bytes]], positions: bytes, count: int
) -> tuple[list[bytes], Places, Extent]:
    """Return the files of images, where each level's images lie in them, and where the positions."""
    files = [bytearray(_VERSION + _SLIDE_ID.encode() + bytes(27)) for _ in range(count)]
    places: Places = {}
    for zoom, images in enumerate(levels):
        for place, content in images.items():
            number = len(places) % count
            places[zoom, place] = (len(files[number]), len(content), number)
            files[number] += content
    extent = (len(files[0]), len(positions), 0)
    files[0] += positions
    return [bytes(data) for data in files], places, extent


def index_file(places: Places, positions: Extent, layout: Layout) -> bytes:
    """Return Index.dat: two roots, each a table of records, each a list of pages.

    Images are numbered row by row as at level 0.
    """
    count = layout.zoom_levels + 1
    table_at = len(_VERSION) + len(_SLIDE_ID) + 8  # after the two roots
    records_at = table_at + 4 * count
    pages, begins = b"", []
    for zoom in range(layout.zoom_levels):
        begins.append(records_at + 8 * count + len(pages))
        items = [
            (row * layout.images_across + column, *extent)
            for (level, (column, row)), extent in places.items()
            if level == zoom
        ]
        pages += _list_of_pages(items, layout.page_items or max(1, len(items)), at=begins[-1])
    begins.append(records_at + 8 * count + len(pages))
    pages += _int32s([1, 0, 0, 0, *positions])  # the only one that is not hierarchical
    roots = _int32s([table_at, table_at + 4 * layout.zoom_levels])
    table = _int32s(records_at + 8 * number for number in range(count))
    records = _int32s(each for begin in begins for each in (0, begin))
    return b"".join([_VERSION, _SLIDE_ID.encode(), roots, table, records, pages])


def _list_of_pages(items: Sequence[tuple[int, ...]], most: int, *, at: int) -> bytes:
    """Return pages that each say where the next one is; the first one is empty, as scanners write it."""
    parts = [(), *(items[first : first + most] for first in range(0, len(items), most))]
    pages = b""
    for number, part in enumerate(parts):
        page_bytes = 8 + 16 * len(part)
        following = at + len(pages) + page_bytes if number + 1 < len(parts) else 0
        pages += _int32s([len(part), following, *(each for item in part for each in item)])
    return pages


def positions_buffer(corners0: Iterable[Place], record: PositionRecord) -> bytes:
    """Return where photos lie: a flag, x and y of each photo, row by row."""
    plain = b"".join(struct.pack("<Bii", 0, x0, y0) for x0, y0 in corners0)
    return zlib.compress(plain) if record == "StitchingIntensityLayer" else plain


def data_name(number: int) -> str:
    """Return the name of a file of images."""
    return f"Data{number:04}.dat"


def slidedat(layout: Layout) -> str:
    """Return Slidedat.ini."""
    hierarchical: dict[str, object] = {
        "HIER_COUNT": 1,
        "NONHIER_COUNT": 1,
        "INDEXFILE": "Index.dat",
        "HIER_0_NAME": "Slide zoom level",
        "HIER_0_COUNT": layout.zoom_levels,
        "NONHIER_0_NAME": layout.positions,
        "NONHIER_0_COUNT": 1,
        "NONHIER_0_VAL_0": "default",
        "NONHIER_0_VAL_0_SECTION": "NONHIERLAYER_0_LEVEL_0_SECTION",
    }
    sections: dict[str, Mapping[str, object]] = {
        "GENERAL": {
            "SLIDE_VERSION": "02.03",
            "SLIDE_ID": _SLIDE_ID,
            "IMAGENUMBER_X": layout.images_across,
            "IMAGENUMBER_Y": layout.images_down,
            "OBJECTIVE_MAGNIFICATION": 20,
            "CameraImageDivisionsPerSide": layout.images_per_photo,
        },
        "HIERARCHICAL": hierarchical,
        "DATAFILE": {"FILE_COUNT": layout.data_files}
        | {f"FILE_{number}": data_name(number) for number in range(layout.data_files)},
        "NONHIERLAYER_0_LEVEL_0_SECTION": {"VIMSLIDE_POSITION_DATA_FORMAT_VERSION": 257},
    }
    for zoom in range(layout.zoom_levels):
        name = f"LAYER_0_LEVEL_{zoom}_SECTION"
        hierarchical |= {
            f"HIER_0_VAL_{zoom}": f"ZoomLevel_{zoom}",
            f"HIER_0_VAL_{zoom}_SECTION": name,
        }
        sections[name] = _zoom_section(layout, zoom)
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
        for name, values in sections.items()
    )


def _zoom_section(layout: Layout, zoom: int) -> dict[str, object]:
    overlap, mpp = layout.overlap_px / (1 << zoom), MPP * (1 << zoom)
    return {
        "OVERLAP_X": overlap,
        "OVERLAP_Y": overlap,
        "MICROMETER_PER_PIXEL_X": mpp,
        "MICROMETER_PER_PIXEL_Y": mpp,
        "IMAGE_FORMAT": layout.image_format,
        "IMAGE_FILL_COLOR_BGR": _WHITE_BGR,
        "DIGITIZER_WIDTH": layout.image_px,
        "DIGITIZER_HEIGHT": layout.image_height_px or layout.image_px,
        "IMAGE_CONCAT_FACTOR": int(zoom > 0),
    }


def _int32s(values: Iterable[int]) -> bytes:
    numbers = list(values)
    return struct.pack(f"<{len(numbers)}i", *numbers)
