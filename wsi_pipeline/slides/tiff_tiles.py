"""The native tiles (or strips) of one TIFF page: where they lie, and their pixels."""

from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.pixels import decode_jpeg, gray_to_rgb, on_white
from wsi_pipeline.slides.jpeg_stream import WholeJpegs

JP2K_YCBCR = 33003
"""Aperio's JPEG 2000 whose components are Y, Cb, Cr; 33005 holds R, G, B."""

JP2K_END = b"\xff\xd9"
"""EOC; OpenJPEG makes a blurred picture of a stream whose end is zeros, and says nothing."""


class NativeTiles:
    """One page's tiles by index, row by row. Strips are tiles as wide as the page."""

    def __init__(self, page: Any, *, by_tag: bool, doubtful: Set[int] = frozenset()) -> None:
        """Take a page; ``by_tag`` has its photometric tag say how a JPEG's colours are coded.

        So does OpenSlide. Without it a JFIF header goes before a tag that says RGB: such a stream is
        YCbCr by the definition of JFIF, and writers that copy tiles leave the tag wrong.
        """
        self._page = page
        self.missing = doubtful | {at for at, count in enumerate(page.databytecounts) if count == 0}
        """Tiles that the file leaves out or that are not to be trusted."""
        self.width = int(page.tilewidth if page.is_tiled else page.imagewidth)
        self.height = int(page.tilelength if page.is_tiled else page.rowsperstrip)
        self.across = -(-int(page.imagewidth) // self.width)
        self.down = -(-int(page.imagelength) // self.height)
        self._is_jpeg = page.compression == tifffile.COMPRESSION.JPEG
        self._is_jpeg2000 = int(page.compression) in {33003, 33005}
        is_ycbcr = page.photometric == tifffile.PHOTOMETRIC.YCBCR or (
            not by_tag and self._is_jpeg and bool(page.is_jfif)
        )
        self._jpegs = WholeJpegs(page.jpegtables, ycbcr=is_ycbcr)

    def touched(self, window_px: Box) -> Iterator[int]:
        """Yield the indices of the tiles that a window touches, row by row."""
        columns = range(window_px.x // self.width, (window_px.x_end - 1) // self.width + 1)
        for row in range(window_px.y // self.height, (window_px.y_end - 1) // self.height + 1):
            for column in columns:
                yield row * self.across + column

    def box_px(self, index: int) -> Box:
        """Return a tile's place on the page; tiles at the far edges reach past it."""
        row, column = divmod(index, self.across)
        return Box(x=column * self.width, y=row * self.height, width=self.width, height=self.height)

    def is_missing(self, index: int) -> bool:
        """Whether the file leaves a tile out."""
        return index in self.missing

    def decode(self, index: int, handle: Any) -> Rgb:
        """Return a tile's pixels, at most ``(height, width, 3)``; less where the file stores less.

        Raises
        ------
        TileError
            The bytes are cut off or damaged.
        """
        at, count = int(self._page.dataoffsets[index]), int(self._page.databytecounts[index])
        if at + count > handle.size:
            raise TileError(
                f"native tile {index}: expected {count} bytes from byte {at} on, "
                f"the file ends at {handle.size}"
            )
        handle.seek(at)
        data = handle.read(count)
        try:
            return self._pixels(data, index)
        except TileError:
            raise
        except Exception as error:
            raise TileError(f"native tile {index}: {error}") from error

    def _pixels(self, data: bytes, index: int) -> Rgb:
        if self._is_jpeg:
            return decode_jpeg(self._jpegs.of(data))
        if self._is_jpeg2000 and not data.rstrip(b"\0").endswith(JP2K_END):
            raise TileError(f"native tile {index}: a JPEG 2000 without its end")
        planes, _, _ = self._page.decode(data, index, jpegtables=None)
        pixels: NDArray[np.uint8] = planes[0]  # (height, width, samples)
        if self._page.compression == JP2K_YCBCR:
            return _ycbcr_to_rgb(pixels)
        if pixels.shape[2] == 4:
            return on_white(pixels)
        return gray_to_rgb(pixels) if pixels.shape[2] == 1 else pixels


def with_doubtful(pages: Sequence[Any]) -> list[NativeTiles]:
    """Return an Aperio slide's levels; what shows a missing tile of the finer level is missing too.

    Aperio writes such tiles wrongly now and then; OpenSlide paints them anew from the finer level.
    """
    levels: list[NativeTiles] = []
    for page in pages:
        doubtful = (
            _above(levels[-1], NativeTiles(page, by_tag=True)) if levels else frozenset[int]()
        )
        levels.append(NativeTiles(page, by_tag=True, doubtful=doubtful))
    return levels


def _above(finer: NativeTiles, coarser: NativeTiles) -> frozenset[int]:
    """Return which tiles of a level show a missing one of the finer level, counted as OpenSlide counts."""
    wide, high = int(finer.across / coarser.across + 0.5), int(finer.down / coarser.down + 0.5)
    places = (divmod(index, finer.across) for index in finer.missing)
    return frozenset(row // high * coarser.across + column // wide for row, column in places)


def _ycbcr_to_rgb(pixels: Rgb) -> Rgb:
    """Return RGB by the full-range equations of JFIF (ITU-T T.871, section 7), rounded as OpenSlide does."""
    y, cb, cr = (pixels[..., channel].astype(np.int32) for channel in range(3))
    red, blue = y + _RED_OF_CR[cr], y + _BLUE_OF_CB[cb]
    green = y + ((_GREEN_OF_CB[cb] + _GREEN_OF_CR[cr]) >> 16)
    rgb: Rgb = np.dstack([red, green, blue]).clip(0, 255).astype(np.uint8)
    return rgb


_CHROMA = np.arange(256) - 128
_RED_OF_CR = np.rint(1.402 * _CHROMA).astype(np.int32)
_BLUE_OF_CB = np.rint(1.772 * _CHROMA).astype(np.int32)
# Green in fixed point, 16 bits after the point, as OpenSlide's make-tables.c has it.
_GREEN_OF_CB = np.rint(65536 * (0.5 - 0.34414 * _CHROMA)).astype(np.int32)
_GREEN_OF_CR = np.rint(65536 * -0.71414 * _CHROMA).astype(np.int32)
