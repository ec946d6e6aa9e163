"""From a path to an open reader: looks into the file, not at its name."""

from pathlib import Path

import openslide

from wsi_pipeline.errors import SlideError
from wsi_pipeline.slides.flat_backend import FlatReader
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import SlideReader
from wsi_pipeline.slides.tiff_backend import TiffReader

_FLAT_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


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
            return FlatReader(path, reason=f"the file begins as {name}")
    vendor = openslide.OpenSlide.detect_format(path)
    if vendor is not None:
        return OpenSlideReader(path, reason=f"OpenSlide knows it as {vendor}")
    if head.startswith(_TIFF_MAGIC):
        return TiffReader(path, reason="a TIFF that OpenSlide does not know")
    raise SlideError(
        f"no backend opens it: it begins with {head[:8]!r}, which is no TIFF, PNG or JPEG, "
        "and OpenSlide does not know it; is it a slide, and complete?"
    )


def _head(path: Path) -> bytes:
    """Return the first bytes, after the questions that give a plain answer."""
    if path.is_dir():
        raise SlideError(
            "a directory with the name of a slide; expected a file: rename it, or name the files in it"
        )
    try:
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise SlideError(f"cannot be read ({error.strerror}); check the path and its permissions") from error
    if not head:
        raise SlideError("the file is empty (0 bytes); copy it again from its source")
    return head
