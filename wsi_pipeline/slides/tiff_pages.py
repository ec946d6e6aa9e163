"""Which page of a TIFF holds which level, whether its tiles can be decoded here, and are all there."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Size

ASTRAY = 100
"""Of so many tiles one may lie past the end of a file that is complete; of fewer, one may."""

_DIRECT_COLOURS = frozenset(
    {tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR, tifffile.PHOTOMETRIC.MINISBLACK}
)
_PHOTOS = "photos that overlap or lie in several areas"
_BARE = frozenset({1, 5, 8, 32773, 32946, 50000})
_KNOWN_COMPRESSIONS = _BARE | {7, 33003, 33005}


class UnfitPageError(ValueError):
    """A level has no page whose tiles are decoded here: OpenSlide reads it."""


def page_of(tiff: tifffile.TiffFile, size_px: Size, level: int) -> Any:
    """Return the page of a level: tiles of 8-bit gray or colour side by side.

    Philips fills levels up to whole tiles, so that two may have pages of one size: they go by their order.

    Raises
    ------
    UnfitPageError
        There is none; the message says what each page of this size is in its place.
    """
    pages = list(_all_pages(tiff))
    if tiff.is_philips:
        pages = [page for page in pages if page.is_tiled][level : level + 1]
    shown = [page for page in pages if _shows(page, size_px, filled_up=tiff.is_philips)]
    unfit = [_unfit(page) for page in shown]
    for page, reason in zip(shown, unfit, strict=True):
        if reason is None:
            return page
    found = " and ".join(dict.fromkeys(filter(None, unfit)))
    if not found:  # overlapping photos cover less than their page
        found = _PHOTOS if any(map(_overlaps, pages)) else "no page of this size"
    raise UnfitPageError(
        f"level {level}, {size_px.width} x {size_px.height} px: "
        f"expected a page of tiles of 8-bit gray or colour side by side, got {found}"
    )


def check_complete(tiff: tifffile.TiffFile, pages: Sequence[Any]) -> None:
    """Refuse a file that ends before its tiles do.

    A tile past the end does not make a file cut off where other tiles lie behind the place that it
    should have, and where at most one in 100 tiles (of fewer, one) lies so: then its entry in the
    directory is wrong.

    Raises
    ------
    SlideError
        The file is cut off.
    """
    size_bytes = int(tiff.filehandle.size)
    starts, ends = _extents(pages)
    is_stored = ends > starts
    astray = is_stored & (ends > size_bytes)
    if not astray.any():
        return
    last_good = int(ends[~astray].max(initial=0))
    few = int(astray.sum()) <= max(1, int(is_stored.sum()) // ASTRAY)
    if few and all(place < last_good for place in _places(ends, astray)):
        return
    raise SlideError(
        f"cut off: its tiles reach to byte {int(ends.max())}, the file ends at {size_bytes}; "
        "copy it again from its source"
    )


def check_directories(tiff: tifffile.TiffFile) -> None:
    """Refuse a file that ends before a later page does: tifffile gives the pages before it.

    Raises
    ------
    SlideError
        The file is cut off.
    """
    size_bytes = int(tiff.filehandle.size)
    check_complete(tiff, list(_all_pages(tiff)))
    at = tiff.pages.next_page_offset  # where the last page says where the next one is, 0 for none
    if at is None:
        return
    tiff.filehandle.seek(at)
    pointer = tiff.filehandle.read(tiff.tiff.offsetsize)
    following = int.from_bytes(pointer, "little" if tiff.byteorder == "<" else "big")
    if len(pointer) < tiff.tiff.offsetsize or following >= size_bytes:
        raise SlideError(
            f"cut off: its page {len(tiff.pages)} should begin at byte {following}, "
            f"the file ends at {size_bytes}; copy it again from its source"
        )


def _extents(pages: Sequence[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return first bytes of the tiles of all pages, in their order, and the bytes behind them."""
    starts = np.array([at for page in pages for at in page.dataoffsets], dtype=np.uint64)
    counts = np.array([count for page in pages for count in page.databytecounts], dtype=np.uint64)
    return starts, starts + counts


def _places(ends: NDArray[np.uint64], astray: NDArray[np.bool_]) -> Iterator[int]:
    """Yield where tiles that lie past the end should begin: behind the last one before them that does not."""
    place = 0
    for end, is_astray in zip(ends.tolist(), astray.tolist(), strict=True):
        if is_astray:
            yield place
        else:
            place = end or place


def _shows(page: Any, size_px: Size, *, filled_up: bool) -> bool:
    more_x, more_y = page.imagewidth - size_px.width, page.imagelength - size_px.height
    if filled_up and page.is_tiled:
        return bool(0 <= more_x < page.tilewidth and 0 <= more_y < page.tilelength)
    return bool(more_x == more_y == 0)


def _unfit(page: Any) -> str | None:
    """Return what a page is that is not decoded here, None where it is."""
    for is_so, what in _UNFIT:
        if is_so(page):
            return what(page)
    return None


def is_bare_ycbcr(page: Any) -> bool:
    """Whether values are Y, Cb, Cr that no decoder turns into colours, as those of JPEG do."""
    return bool(page.photometric == tifffile.PHOTOMETRIC.YCBCR) and int(page.compression) in _BARE


def _overlaps(page: Any) -> bool:
    """Whether a Ventana page says that its tiles overlap or belong to several areas."""
    packet = page.tags.get("XMP")
    xml = packet.value.decode(errors="replace") if packet is not None else ""
    overlaps = re.findall(r'Overlap[XY]="(-?\d+)"', xml)
    return any(map(int, overlaps)) or xml.count('AOIScanned="1"') > 1


def _name(value: Any) -> str:
    """Return a tag's value in words, or its number where it is no known one."""
    return str(getattr(value, "name", value))


_UNFIT: tuple[tuple[Callable[[Any], bool], Callable[[Any], str]], ...] = (
    (lambda page: not page.is_tiled, lambda _: "strips"),
    (lambda page: page.dtype != np.uint8, lambda page: f"{page.bitspersample} bits a sample"),
    (
        lambda page: page.samplesperpixel not in {1, 3},
        lambda page: f"{page.samplesperpixel} samples a pixel",
    ),
    (
        lambda page: page.planarconfig != tifffile.PLANARCONFIG.CONTIG,
        lambda _: "colours in separate planes",
    ),
    (
        lambda page: page.photometric not in _DIRECT_COLOURS,
        lambda page: f"colours stored as {_name(page.photometric)}",
    ),
    (is_bare_ycbcr, lambda _: "Y, Cb, Cr outside of a JPEG"),
    (
        lambda page: page.compression not in _KNOWN_COMPRESSIONS,
        lambda page: f"compression {_name(page.compression)}",
    ),
    (_overlaps, lambda _: _PHOTOS),
)


def _all_pages(tiff: tifffile.TiffFile) -> Iterator[Any]:
    for page in tiff.pages:
        yield page.aspage()
        for inner in page.pages or ():
            yield inner.aspage()
