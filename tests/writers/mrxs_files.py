"""The three files of an MRXS folder: Slidedat.ini, Index.dat and Data0000.dat."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

ImageFormat: TypeAlias = Literal["JPEG", "PNG"]
"""PNG loses nothing; scanners write JPEG."""

Place: TypeAlias = tuple[int, int]
"""Column and row: of a photo, or of an image at level 0."""

Extent: TypeAlias = tuple[int, int]
"""Offset and length in Data0000.dat."""

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


def data_file(
    levels: Sequence[Mapping[Place, bytes]], positions: bytes
) -> tuple[bytes, Places, Extent]:
    """Return Data0000.dat, where each level's images lie in it, and where the positions."""
    data = bytearray(_VERSION + _SLIDE_ID.encode() + bytes(27))
    places: Places = {}
    for zoom, images in enumerate(levels):
        for place, content in images.items():
            places[zoom, place] = (len(data), len(content))
            data += content
    return bytes(data + positions), places, (len(data), len(positions))


def index_file(places: Places, positions: Extent, layout: Layout) -> bytes:
    """Return Index.dat: two roots, each a table of records, each a list of pages.

    The first page of every list is empty. Images are numbered row by row as at level 0.
    """
    pages = []
    for zoom in range(layout.zoom_levels):
        items = [
            (row * layout.images_across + column, offset, length, 0)
            for (level, (column, row)), (offset, length) in places.items()
            if level == zoom
        ]
        pages.append(_int32s([len(items), 0, *(each for item in items for each in item)]))
    pages.append(_int32s([1, 0, 0, 0, *positions, 0]))  # the only one that is not hierarchical
    table_at = len(_VERSION) + len(_SLIDE_ID) + 8  # after the two roots
    records_at = table_at + 4 * len(pages)
    pages_at = records_at + 8 * len(pages)
    begins = [pages_at + sum(map(len, pages[:number])) for number in range(len(pages))]
    roots = _int32s([table_at, table_at + 4 * layout.zoom_levels])
    table = _int32s(records_at + 8 * number for number in range(len(pages)))
    records = _int32s(each for begin in begins for each in (0, begin))
    return b"".join([_VERSION, _SLIDE_ID.encode(), roots, table, records, *pages])


def positions_buffer(corners0: Iterable[Place]) -> bytes:
    """Return VIMSLIDE_POSITION_BUFFER: a flag, x and y of each photo, row by row."""
    return b"".join(struct.pack("<Bii", 0, x0, y0) for x0, y0 in corners0)


def slidedat(layout: Layout) -> str:
    """Return Slidedat.ini."""
    hierarchical: dict[str, object] = {
        "HIER_COUNT": 1,
        "NONHIER_COUNT": 1,
        "INDEXFILE": "Index.dat",
        "HIER_0_NAME": "Slide zoom level",
        "HIER_0_COUNT": layout.zoom_levels,
        "NONHIER_0_NAME": "VIMSLIDE_POSITION_BUFFER",
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
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
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
        "DIGITIZER_HEIGHT": layout.image_px,
        "IMAGE_CONCAT_FACTOR": int(zoom > 0),
    }


def _int32s(values: Iterable[int]) -> bytes:
    numbers = list(values)
    return struct.pack(f"<{len(numbers)}i", *numbers)
