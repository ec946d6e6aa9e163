"""Operations that move pixels, as Pillow's ``transform`` with its nearest neighbour; what comes in is black.

Images are uint8 ``(n, 3, H, W)``, values ``(n, k)``. Places are had in
fixed point with 16 bits below the point, as there, so the same pixels are taken.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wsi_pipeline.augment.groups import on_device
from wsi_pipeline.augment.tone import Values

CUTOUT_RGB = (125, 123, 114)
"""What fills a hole: the mean colour of ImageNet, as in AutoAugment's published policies."""


def shear_x(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images whose rows are moved to the left by a share of their height above."""
    below = np.arange(images.shape[2])
    moved = np.asarray(_fixed(0.5 + values / 2) + below * _fixed(values), np.int64)
    return _rows_moved(images, moved >> 16)


def shear_y(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images whose columns are moved up by a share of their distance from the left."""
    return shear_x(images.mT.contiguous(), values).mT


def translate_x(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images moved to the left by a share of their width."""
    moved = np.floor(values * images.shape[3] + 0.5).astype(np.int64)  # (n, 1)
    return _rows_moved(images, np.broadcast_to(moved, (len(moved), images.shape[2])))


def translate_y(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images moved up by a share of their height."""
    count, channels, height, width = images.shape
    moved = np.floor(values * height + 0.5).astype(np.int64).clip(-height, height)  # (n, 1)
    edge = int(np.abs(moved).max())
    padded = functional.pad(images, (0, 0, edge, edge)).view(-1, width)
    first = np.arange(count * channels).reshape(count, channels) * (height + 2 * edge)
    rows = (first + edge + moved)[..., None] + np.arange(height)
    return padded.index_select(0, on_device(images, rows.ravel())).view(images.shape)


def _rows_moved(images: torch.Tensor, moved: NDArray[np.int64]) -> torch.Tensor:
    """Return images of which row y begins with its column ``moved[:, y]``, ``(n, H)``.

    Every row is copied at once from a longer one that has black at both ends.
    """
    count, channels, height, width = images.shape
    moved = moved.clip(-width, width)
    edge = int(np.abs(moved).max())
    windows = functional.pad(images, (edge, edge)).flatten().unfold(0, width, 1)
    rows = np.arange(count * channels * height).reshape(count, channels, height)
    starts = rows * (width + 2 * edge) + edge + moved[:, None]
    return windows.index_select(0, on_device(images, starts.ravel())).view(images.shape)


def rotate(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images turned about their middle by degrees, against the clock."""
    height, width = images.shape[2:]
    cosine, sine = np.cos(np.radians(values)), np.sin(np.radians(values))
    x, y = width / 2, height / 2
    columns = _line(images, cosine, -sine, x - cosine * x + sine * y)
    rows = _line(images, sine, cosine, y - sine * x - cosine * y)
    return _picked(images, rows, columns)


def _line(images: torch.Tensor, along: Values, across: Values, start: Values) -> torch.Tensor:
    """Return ``along * x + across * y + start`` of every pixel's middle rounded down, ``(n, H, W)`` int32."""
    height, width = images.shape[2:]
    by_row = _fixed(start + 0.5 * (along + across)) + _fixed(across) * np.arange(height)  # (n, H)
    by_column = _fixed(along) * np.arange(width)  # (n, W)
    each = [on_device(images, part.astype(np.int32)) for part in (by_row, by_column)]
    return (each[0][:, :, None] + each[1][:, None]).bitwise_right_shift_(16)


def _picked(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the pixels at rows and columns, both ``(n, H, W)`` int32 and overwritten; black beyond."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (1, 1, 1, 1)).flatten(2)
    places = rows.clamp_(-1, height).add_(1).mul_(width + 2)
    places += columns.clamp_(-1, width).add_(1)
    chosen = places.flatten(1).long()[:, None].expand(-1, images.shape[1], -1)
    return padded.gather(2, chosen).view(images.shape)


def _fixed(numbers: Values) -> NDArray[np.int64]:
    """Return numbers times 65 536, rounded."""
    return np.floor(numbers * 65536 + 0.5).astype(np.int64)


def cutout(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images with a square hole filled with one colour.

    Parameters
    ----------
    images
        As above.
    values
        ``(n, 3)``: side as a share of the width; middle as shares of width and height. What would lie beyond
        the image is left out.
    """
    height, width = images.shape[2:]
    side = values[:, :1] * width
    rows = on_device(images, _within(values[:, 2:] * height, side, height))
    columns = on_device(images, _within(values[:, 1:2] * width, side, width))
    hole = rows[:, None, :, None] & columns[:, None, None, :]  # (n, 1, H, W), 255 in the hole
    fill = on_device(images, np.array(CUTOUT_RGB, np.uint8)).view(1, -1, 1, 1)
    return (images & ~hole).bitwise_or_(hole & fill)


def _within(middle: Values, side: Values, length: int) -> NDArray[np.uint8]:
    """Return 255 where a pixel of a line is in the hole, ``(n, length)``."""
    places = np.arange(length)
    first = np.floor(np.maximum(middle - side / 2, 0))
    inside = (places >= first) & (places < first + np.floor(side))
    return inside.astype(np.uint8) * 255
