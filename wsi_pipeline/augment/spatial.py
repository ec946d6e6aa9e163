"""Where pixels are: random crops, mirrored and turned images, elastic changes."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.groups import changed_by_group, per_image
from wsi_pipeline.augment.resample import Boxes

ELASTIC_NODES = 4
"""Of a grid's side, as coarse as in U-Net (Ronneberger, Fischer and Brox, 2015), which has 3."""


def crop_boxes(
    draws: Draws, *, side: int, area: tuple[float, float], ratio: tuple[float, float]
) -> Boxes:
    """Return a random part of every square image.

    Its share of the area is uniform; so is the logarithm of its width by height, within what fits into the
    image: nothing is drawn again or cut off. It may begin between two pixels.

    Parameters
    ----------
    draws
        Of the images, on the CPU.
    side
        Of the images, in pixels.
    area
        Least and greatest share.
    ratio
        Least and greatest width by height, 1 between them.
    """
    drawn = draws.uniform("crop", 4).double().numpy()
    share = area[0] + drawn[:, 0] * (area[1] - area[0])
    low, high = np.log(np.maximum(ratio[0], share)), np.log(np.minimum(ratio[1], 1 / share))
    root = np.exp((low + drawn[:, 1] * (high - low)) / 2)
    width, height = (side * np.sqrt(share) * each for each in (root, 1 / root))
    return Boxes(
        top=drawn[:, 2] * np.maximum(side - height, 0),
        left=drawn[:, 3] * np.maximum(side - width, 0),
        height=np.minimum(height, side),
        width=np.minimum(width, side),
    )


def whole_boxes(count: int, *, side: int) -> Boxes:
    """Return the whole of every image."""
    none, all_of_it = np.zeros(count), np.full(count, float(side))
    return Boxes(top=none, left=none, height=all_of_it, width=all_of_it)


def turned(
    images: list[torch.Tensor], draws: Draws, *, flip: bool, quarter_turns: bool
) -> list[torch.Tensor]:
    """Return images mirrored and turned at random; no pixel is lost or changed.

    With both, all eight ways of laying a square down are equally likely.
    """
    turns = (draws.uniform("turns").numpy() * 4).astype(np.intp) * quarter_turns
    mirrored = (draws.uniform("flip").numpy() < 0.5) & flip
    ways = {way: partial(_laid, way % 4, way >= 4) for way in range(1, 8)}
    return changed_by_group(images, turns + 4 * mirrored, ways)


def _laid(
    turns: int,
    mirrored: bool,  # noqa: FBT001  of partial
    images: torch.Tensor,
    _: NDArray[np.intp],
) -> torch.Tensor:
    return torch.rot90(images.flip(3) if mirrored else images, turns, (2, 3))


def elastic(images: torch.Tensor, draws: Draws, *, px: float) -> torch.Tensor:
    """Return uint8 images ``(B, 3, H, W)`` drawn out of shape.

    The nodes of a coarse grid are moved by normal numbers of standard deviation ``px``, what lies between
    them by cubic interpolation; pixels are interpolated linearly, and mirrored beyond the edge.
    """
    count, _, height, width = images.shape
    moved = draws.normal("elastic", 2 * ELASTIC_NODES**2).view(count, 2, *[ELASTIC_NODES] * 2)
    size = torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)  # a side is 2 long there
    coarse = (moved * size * px).to(images.device, non_blocking=True)
    fine = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    places = fine.permute(0, 2, 3, 1) + _middles(images)
    made = functional.grid_sample(
        images.to(torch.float32), places, padding_mode="reflection", align_corners=False
    )
    return rounded(made)


def _middles(images: torch.Tensor) -> torch.Tensor:
    """Return the middles of pixels, ``(H, W, 2)``: x and y from -1 to 1 from edge to edge."""
    sides = [
        (torch.arange(length, device=images.device) * 2 + 1) / length - 1
        for length in images.shape[2:]
    ]
    y, x = torch.meshgrid(*sides, indexing="ij")
    return torch.stack((x, y), dim=-1)


def blurred(images: torch.Tensor, sigmas: NDArray[np.float64], *, most: float) -> torch.Tensor:
    """Return uint8 images after a Gaussian blur, mirrored beyond the edge.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``.
    sigmas
        Standard deviations in pixels, ``(B,)``.
    most
        The greatest that there may be: three times that is how far the blur reaches.
    """
    radius = min(int(np.ceil(3 * most)), min(images.shape[2:]) - 1)
    shares = _bells(sigmas, radius)
    made = images.to(torch.float32)
    pad: Callable[..., torch.Tensor] = partial(functional.pad, mode="reflect")
    made = _weighted(pad(made, (0, 0, radius, radius)), shares, dim=2)
    return rounded(_weighted(pad(made, (radius, radius, 0, 0)), shares, dim=3))


def _bells(sigmas: NDArray[np.float64], radius: int) -> NDArray[np.float32]:
    """Return a normal distribution's shares of 2 radius + 1 pixels, ``(B, pixels)``."""
    far = np.arange(-radius, radius + 1) / np.maximum(sigmas, 1e-3)[:, None]
    heights = np.exp(-0.5 * far**2)
    return np.asarray(heights / heights.sum(axis=1, keepdims=True), np.float32)


def _weighted(images: torch.Tensor, shares: NDArray[np.float32], *, dim: int) -> torch.Tensor:
    length = images.shape[dim] - shares.shape[1] + 1
    made = torch.zeros_like(images.narrow(dim, 0, length))
    for at in range(shares.shape[1]):
        made += images.narrow(dim, at, length) * per_image(images, shares[:, at].copy())
    return made


def rounded(images: torch.Tensor) -> torch.Tensor:
    """Return float images as uint8, kept within 0 to 255."""
    return images.round_().clamp_(0, 255).to(torch.int16).to(torch.uint8)
