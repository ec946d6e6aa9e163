"""Class rasters: one whole number per pixel, at any resolution of the slide, read block by block.

A mask lies over the whole canvas of its slide (or over its scanned part). Its finest level is read and
counted pixel by pixel, cut where a footprint cuts a pixel, so the shares are exact.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Boxes, Mask, Size
from wsi_pipeline.labels.cells import Cells, Floats, cells_of, in_turns
from wsi_pipeline.labels.coverage import Shares, shares_of
from wsi_pipeline.remote import seekable

Values: TypeAlias = NDArray[np.integer]
"""A block of a mask, ``(height, width)``."""

ClassValues: TypeAlias = Mapping[str, Sequence[int]]
"""Class to the values that mean it."""

MASK_ENDINGS = (".tif", ".tiff", ".png")
"""Formats that keep values as they are; JPEG changes them."""

MOST_BLOCK_PX = 1 << 28
"""Pixels that are decoded at once: a whole PNG, or a strip or tile of a TIFF; 256 MiB of classes."""

_LOSSY = frozenset({6, 7, 33007, 34892, 50002})  # JPEG old, new, ALT_JPEG, lossy DNG, JPEG-XL
_STRIPE_PX = 512  # rows of a PNG that are summed at once
_STRETCHED = {
    "L;2": 85,
    "L;4": 17,
}  # Pillow gives gray of 2 and 4 bits as 0 to 255: back by this divisor

# Pillow's own limit is for pictures from strangers; MOST_BLOCK_PX is checked here before anything is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some pixels of a mask and where they are."""

    x_px: int
    y_px: int
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFile:
    """A mask that is open."""

    size_px: Size
    blocks: Callable[[], Iterator[Block]]
    """Every pixel once; what a file leaves out is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskShares:
    """What a mask says of tiles."""

    shares: Mapping[str, Shares]
    """By class."""
    pixels: Mapping[int, int]
    """Pixels of the mask by value."""


class UnfitMaskError(ValueError):
    """A file is no class raster of this slide; the message says why."""


def mask_shares(
    path: Path,
    boxes0: Boxes,
    *,
    frame0: Box,
    canvas0: Size,
    values: ClassValues,
    channel: int | None,
) -> MaskShares:
    """Return the share of every footprint that each class of a mask covers.

    Parameters
    ----------
    path
        TIFF or PNG.
    boxes0
        Footprints.
    frame0
        What of the slide the mask shows: its canvas, or its scanned part.
    canvas0
        Size of the slide.
    values
        The values of each class.
    channel
        Of a mask with several, the one that holds values; None for the first where it is the only one
        that says anything.

    Raises
    ------
    SlideError
        The file cannot be read or is no mask of this slide.
    """
    covered = {name: np.zeros(len(boxes0)) for name in values}
    pixels: Counter[int] = Counter()
    try:
        with open_mask(path, channel=channel) as mask:
            check_shape(mask.size_px, frame0)
            for turn, group in enumerate(in_turns(boxes0)):
                cells = cells_of(boxes0[group], canvas0)
                counted = pixels if turn == 0 else Counter[int]()
                areas = mask_areas(mask, cells, frame0=frame0, values=values, pixels=counted)
                for name, area in areas.items():
                    covered[name][group] = cells.sums(area)
    except UnfitMaskError as error:
        raise SlideError(f"mask {path.name}: {error}") from error
    except Exception as error:  # every decoder raises its own
        raise SlideError(f"mask {path.name}: cannot be read ({error})") from error
    shares = {name: shares_of(area, boxes0) for name, area in covered.items()}
    return MaskShares(shares=shares, pixels=dict(sorted(pixels.items())))


def check_shape(size_px: Size, frame0: Box) -> None:
    """Refuse a mask that no single scale makes as large as what it shows, each side rounded by a pixel.

    Raises
    ------
    UnfitMaskError
        There is none; the message gives both sizes.
    """
    sides = ((frame0.width, size_px.width), (frame0.height, size_px.height))
    least = max(side0 / (side + 1) for side0, side in sides)
    most = min(side0 / (side - 1) if side > 1 else np.inf for side0, side in sides)
    if least >= most:
        across, down = (side0 / side for side0, side in sides)
        raise UnfitMaskError(
            f"expected the shape of the slide, {frame0.width} x {frame0.height} px, at any scale, got "
            f"{size_px.width} x {size_px.height} px: 1/{across:.4g} of it across and 1/{down:.4g} down"
        )


def mask_areas(
    mask: MaskFile, cells: Cells, *, frame0: Box, values: ClassValues, pixels: Counter[int]
) -> dict[str, Floats]:
    """Return the area of each class in every cell, ``(rows, columns)``, and count pixels by value."""
    areas = {name: np.zeros(cells.shape) for name in values}
    scale = (frame0.width / mask.size_px.width, frame0.height / mask.size_px.height)
    known = sorted({0, *(value for each in values.values() for value in each)})
    for block in mask.blocks():
        counts = _counts(block.values, known)
        pixels.update(counts)
        meant = {name: counts.keys() & set(wanted) for name, wanted in values.items()}
        if not any(meant.values()) or 0 in cells.shape:
            continue
        columns, xs_px = _met(cells.xs, frame0.x, scale[0], block.x_px, block.values.shape[1])
        rows, ys_px = _met(cells.ys, frame0.y, scale[1], block.y_px, block.values.shape[0])
        for name, wanted in meant.items():
            if wanted:
                by_column = _summed(_is_one_of(block.values, wanted).view(np.uint8), xs_px)
                area_px = _summed(by_column.T, ys_px).T  # (rows, columns) of cells
                areas[name][rows, columns] += area_px * scale[0] * scale[1]
    return areas


def _counts(values: Values, known: Sequence[int]) -> dict[int, int]:
    """Return pixels by value. Comparing with values that are expected is 20 times as fast as sorting."""
    counts = {value: int(np.count_nonzero(values == value)) for value in known}
    if sum(counts.values()) < values.size:
        present, numbers = np.unique(values, return_counts=True)
        return dict(zip(present.tolist(), numbers.tolist(), strict=True))
    return {value: count for value, count in counts.items() if count}


def _is_one_of(values: Values, wanted: Set[int]) -> Mask:
    """Return where a block has one of a few values."""
    first, *others = sorted(wanted)
    inside = values == first
    for value in others:
        inside |= values == value
    return np.asarray(inside, dtype=np.bool_)


def _met(
    edges: Floats, start: int, scale: float, first_px: int, count: int
) -> tuple[slice, Floats]:
    """Return which cells a row of pixels meets, and their edges in pixels of the row, within it."""
    edges_px = (edges - start) / scale - first_px
    first = max(0, int(np.searchsorted(edges_px, 0, side="right")) - 1)
    behind = min(len(edges) - 1, int(np.searchsorted(edges_px, count, side="left")))
    behind = max(first, behind)
    return slice(first, behind), np.clip(edges_px[first : behind + 1], 0, count)


def _summed(values: NDArray[Any], edges_px: Floats) -> Floats:
    """Return the sums of each row between edges, ``(rows, edges - 1)``; a pixel that is cut counts in part.

    Sums by NumPy and not products of matrices: those wait for the threads of other workers.
    """
    whole = np.floor(edges_px).astype(np.intp)
    padded = np.pad(values, ((0, 0), (0, 1)))  # an edge may be the row's end
    kind = np.int64 if values.dtype == np.uint8 else np.float64
    sums = np.add.reduceat(padded, whole, axis=1, dtype=kind)[:, :-1]
    sums = np.where(np.diff(whole) > 0, sums, 0)  # of no pixels at all, reduceat gives the next one
    cut = padded[:, whole] * (edges_px - whole)
    summed: Floats = sums + np.diff(cut, axis=1)
    return summed


@contextmanager
def open_mask(path: Path, *, channel: int | None) -> Iterator[MaskFile]:
    """Give an open mask.

    Raises
    ------
    UnfitMaskError
        It is a picture and no class raster, or cannot be read in blocks.
    """
    if path.suffix.lower() == ".png":
        with Image.open(seekable(path)) as image:
            yield _picture(image, channel)
    else:
        with tifffile.TiffFile(seekable(path)) as tiff:
            yield _tiff(tiff, channel)


def _picture(image: Image.Image, channel: int | None) -> MaskFile:
    width, height = image.size
    if width * height > MOST_BLOCK_PX:
        raise UnfitMaskError(
            f"expected a picture of at most {MOST_BLOCK_PX >> 20} Mpx, got {width} x {height} px; "
            "save it as a tiled TIFF, which is read in blocks"
        )

    told: Any = getattr(
        image, "tile", None
    )  # of a PNG one entry, whose last word is how pixels are packed
    stretched = _STRETCHED.get(str(told[0][3])) if told else None

    def blocks() -> Iterator[Block]:
        pixels = np.asarray(image)  # of a palette the numbers, not the colours
        if stretched is not None:
            pixels = pixels // stretched
        for y_px in range(0, height, _STRIPE_PX):
            rows = pixels[y_px : y_px + _STRIPE_PX]
            yield Block(x_px=0, y_px=y_px, values=_values(rows, channel))

    return MaskFile(size_px=Size(width=width, height=height), blocks=blocks)


def _tiff(tiff: tifffile.TiffFile, channel: int | None) -> MaskFile:
    page: Any = tiff.series[0].levels[0].keyframe  # the finest level
    if int(page.compression) in _LOSSY:
        raise UnfitMaskError(
            f"expected values as they were written, got {page.compression.name}, which changes them; "
            "save it with deflate, LZW or zstd"
        )
    if page.imagedepth != 1 or len(tiff.series[0].shape) > 3 or page.planarconfig != 1:
        raise UnfitMaskError(
            f"expected one plane of whole pixels, got shape {tiff.series[0].shape}"
        )
    if page.dtype is None or page.dtype.kind not in "uib":
        raise UnfitMaskError(f"expected whole numbers, got {page.dtype}")
    across, down = (
        (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    )
    if across * min(down, page.imagelength) > MOST_BLOCK_PX:
        raise UnfitMaskError(
            f"expected tiles or strips of at most {MOST_BLOCK_PX >> 20} Mpx, got {across} x {down} px; "
            "save it as a tiled TIFF"
        )
    size_px = Size(width=int(page.imagewidth), height=int(page.imagelength))
    return MaskFile(size_px=size_px, blocks=lambda: _segments(page, size_px, channel))


def _segments(page: Any, size_px: Size, channel: int | None) -> Iterator[Block]:  # noqa: ANN401
    """Yield the tiles or strips of a page; one that is not stored is 0."""
    for segment, place, shape in page.segments(maxworkers=1):
        y_px, x_px = int(place[-3]), int(place[-2])
        height = min(int(shape[-3]), size_px.height - y_px)
        width = min(int(shape[-2]), size_px.width - x_px)
        if segment is None:
            values: Values = np.zeros((height, width), dtype=np.uint8)
        else:
            values = _values(np.asarray(segment)[0, :height, :width], channel)
        yield Block(x_px=x_px, y_px=y_px, values=values)


def _values(pixels: NDArray[Any], channel: int | None) -> Values:
    """Return one value a pixel, of ``(height, width)`` or ``(height, width, channels)``.

    Raises
    ------
    UnfitMaskError
        Several channels say something, or the one asked for is not there.
    """
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype.kind not in "ui":
        raise UnfitMaskError(f"expected whole numbers, got {pixels.dtype}")
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    if channel is not None:
        if channel >= channels:
            raise UnfitMaskError(f"mask_channel: expected 0 to {channels - 1}, got {channel}")
        return pixels[..., channel]
    first = pixels[..., :1]
    colours = pixels[..., 1 : channels - 1 if channels in {2, 4} else channels]  # less transparency
    if not ((colours == 0) | (colours == first)).all():
        raise UnfitMaskError(
            "expected one number a pixel, got colours; name the channel that holds classes with "
            "mask_channel, or save the mask with one channel"
        )
    return pixels[..., 0]
