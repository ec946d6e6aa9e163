"""Images averaged over areas on a device, as OpenCV's ``INTER_AREA`` does on the processor."""

import numpy as np
import torch
from numpy.typing import NDArray

PIECE_BYTES = 1 << 28
"""Of floating-point numbers at a time."""


def area_weights(size_px: int, side_px: int) -> NDArray[np.float32]:
    """Return what share each of ``size_px`` pixels in a row has in each of ``side_px``, ``(side, size)``.

    >>> (area_weights(3, 2) * 3).round().tolist()
    [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    edges = np.arange(side_px + 1) * (size_px / side_px)
    pixels = np.arange(size_px)
    ends = np.minimum(edges[1:, None], pixels + 1)
    begins = np.maximum(edges[:-1, None], pixels)
    shares = np.clip(ends - begins, 0, None) * (side_px / size_px)
    return np.asarray(shares, np.float32)


def averaged(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return images ``(batch, 3, side, side)`` uint8, averaged from ``(batch, 3, size, size)`` uint8.

    Parameters
    ----------
    images
        On any device.
    weights
        Of ``area_weights``, on the same one.
    """
    side_px, size_px = weights.shape
    if side_px == size_px:
        return images
    length = max(1, PIECE_BYTES // (3 * size_px**2 * 4))
    pieces = [_averaged(piece, weights) for piece in images.split(length)]
    return torch.cat(pieces)


def _averaged(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    narrow = images.to(torch.float32) @ weights.T
    return (weights @ narrow).round_().clamp_(0, 255).to(torch.uint8)
