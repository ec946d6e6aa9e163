"""Windows put together from stored pictures, each decoded once for all windows that are read together."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import WHITE, Box, Rgb
from wsi_pipeline.slides.reader import RgbOrError

KEPT_BYTES = 192 << 20
"""Most decoded pictures kept for later windows: two rows of a slide 100 000 px wide are 150 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A rectangle of a stored picture, and where it lies."""

    picture: int
    """Number of the picture that it is cut from."""
    box_px: Box
    """Its place on the level."""
    corner: tuple[int, int] = (0, 0)
    """Column and row of the picture where it begins."""


class Mosaic(Protocol):
    """One level as stored pictures."""

    @property
    def has_gaps(self) -> bool:
        """Whether pixels may be in no piece; they are white."""
        ...

    @property
    def picture_bytes(self) -> int:
        """What a decoded picture takes."""
        ...

    def pictures(self, window_px: Box) -> Sequence[int]:
        """Return the pictures that a window touches, each once."""
        ...

    def pieces(self, window_px: Box) -> Iterable[Piece]:
        """Return what a window shows, each piece over those before it."""
        ...

    def decoded(self, picture: int) -> RgbOrError:
        """Return a picture's pixels, all that its pieces need, or why they cannot be decoded."""
        ...


def read_mosaic(mosaic: Mosaic, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
    """Yield the windows; a picture is let go when the last window that touches it was read."""
    touched = [mosaic.pictures(window_px) for window_px in windows_px]
    uses: defaultdict[int, deque[int]] = defaultdict(deque)  # numbers of the windows that touch it
    for number, pictures in enumerate(touched):
        for picture in pictures:
            uses[picture].append(number)
    kept: dict[int, RgbOrError] = {}
    for window_px, pictures in zip(windows_px, touched, strict=True):
        error = _decode(mosaic, pictures, kept)
        if error is not None:
            yield TileError(f"level {level}, {window_px}: {error}")
        else:
            yield _assembled(mosaic, window_px, kept)
        for picture in pictures:
            uses[picture].popleft()
            if not uses[picture]:
                kept.pop(picture, None)
        _bound(kept, uses, mosaic.picture_bytes)


def _decode(
    mosaic: Mosaic, pictures: Sequence[int], kept: dict[int, RgbOrError]
) -> TileError | None:
    """Decode those pictures that are not kept; return the first one's error that cannot be."""
    for picture in pictures:
        if picture not in kept:
            kept[picture] = mosaic.decoded(picture)
        error = kept[picture]
        if isinstance(error, TileError):
            return error
    return None


def _assembled(mosaic: Mosaic, window_px: Box, kept: dict[int, RgbOrError]) -> Rgb:
    out = np.empty((window_px.height, window_px.width, 3), dtype=np.uint8)
    if mosaic.has_gaps:
        out[:] = WHITE
    for piece in mosaic.pieces(window_px):
        picture = kept[piece.picture]
        if not isinstance(picture, TileError):
            _paste(picture, piece, window_px, out)
    return out


def _paste(picture: Rgb, piece: Piece, window_px: Box, out: Rgb) -> None:
    """Copy the part of a piece that is inside the window; plain numbers, for this runs 25 times a tile."""
    box_px, (corner_x, corner_y) = piece.box_px, piece.corner
    left, top = box_px.x - window_px.x, box_px.y - window_px.y
    x, x_end = max(left, 0), min(left + box_px.width, window_px.width)
    y, y_end = max(top, 0), min(top + box_px.height, window_px.height)
    if x < x_end and y < y_end:
        corner_x, corner_y = corner_x - left, corner_y - top
        out[y:y_end, x:x_end] = picture[
            corner_y + y : corner_y + y_end, corner_x + x : corner_x + x_end
        ]


def _bound(
    kept: dict[int, RgbOrError], uses: Mapping[int, Sequence[int]], picture_bytes: int
) -> None:
    """Let pictures go where more are kept than memory allows; they are decoded again.

    Those that are needed last go first, else a row that just does not fit is decoded whole for the next
    (Belady, IBM Systems Journal 5, 1966).
    """
    most = max(1, KEPT_BYTES // picture_bytes)
    if len(kept) > most:
        by_next_use = sorted(kept, key=lambda picture: uses[picture][0])
        for picture in by_next_use[most:]:
            del kept[picture]
