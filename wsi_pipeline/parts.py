"""Slides that are several files: which files belong to one slide.

3DHISTECH keeps pixels in a folder beside the MRXS, Hamamatsu's VMS and VMU name their pictures, DICOM has a
file per level, label and overview. Sources: https://openslide.org/formats/hamamatsu/, DICOM PS3.3 section
A.32.8 (VL Whole Slide Microscopy Image) and C.8.12.4 (its image types).
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NAMING_SUFFIXES = {".vms", ".vmu"}
_NAMED_FILE = re.compile(r"(?:ImageFile|MapFile|OptimisationFile|MacroImage)[^=]*=\s*(.*\S)")
_MOST_TEXT = 1 << 20  # scanners write some 10 kB
_DICOM_MARK_AT = 128
_SOP_CLASS, _IMAGE_TYPE, _SERIES, _WIDTH = 0x00080016, 0x00080008, 0x0020000E, 0x00480006


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFile:
    """What a file of a whole-slide DICOM series says of itself."""

    path: Path
    series: str
    """SeriesInstanceUID: the same in all files of a slide."""
    width_px: int
    """Width of the level, or of the label."""
    is_level: bool
    """Whether it shows the slide itself: no label, overview or thumbnail."""


def parts_of(path: Path) -> list[Path]:
    """Return all files of a slide, itself first and the others by name.

    Raises
    ------
    OSError
        The file or its folder cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return [path, *_files_in(path.with_suffix(""))]
    if suffix in _NAMING_SUFFIXES:
        return [path, *_named_by(path)]
    ours = series_file(path)
    if ours is None:
        return [path]
    beside = (series_file(each) for each in _files_in(path.parent) if each.name != path.name)
    return [path, *(each.path for each in beside if each and each.series == ours.series)]


def dicom_series(paths: Iterable[Path]) -> list[list[SeriesFile]]:
    """Return files of whole-slide DICOM series: a list per series and folder, its finest level first.

    Files that are none, or whose headers are damaged, are in no list.
    """
    found: dict[tuple[Path, str], list[SeriesFile]] = defaultdict(list)
    for each in filter(None, map(series_file, paths)):
        found[each.path.parent, each.series].append(each)
    return [sorted(files, key=_finest_first) for files in found.values()]


def series_file(path: Path) -> SeriesFile | None:
    """Return what a file of a whole-slide DICOM series says of itself, None of every other file.

    Reads the header up to the size of the picture: no list of frames, no pixels.
    """
    try:
        with path.open("rb") as handle:
            handle.seek(_DICOM_MARK_AT)
            if handle.read(4) != b"DICM":
                return None
            from pydicom.filereader import read_partial
            from pydicom.uid import VLWholeSlideMicroscopyImageStorage

            handle.seek(0)
            header = read_partial(
                handle,
                stop_when=lambda tag, _vr, _length: tag > _WIDTH,
                specific_tags=[_SOP_CLASS, _IMAGE_TYPE, _SERIES, _WIDTH],
            )
        if header.SOPClassUID != VLWholeSlideMicroscopyImageStorage:
            return None
        return SeriesFile(
            path=path,
            series=str(header.SeriesInstanceUID),
            width_px=int(header.TotalPixelMatrixColumns),
            is_level="VOLUME" in header.ImageType,
        )
    except Exception:  # noqa: BLE001  whoever opens it says what is wrong with it
        return None


def _finest_first(file: SeriesFile) -> tuple[bool, int, str]:
    return (not file.is_level, -file.width_px, file.path.name)


def _files_in(folder: Path) -> list[Path]:
    """Return a folder's files by name, without those that file managers leave there."""
    if not folder.is_dir():
        return []
    files = (each for each in folder.iterdir() if each.is_file())
    return sorted(each for each in files if each.name[0] != "." and each.name != "Thumbs.db")


def _named_by(path: Path) -> list[Path]:
    """Return the files that a VMS or VMU names and that are there."""
    with path.open(encoding="latin-1") as handle:
        text = handle.read(_MOST_TEXT)
    names = {match[1] for line in text.splitlines() if (match := _NAMED_FILE.match(line))}
    return sorted(each for each in (path.parent / name for name in names) if each.is_file())
