"""Where the images of an MRXS show on its levels.

A coarser level halves images and joins 2 x 2 of them to one of the same size, whichever photo they come
from. Once an image shows several photos, each photo's part of it is a piece with a place of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Box
from wsi_pipeline.slides.mrxs_index import Integers, MrxsIndex

_Places: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One level: the pieces of stored images that it shows, in the order that they are painted in."""

    image_px: tuple[int, int]
    """Width and height of a stored image."""
    piece_px: tuple[float, float]
    """Width and height of a piece."""
    images: Integers
    """The image that a piece is cut from, by its place in the level's records, ``(pieces,)``."""
    corners: _Places
    """Column and row where it begins, in pixels of the level, ``(pieces, 2)``."""
    inside: _Places
    """Column and row of its image where it begins, ``(pieces, 2)``."""
    by_row: Integers = field(init=False, repr=False)
    """Pieces from the topmost to the lowest."""
    rows: _Places = field(init=False, repr=False)
    """Where they begin, in that order."""

    def __post_init__(self) -> None:
        by_row = np.argsort(self.corners[:, 1], kind="stable")
        object.__setattr__(self, "by_row", by_row)
        object.__setattr__(self, "rows", self.corners[by_row, 1])

    @property
    def is_whole(self) -> bool:
        """Whether every piece begins and ends between two pixels, so that none is interpolated."""
        parts = (np.array(self.piece_px), self.corners, self.inside)
        return all(bool((part == np.rint(part)).all()) for part in parts)

    def touched(self, window_px: Box) -> Integers:
        """Return the pieces that have pixels in a window, in the order that they are painted in."""
        width, height = self.piece_px
        first = np.searchsorted(self.rows, window_px.y - height, side="right")
        end = np.searchsorted(self.rows, window_px.y_end, side="left")
        near = self.by_row[first:end]
        columns = self.corners[near, 0]
        return np.sort(near[(columns > window_px.x - width) & (columns < window_px.x_end)])


def layers_of(index: MrxsIndex) -> Iterator[Layer]:
    """Yield the levels, the finest first."""
    is_taken = _taken(index)
    for level in range(len(index.zooms)):
        yield _layer(index, level, is_taken)


def _taken(index: MrxsIndex) -> NDArray[np.bool_]:
    """Return which photos have an image at level 0, ``(photos,)``; coarser levels show no others.

    Level 0 leaves out photos at the slide's corner that are not its first: they were not taken.
    """
    across, _ = index.scan.photos
    rows, columns = np.divmod(index.records[0][:, 0], index.scan.across)
    photos = rows // index.scan.divisions * across + columns // index.scan.divisions
    is_taken = np.zeros(len(index.corners0), dtype=np.bool_)
    is_taken[photos] = True
    is_taken[1:] &= index.corners0[1:].any(axis=1)
    return is_taken


def _layer(index: MrxsIndex, level: int, is_taken: NDArray[np.bool_]) -> Layer:
    zoom, divisions = index.zooms[level], index.scan.divisions
    photos = max(1, zoom.joined // divisions)  # along a side of an image
    is_cut = index.is_measured or any(index.scan.overlap_px)
    parts = photos if is_cut else 1
    first = np.stack(np.divmod(index.records[level][:, 0], index.scan.across)[::-1], axis=1)
    images, *part = (axis.ravel() for axis in np.indices((len(first), parts, parts)))
    part_of = np.stack(part[::-1], axis=1)  # column and row, (pieces, 2)
    at0 = first[images] + part_of * divisions  # the image of level 0 that a piece begins with
    # OpenSlide's grid: one piece a cell, the last one in the index; later cells lie over earlier ones
    cells = first[images] // (min(zoom.joined, divisions) if is_cut else zoom.joined) + part_of
    size = np.array(zoom.image_px) / parts
    shown = _shown(index, at0, is_taken, together=1 if is_cut else photos)
    order = shown[np.lexsort((cells[shown, 0], cells[shown, 1]))]
    is_last = np.append((np.diff(cells[order], axis=0) != 0).any(axis=1), True)[: len(order)]
    order = order[is_last]
    return Layer(
        image_px=zoom.image_px,
        piece_px=(float(size[0]), float(size[1])),
        images=images[order],
        corners=_corners0(index, at0[order]) / zoom.joined,
        inside=part_of[order] * size,
    )


def _shown(
    index: MrxsIndex, at0: Integers, is_taken: NDArray[np.bool_], *, together: int
) -> Integers:
    """Return the pieces on the slide that show a photo that was taken; each shows some ``together``."""
    across, down = index.scan.photos
    far = ((0, -down % together), (0, -across % together))
    taken = np.pad(is_taken.reshape(down, across), far)
    blocks = taken.reshape(
        taken.shape[0] // together, together, taken.shape[1] // together, together
    )  # (block, row in it, block, column in it)
    shows = np.asarray(blocks.any(axis=(1, 3)))
    is_inside = (at0 < (index.scan.across, index.scan.down)).all(axis=1)
    inside: Integers = np.flatnonzero(is_inside)
    columns, rows = (at0[inside] // (index.scan.divisions * together)).T
    shown: Integers = inside[shows[rows, columns]]
    return shown


def _corners0(index: MrxsIndex, at0: Integers) -> Integers:
    """Return where images of level 0 lie: in their photo, which lies where it was taken."""
    photos, inside = np.divmod(at0, index.scan.divisions)
    number = photos[:, 1] * index.scan.photos[0] + photos[:, 0]
    corners0: Integers = index.corners0[number] + inside * np.array(index.zooms[0].image_px)
    return corners0
