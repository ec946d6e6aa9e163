"""What the files of a 3DHISTECH MRXS say: where images lie in files, and photos on the slide.

``NAME.mrxs`` names a folder ``NAME``: ``Slidedat.ini`` says what there is, ``Index.dat`` where each image's
bytes lie, ``Data0000.dat`` and on hold them. Source: https://openslide.org/formats/mirax/, and what
OpenSlide 4.0.1 accepts and shows.
"""

import configparser
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]

_Sections: TypeAlias = Mapping[str, Mapping[str, str]]

_VERSION = "01.02"
"""What Index.dat begins with; then come the slide's id and the two roots."""

_NO_SECTION = "\0"
_PLAIN, _DEFLATED = "VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer"
_POSITION = np.dtype([("flag", "u1"), ("x", "<i4"), ("y", "<i4")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Zoom:
    """One level as it is stored."""

    image_px: tuple[int, int]
    """Width and height of an image."""
    joined: int
    """Images of level 0 along each side of one of this level: a power of two."""
    image_format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How the slide was scanned: photos in rows, each cut into images in rows."""

    across: int
    """Images along the width of the slide."""
    down: int
    divisions: int
    """Images along each side of a photo."""
    overlap_px: tuple[float, float]
    """What neighbouring photos share as planned, in level-0 pixels."""

    @property
    def photos(self) -> tuple[int, int]:
        """Photos along the width and the height."""
        return self.across // self.divisions, self.down // self.divisions


@dataclass(frozen=True, slots=True, kw_only=True)
class MrxsIndex:
    """What the files of a slide's folder say."""

    files: tuple[Path, ...]
    """Of images."""
    scan: Scan
    zooms: tuple[Zoom, ...]
    records: tuple[Integers, ...]
    """A level's images, ``(images, 4)``: number, offset and length in bytes, number of the file.

    Images are numbered row by row as at level 0; a joined one by the first that it shows.
    """
    corners0: Integers
    """Level-0 column and row of each photo, row by row, ``(photos, 2)``."""
    is_measured: bool
    """Whether the file says where photos lie; else they lie as planned."""

    def bytes_needed(self) -> list[int]:
        """Return where the last image of each file ends."""
        ends = np.zeros(len(self.files), dtype=np.int64)
        for records in self.records:
            np.maximum.at(ends, records[:, 3], records[:, 1] + records[:, 2])
        found: list[int] = ends.tolist()
        return found


def read_index(path: Path) -> MrxsIndex:
    """Return what the folder of ``NAME.mrxs`` says.

    Raises
    ------
    ValueError
        It says what no slide is known to say, or is damaged.
    OSError
        A file is missing.
    """
    try:
        return _read_index(path.with_suffix(""))
    except (KeyError, IndexError, configparser.Error, struct.error, zlib.error) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_index(folder: Path) -> MrxsIndex:
    about = _sections(folder / "Slidedat.ini")
    general, hierarchy, files = about["GENERAL"], about["HIERARCHICAL"], about["DATAFILE"]
    data = (folder / hierarchy["INDEXFILE"]).read_bytes()
    levels_at, others_at = struct.unpack_from("<2i", data, len(_VERSION + general["SLIDE_ID"]))
    names = [files[f"FILE_{number}"] for number in range(int(files["FILE_COUNT"]))]
    paths = tuple(folder / name for name in names)
    scan, zooms = _scan(about), tuple(_zooms(about))
    positions = _positions(hierarchy, data, others_at, paths)
    return MrxsIndex(
        files=paths,
        scan=scan,
        zooms=zooms,
        records=tuple(_records(data, levels_at + 4 * level) for level in range(len(zooms))),
        corners0=_planned(scan, zooms[0]) if positions is None else _measured(positions, scan),
        is_measured=positions is not None,
    )


class _Ini(configparser.RawConfigParser):
    """Sections whose keys keep their case."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _sections(path: Path) -> _Sections:
    parser = _Ini(strict=False, delimiters="=", comment_prefixes="#", default_section=_NO_SECTION)
    parser.read_string(path.read_text(encoding="utf-8-sig", errors="replace"))
    return parser


def _scan(about: _Sections) -> Scan:
    general, finest = about["GENERAL"], about[about["HIERARCHICAL"]["HIER_0_VAL_0_SECTION"]]
    scan = Scan(
        across=int(general["IMAGENUMBER_X"]),
        down=int(general["IMAGENUMBER_Y"]),
        divisions=int(general.get("CameraImageDivisionsPerSide", "1")),
        overlap_px=(float(finest["OVERLAP_X"]), float(finest["OVERLAP_Y"])),
    )
    if scan.across % scan.divisions or scan.down % scan.divisions:
        raise ValueError(
            f"expected whole photos of {scan.divisions} x {scan.divisions} images, "
            f"got {scan.across} x {scan.down} images"
        )
    return scan


def _zooms(about: _Sections) -> Iterator[Zoom]:
    hierarchy, exponent = about["HIERARCHICAL"], 0
    for level in range(int(hierarchy["HIER_0_COUNT"])):
        section = about[hierarchy[f"HIER_0_VAL_{level}_SECTION"]]
        exponent += int(section["IMAGE_CONCAT_FACTOR"])
        if level == 0 and exponent != 0:
            raise ValueError(f"expected level 0 of single images, got {1 << exponent} joined")
        yield Zoom(
            image_px=(int(section["DIGITIZER_WIDTH"]), int(section["DIGITIZER_HEIGHT"])),
            joined=1 << exponent,
            image_format=section["IMAGE_FORMAT"],
        )


def _records(data: bytes, pointer_at: int) -> Integers:
    """Return all records of a level, page after page."""
    (record_at,) = struct.unpack_from("<i", data, pointer_at)
    _, page_at = struct.unpack_from("<2i", data, record_at)
    pages, seen = [], set()
    while page_at != 0 and page_at not in seen:
        seen.add(page_at)
        count, following = struct.unpack_from("<2i", data, page_at)
        pages.append(np.frombuffer(data, "<i4", 4 * count, page_at + 8))
        page_at = following
    return np.concatenate(pages).astype(np.int64).reshape(-1, 4)  # (images, number and extent)


def _positions(
    hierarchy: Mapping[str, str], data: bytes, others_at: int, files: Sequence[Path]
) -> bytes | None:
    """Return the record of where photos lie, inflated, or None where there is none."""
    places = _places_of_others(hierarchy)
    name = _PLAIN if _PLAIN in places else _DEFLATED
    if name not in places:
        return None
    (record_at,) = struct.unpack_from("<i", data, others_at + 4 * places[name])
    _, page_at = struct.unpack_from("<2i", data, record_at)
    _, _, _, _, offset, length, number = struct.unpack_from("<7i", data, page_at)
    with files[number].open("rb") as handle:
        handle.seek(offset)
        content = handle.read(length)
    return zlib.decompress(content) if name == _DEFLATED else content


def _places_of_others(hierarchy: Mapping[str, str]) -> dict[str, int]:
    """Return the number of the first record of every kind that is no level."""
    places: dict[str, int] = {}
    place = 0
    for number in range(int(hierarchy["NONHIER_COUNT"])):
        places.setdefault(hierarchy[f"NONHIER_{number}_NAME"], place)
        place += int(hierarchy[f"NONHIER_{number}_COUNT"])
    return places


def _measured(positions: bytes, scan: Scan) -> Integers:
    found = np.frombuffer(positions, _POSITION)
    across, down = scan.photos
    if len(found) != across * down:
        raise ValueError(f"expected positions of {across * down} photos, got {len(found)}")
    return np.stack((found["x"], found["y"]), axis=1).astype(np.int64)


def _planned(scan: Scan, finest: Zoom) -> Integers:
    """Return where photos lie if nothing says so: side by side but for their overlap, cut to whole pixels."""
    across, down = scan.photos
    steps = [
        side * scan.divisions - overlap
        for side, overlap in zip(finest.image_px, scan.overlap_px, strict=True)
    ]
    rows, columns = np.divmod(np.arange(across * down), across)
    return np.stack((columns * steps[0], rows * steps[1]), axis=1).astype(np.int64)
