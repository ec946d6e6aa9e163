"""What colour pixels have: jitter of stains, noise; colours as optical densities."""

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.groups import on_device, per_image
from wsi_pipeline.augment.spatial import rounded

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities (red, green, blue) of haematoxylin, eosin and DAB, a stain a row (Ruifrok and Johnston,
2001)."""


def densities(images: torch.Tensor) -> torch.Tensor:
    """Return optical densities of uint8 images, float32 of the same shape: 0 is white, 5.5 black.

    ``-ln((value + 1) / 256)``, so that black has one too.
    """
    return images.to(torch.float32).add_(1).mul_(1 / 256).log_().neg_()


def recoloured(
    images: torch.Tensor, matrices: torch.Tensor, shifts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return uint8 images whose densities are multiplied by a matrix each, plus a shift.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``.
    matrices
        float32 ``(B, 3, 3)``: new densities are ``matrix @ density``.
    shifts
        float32 ``(B, 3)``; none if not given.
    """
    old = densities(images)
    new = torch.zeros_like(old)
    for channel in range(3):
        new += matrices[:, :, channel, None, None] * old[:, channel : channel + 1]
    if shifts is not None:
        new += shifts[:, :, None, None]
    return rounded(new.neg_().exp_().mul_(256).sub_(1))


def hed_jittered(images: torch.Tensor, draws: Draws, *, strength: float) -> torch.Tensor:
    """Return uint8 images with more or less of each stain.

    Amounts of haematoxylin, eosin and DAB are multiplied by 1 ± ``strength`` and moved by ± ``strength``,
    uniform and independent (Tellez et al., 2018). The background is moved as well.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``.
    draws
        Of the images, on the CPU.
    strength
        0 leaves them as they are.
    """
    drawn = (draws.uniform("hed", 6).double().numpy() * 2 - 1) * strength
    unmixed = np.linalg.inv(HED)
    matrices = unmixed @ ((1 + drawn[:, :3, None]) * HED)  # (B, 3, 3): row vectors of densities
    matrices = np.ascontiguousarray(matrices.swapaxes(1, 2), np.float32)
    shifts = _row_sums(drawn[:, 3:, None] * HED)
    return recoloured(images, on_device(images, matrices), on_device(images, shifts))


def _row_sums(stains: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(stains.sum(axis=1), np.float32)


def noisy(images: torch.Tensor, draws: Draws, sigmas: NDArray[np.float64]) -> torch.Tensor:
    """Return uint8 images with normal noise on every value.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``.
    draws
        Of the images, on their device.
    sigmas
        Standard deviations in gray levels, ``(B,)``.
    """
    drawn = draws.normal("noise", images[0].numel()).view(images.shape)
    return rounded(drawn * per_image(images, sigmas.astype(np.float32)) + images)
