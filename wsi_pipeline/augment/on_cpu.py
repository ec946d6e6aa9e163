"""UniformAugment's operations on a CPU: image by image, in OpenCV, the same bits as on another device.

A picture of 224 px and what it becomes fit into a core's cache, and OpenCV makes one pass where tensors need
several. Pictures are uint8 ``(H, W, 3)``, contiguous, at most 4096 px a side (32-bit floats count no further
than its pixels); values are those of ``config.OPERATIONS``. What is given is never written to.

Factors are multiples of 1/128, so that every product and sum below is exact in 32-bit floats. OpenCV rounds
to the nearest; 127/256 less makes that rounding down.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil, cos, floor, radians, sin
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.augment.moves import CUTOUT_RGB
from wsi_pipeline.augment.tone import FACTOR_STEPS, GRAY
from wsi_pipeline.geometry import Gray, Rgb

Operation: TypeAlias = Callable[..., Rgb]
"""Of a picture and its values; gives a picture of the same size, maybe the one given."""

_DOWN = -127 / 256
_GRAY_WEIGHTS = np.array([[*GRAY, 1 << 15]], np.float32) / 65536
_LEVELS = np.arange(256)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV from dividing pictures among threads: they are small, and other cores have other work."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def shear_x(picture: Rgb, share: float) -> Rgb:
    """Return a picture whose rows are moved to the left by a share of their height above."""
    below = np.arange(picture.shape[0])
    return _rows_moved(picture, (_fixed(0.5 + share / 2) + below * _fixed(share)) >> 16)


def shear_y(picture: Rgb, share: float) -> Rgb:
    """Return a picture whose columns are moved up by a share of their distance from the left."""
    sheared: Rgb = cv2.transpose(shear_x(cv2.transpose(picture), share))
    return sheared


def _rows_moved(picture: Rgb, moved: NDArray[np.int64]) -> Rgb:
    """Return a picture of which row y begins with its column ``moved[y]``.

    Every row is copied at once from a longer one that has black at both ends.
    """
    height, width, channels = picture.shape
    moved = moved.clip(-width, width)
    edge = int(np.abs(moved).max())
    padded = cv2.copyMakeBorder(picture, 0, 0, edge, edge, cv2.BORDER_CONSTANT)
    length = width * channels
    windows = np.ndarray((padded.size - length + 1, length), np.uint8, padded, strides=(1, 1))
    starts = np.arange(height) * (width + 2 * edge) + edge + moved
    rows: Rgb = windows[starts * channels]
    return rows.reshape(picture.shape)


def translate_x(picture: Rgb, share: float) -> Rgb:
    """Return a picture moved to the left by a share of its width."""
    made = np.zeros_like(picture)
    there, here = _overlap(share, picture.shape[1])
    made[:, there] = picture[:, here]
    return made


def translate_y(picture: Rgb, share: float) -> Rgb:
    """Return a picture moved up by a share of its height."""
    made = np.zeros_like(picture)
    there, here = _overlap(share, picture.shape[0])
    made[there] = picture[here]
    return made


def _overlap(share: float, length: int) -> tuple[slice, slice]:
    """Return where on a line the pixels come to that stay, and where they were."""
    moved = min(max(floor(share * length + 0.5), -length), length)
    return slice(max(-moved, 0), length - max(moved, 0)), slice(
        max(moved, 0), length + min(moved, 0)
    )


def rotate(picture: Rgb, degrees: float) -> Rgb:
    """Return a picture turned about its middle, against the clock."""
    height, width = picture.shape[:2]
    cosine, sine = cos(radians(degrees)), sin(radians(degrees))
    x, y = width / 2, height / 2
    start = _packed(
        _fixed(y - sine * x - cosine * y + 0.5 * (sine + cosine)),
        _fixed(x - cosine * x + sine * y + 0.5 * (cosine - sine)),
    )
    down = start + np.arange(height) * _packed(_fixed(cosine), _fixed(-sine))
    across = np.arange(width) * _packed(_fixed(sine), _fixed(cosine))
    places = (down[:, None] + across).view(np.int32)
    places >>= 16
    return _picked(picture, places.astype(np.int16).reshape(height, width, 2))


def _picked(picture: Rgb, places: NDArray[np.int16]) -> Rgb:
    """Return the pixels at columns and rows ``(H, W, 2)``; black beyond.

    Pixels of four bytes are picked whole, in half the time of three.
    """
    whole = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).view(np.int32)[..., 0]
    picked = cv2.remap(whole, places, None, cv2.INTER_NEAREST)
    found: Rgb = cv2.cvtColor(picked.view(np.uint8).reshape(*whole.shape, 4), cv2.COLOR_RGBA2RGB)
    return found


def _packed(row: int, column: int) -> int:
    """Return two numbers in 64 bits, so that both are added at once; a column comes first in memory.

    Where the column is negative its sign takes one from the row, and the pixel is black whatever its row.
    """
    return (row << 32) + column


def _fixed(number: float) -> int:
    """Return a number times 65 536, rounded."""
    return floor(number * 65536 + 0.5)


def autocontrast(picture: Rgb) -> Rgb:
    """Return a picture of which every channel is stretched from 0 to 255; one of a single value stays."""
    planes = _planes(picture)
    low, high = np.array([cv2.minMaxLoc(plane)[:2] for plane in planes]).T[..., None]
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    offset = np.where(high > low, -low * scale, 0.0)
    tables = (_LEVELS * scale + offset).clip(0, 255)
    return _looked_up(planes, tables.astype(np.uint8))


def invert(picture: Rgb) -> Rgb:
    """Return 255 minus every value."""
    return ~picture


def equalize(picture: Rgb) -> Rgb:
    """Return a picture of which every channel's values are spread over 0 to 255, as evenly as they can be."""
    planes = _planes(picture)
    counts = [cv2.calcHist([plane], [0], None, [256], [0, 256]).ravel() for plane in planes]
    return _looked_up(planes, _evening(np.array(counts).astype(np.int64)))


def _evening(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the table of each row of counts, ``(channels, 256)``, as Pillow's ``equalize``."""
    last = 255 - np.argmax(counts[:, ::-1] > 0, axis=1)
    step = (counts.sum(axis=1) - counts[np.arange(len(counts)), last]) // 255
    before = counts.cumsum(axis=1) - counts  # pixels of lower values
    tables = (before + (step // 2)[:, None]) // np.maximum(step, 1)[:, None]
    return np.where(step[:, None] > 0, tables.clip(max=255), _LEVELS).astype(np.uint8)


def _planes(picture: Rgb) -> Sequence[Gray]:
    """Return red, green and blue, ``(H, W)`` each; given its memory, OpenCV takes a quarter of the time."""
    planes = [np.empty(picture.shape[:2], np.uint8) for _ in range(3)]
    cv2.split(picture, planes)
    return planes


def _looked_up(planes: Sequence[Gray], tables: Iterable[NDArray[np.uint8]]) -> Rgb:
    found = [cv2.LUT(plane, table) for plane, table in zip(planes, tables, strict=True)]
    picture: Rgb = cv2.merge(found)
    return picture


def solarize(picture: Rgb, threshold: float) -> Rgb:
    """Return a picture with values at and above a threshold, from 0 to 256, inverted."""
    above = cv2.threshold(picture, ceil(threshold) - 1, 255, cv2.THRESH_BINARY)[1]
    solarized: Rgb = np.bitwise_xor(picture, above, out=above)
    return solarized


def posterize(picture: Rgb, bits: float) -> Rgb:
    """Return a picture of which every value keeps its highest bits, a number from 1 to 8."""
    return picture & np.uint8(256 - (1 << (8 - floor(bits))))


def brightness(picture: Rgb, factor: float) -> Rgb:
    """Return a picture times a factor: 0 is black, 1 the picture."""
    bright: Rgb = cv2.convertScaleAbs(picture, alpha=_stepped(factor), beta=_DOWN)
    return bright


def contrast(picture: Rgb, factor: float) -> Rgb:
    """Return a picture moved away from its mean gray by a factor: 0 is that gray, 1 the picture."""
    grays = gray(picture)
    mean = int(cv2.sumElems(grays)[0] / grays.size + 0.5)
    factor = _stepped(factor)
    made: Rgb = cv2.addWeighted(picture, factor, picture, 0, (1 - factor) * mean + _DOWN)
    return made


def color(picture: Rgb, factor: float) -> Rgb:
    """Return a picture moved away from gray by a factor: 0 is gray, 1 the picture."""
    return _moved(picture, cv2.cvtColor(gray(picture), cv2.COLOR_GRAY2RGB), factor)


def sharpness(picture: Rgb, factor: float) -> Rgb:
    """Return a picture moved away from a smooth one by a factor: below 1 it is blurred, above 1 sharpened.

    Smooth is the mean of 3 x 3 pixels of which the middle one counts five times; the outermost pixels stay.
    """
    middle = picture.astype(np.uint16)
    middle <<= 2
    total = cv2.boxFilter(picture, cv2.CV_16U, (3, 3), normalize=False)
    total += middle
    smooth = cv2.convertScaleAbs(total, alpha=1 / 13)  # thirteenths are never halves
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smooth[edge] = picture[edge]
    return _moved(picture, smooth, factor)


def gray(picture: Rgb) -> Gray:
    """Return gray ``(H, W)``, rounded; 32-bit floats hold its sums without loss."""
    grays: Gray = cv2.transform(picture.astype(np.float32), _GRAY_WEIGHTS).astype(np.uint8)
    return grays


def _moved(picture: Rgb, start: Rgb, factor: float) -> Rgb:
    """Return ``start + factor * (picture - start)`` rounded down and kept within 0 to 255."""
    factor = _stepped(factor)
    moved: Rgb = cv2.addWeighted(picture, factor, start, 1 - factor, _DOWN)
    return moved


def _stepped(factor: float) -> float:
    return 1 + round((factor - 1) * FACTOR_STEPS) / FACTOR_STEPS


def cutout(picture: Rgb, share: float, x: float, y: float) -> Rgb:
    """Return a picture with a square hole filled with one colour.

    Its side is a share of the width, its middle shares of width and height. What would lie beyond the picture
    is left out.
    """
    height, width = picture.shape[:2]
    side = share * width
    top, left = (floor(max(middle - side / 2, 0)) for middle in (y * height, x * width))
    made = picture.copy()
    made[top : top + floor(side), left : left + floor(side)] = CUTOUT_RGB
    return made


CARRIED_OUT: Mapping[str, Operation] = {
    operation.__name__: operation
    for operation in (
        shear_x,
        shear_y,
        translate_x,
        translate_y,
        rotate,
        autocontrast,
        invert,
        equalize,
        solarize,
        posterize,
        contrast,
        color,
        brightness,
        sharpness,
        cutout,
    )
}
"""Every operation of ``config.OPERATIONS``."""


def unpacked(picture: Rgb) -> Rgb:
    """Return a view ``(H, W, 3)`` of any memory as a contiguous picture, without a copy where it is one."""
    if picture.flags.c_contiguous:
        return picture
    merged: Rgb = cv2.merge([np.ascontiguousarray(picture[..., at]) for at in range(3)])
    return merged


def written(picture: Rgb, place: Rgb) -> None:
    """Write a contiguous picture to a view ``(H, W, 3)`` of any memory."""
    if place.flags.c_contiguous:
        np.copyto(place, picture)
    else:
        for at, plane in enumerate(_planes(picture)):
            place[..., at] = plane
