"""From a path to an open reader: looks into the file, not at its name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import openslide

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.flat_backend import open_deep_tiff, open_picture
from wsi_pipeline.slides.mrxs_backend import BACKEND as MRXS_IMAGES
from wsi_pipeline.slides.mrxs_backend import FORMAT as MRXS
from wsi_pipeline.slides.mrxs_backend import native_images_of
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, SlideReader
from wsi_pipeline.slides.tiff_backend import (
    BY_OPENSLIDE,
    LayoutError,
    check_one_plane,
    is_deep_gray_tiff,
    is_ome_tiff,
    is_one_picture,
    native_tiles_of,
    open_tiff,
)

_FLAT_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_TABLE = "the slide table"
MPP_FROM_TABLE = f"from {_TABLE}"
"""Says in ``mpp_note`` that the user's table states µm/px."""

_CZI_MAGIC = b"ZISRAWFILE"
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_BEGINNINGS: dict[str, bytes | tuple[bytes, ...]] = {
    BY_OPENSLIDE: _TIFF_MAGIC,
    "tifffile": _TIFF_MAGIC,
    "pylibCZIrw": _CZI_MAGIC,
    "flat": tuple(_FLAT_MAGIC),
}
_FOR_COMPARISON = "opened for comparison"


def open_slide(path: Path) -> SlideReader:
    """Return a reader for a slide file.

    Raises
    ------
    SlideError
        The file is missing, empty, of no known format, or damaged.
    """
    head = _head(path)
    for magic, name in _FLAT_MAGIC.items():
        if head.startswith(magic):
            return open_picture(path, reason=f"the file begins as {name}")
    if head.startswith(_CZI_MAGIC):
        return _czi(path, reason="the file begins as a Zeiss CZI")
    vendor = openslide.OpenSlide.detect_format(path)
    if vendor is not None:
        return _known_by_openslide(path, vendor, is_tiff=head.startswith(_TIFF_MAGIC))
    if head.startswith(_TIFF_MAGIC):
        return _other_tiff(path)
    if _is_dicom(path):
        return _dicom(path, reason="a DICOM picture that is no whole-slide image")
    raise SlideError(
        f"no backend opens it: it begins with {head[:8]!r}, which is no TIFF, PNG or JPEG, "
        "and OpenSlide does not know it; is it a slide, and complete?"
    )


def _other_tiff(path: Path) -> SlideReader:
    if is_deep_gray_tiff(path):
        return open_deep_tiff(path, reason="a gray TIFF deeper than 8 bits, shown through a window")
    try:
        return open_tiff(path, reason="a TIFF that OpenSlide does not know")
    except LayoutError as error:
        if not is_one_picture(path):
            raise
        return open_picture(path, reason=f"a TIFF of {error.got}, decoded whole")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(128)
        return handle.read(4) == b"DICM"


def _czi(path: Path, *, reason: str) -> SlideReader:
    from wsi_pipeline.slides.czi_backend import CziReader

    return CziReader(path, reason=reason)


def _dicom(path: Path, *, reason: str) -> SlideReader:
    from wsi_pipeline.slides.dicom_backend import open_dicom

    return open_dicom(path, reason=reason)


def open_every_way(path: Path) -> list[tuple[str, SlideReader | SlideError]]:
    """Return every backend by name with its reader of the file, or why it does not open it."""
    head = _head(path)
    ways: dict[str, Callable[[], SlideReader]] = {
        BY_OPENSLIDE: lambda: _native(path, native_tiles_of),
        MRXS_IMAGES: lambda: _native(path, native_images_of),
        "openslide": lambda: _by_openslide(path),
        "tifffile": lambda: open_tiff(path, reason=_FOR_COMPARISON),
        "pylibCZIrw": lambda: _czi(path, reason=_FOR_COMPARISON),
        "flat": lambda: open_picture(path, reason=_FOR_COMPARISON),
    }
    unlike = SlideError("the file does not begin as those that it reads")
    return [
        (name, _opened(way) if head.startswith(_BEGINNINGS.get(name, b"")) else unlike)
        for name, way in ways.items()
    ]


def _opened(way: Callable[[], SlideReader]) -> SlideReader | SlideError:
    try:
        return way()
    except SlideError as error:
        return error


def _by_openslide(path: Path) -> OpenSlideReader:
    return OpenSlideReader(path, reason=_FOR_COMPARISON)


def _native(
    path: Path, pixels_of: Callable[[Path, OpenSlideReader], SlideReader | str]
) -> SlideReader:
    slide = _by_openslide(path)
    reader = pixels_of(path, slide)
    if isinstance(reader, str):
        slide.close()
        raise SlideError(reader)
    return reader


def _known_by_openslide(path: Path, vendor: str, *, is_tiff: bool) -> SlideReader:
    """Return a reader of the native tiles where they are a plain grid, else OpenSlide itself."""
    if vendor == "generic-tiff" and is_deep_gray_tiff(path):
        return _other_tiff(path)  # OpenSlide 4.0.1 garbles 16-bit gray tiles that the page cuts off
    if vendor == "generic-tiff" and is_ome_tiff(path):
        return _ome_tiff(path)
    if vendor == "generic-tiff":
        check_one_plane(path)
    try:
        slide = OpenSlideReader(path, reason=f"OpenSlide knows it as {vendor}")
    except SlideError as error:
        if not is_tiff:
            raise
        reason = f"OpenSlide knows it as {vendor} and cannot open it ({error.__cause__})"
        return open_tiff(path, reason=reason)
    if not is_tiff and vendor != MRXS:
        return slide
    native = native_tiles_of(path, slide) if is_tiff else native_images_of(path, slide)
    if isinstance(native, str):
        slide.info = replace(slide.info, backend_reason=f"{slide.info.backend_reason}; {native}")
        return slide
    return native


def _ome_tiff(path: Path) -> SlideReader:
    """Return a reader of every level, or OpenSlide's of the finest where pixels are stored otherwise."""
    try:
        return open_tiff(path, reason="an OME-TIFF, whose µm/px and levels OpenSlide does not read")
    except LayoutError as error:
        if not is_one_picture(path):
            raise
        reason = f"an OME-TIFF of {error.got}, whose finest level OpenSlide reads without µm/px"
        return OpenSlideReader(path, reason=reason)


def open_source(source: SlideSource, *, slide_mpp: float | None) -> SlideReader:
    """Return a reader whose µm/px are the slide table's, the file's, or ``slide_mpp``, in this order."""
    reader = open_slide(Path(source.path))
    if source.mpp is not None:
        return _Restated(reader=reader, info=reader.info.with_mpp(source.mpp, source=_TABLE))
    if reader.info.mpp is None and slide_mpp is not None:
        return _Restated(reader=reader, info=reader.info.with_mpp(slide_mpp, source="--slide-mpp"))
    return reader


@dataclass(frozen=True, slots=True, kw_only=True)
class _Restated:
    """A reader of whose pixels the user knows the size better."""

    reader: SlideReader
    info: SlideInfo

    def read(self, level: int, window_px: Box) -> Rgb:
        return self.reader.read(level, window_px)

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        return self.reader.read_many(level, windows_px)

    def close(self) -> None:
        self.reader.close()


def _head(path: Path) -> bytes:
    """Return the first bytes, after the questions that give a plain answer."""
    if path.is_dir():
        raise SlideError(
            "a directory, expected a file: name the files in it, or rename it if only its name is a slide's"
        )
    try:
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise SlideError(
            f"cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if not head:
        raise SlideError("the file is empty (0 bytes); copy it again from its source")
    return head
