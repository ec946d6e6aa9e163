"""Stain normalisation: every image's colours brought to those of one reference, in training and test alike.

It is part of a network's input and not of its random changes. Each image is normalised by itself, on the
device where it is; one with too little tissue stays as it is.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from wsi_pipeline.augment.color import densities, recoloured
from wsi_pipeline.augment.groups import on_device
from wsi_pipeline.augment.spatial import rounded
from wsi_pipeline.errors import ConfigError

Normalizer: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Of uint8 images ``(B, 3, H, W)``; gives as many, uint8."""

LEAST_DENSITY = 0.15
"""Of tissue: all channels in ``macenko`` (its beta), their mean in ``reinhard``."""
LEAST_TISSUE = 0.02
"""Share of an image's pixels that must be tissue."""
SAMPLED_PX = 64
"""Side of the grid of pixels that stains are estimated from, at the most about."""

REFERENCE_STAINS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
"""Densities of haematoxylin and eosin, a stain a row, that published Macenko implementations refer to."""
REFERENCE_AMOUNTS = np.array([1.9705, 1.0308])
"""99th percentiles of their amounts, likewise."""
REFERENCE_MEANS = np.array([-0.5472, -0.0726, 0.0219])
REFERENCE_SPREADS = np.array([0.3162, 0.0489, 0.0145])
"""Means of ``tissue_statistics`` over 5969 of 6000 training tiles of PatchCamelyon; others lack tissue."""

_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
"""Responses of the eye's cones to red, green and blue (Reinhard et al., 2001, equation 4)."""
_OPPONENT = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
"""Their logarithms to the axes l, alpha and beta (equation 6)."""


def normalizer(method: str) -> Normalizer:
    """Return what normalises images.

    Raises
    ------
    ConfigError
        There is no such method.
    """
    methods: dict[str, Normalizer] = {"macenko": macenko, "reinhard": reinhard}
    if method not in methods:
        raise ConfigError(f"stain: expected {' or '.join(methods)}, got {method!r}")
    return methods[method]


def macenko(images: torch.Tensor) -> torch.Tensor:
    """Return images whose two stains have the colours and amounts of the reference.

    Macenko et al. (2009): the plane of the two largest directions of tissue's densities; the stains are at
    the 1st and 99th percentiles of its angles; amounts are scaled by their 99th percentiles. What is not in
    that plane is left out. Where two stains cannot be told apart, the image stays as it is.
    """
    if not len(images):
        return images
    found = densities(sampled(images)).flatten(2).double()  # (B, 3, pixels)
    tissue = (found > LEAST_DENSITY).all(dim=1)
    stains = _stains(found, tissue)
    unmixing = _pseudo_inverse(stains)
    amounts = percentile(unmixing @ found, tissue[:, None], 0.99)  # (B, 2)
    usable = (
        _enough(tissue) & torch.isfinite(unmixing).all(dim=(1, 2)) & (amounts > 0.01).all(dim=1)
    )
    reference, wanted = (
        on_device(images, each) for each in (REFERENCE_STAINS.T, REFERENCE_AMOUNTS)
    )
    matrices = reference @ ((wanted / amounts)[..., None] * unmixing)  # (B, 3, 3)
    changed = recoloured(images, torch.where(usable[:, None, None], matrices, 0.0).float())
    return torch.where(usable[:, None, None, None], changed, images)


def _stains(found: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
    """Return the densities of haematoxylin and eosin of every image, ``(B, 3, 2)``, as unit vectors."""
    plane = _plane(found, tissue)  # (B, 3, 2)
    along = plane.mT @ found  # (B, 2, pixels)
    angles = torch.atan2(along[:, 1], along[:, 0])
    ends = [percentile(angles, tissue, share) for share in (0.01, 0.99)]
    stains = torch.stack(
        [plane @ torch.stack((end.cos(), end.sin()), dim=1)[..., None] for end in ends], dim=1
    )[..., 0]  # (B, 2, 3)
    swapped = stains[:, :1, 0] < stains[:, 1:, 0]  # haematoxylin takes more of the red
    return torch.where(swapped[..., None], stains.flip(1), stains).mT


def _plane(found: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
    """Return the two directions in which tissue's densities spread most, ``(B, 3, 2)``, the larger first."""
    count = tissue.sum(dim=1).clamp(min=2)[:, None, None]
    weights = tissue[:, None].double()
    centred = (found - (found * weights).sum(dim=2, keepdim=True) / count) * weights
    spread = centred @ centred.mT / (count - 1)
    directions = torch.linalg.eigh(spread).eigenvectors.flip(2)[:, :, :2]
    return directions * torch.where(directions[:, :1] < 0, -1.0, 1.0)


def _pseudo_inverse(stains: torch.Tensor) -> torch.Tensor:
    """Return what gives amounts of densities, ``(B, 2, 3)``; not finite where stains are alike."""
    products = stains.mT @ stains
    (a, b), (c, d) = ((products[:, row, 0], products[:, row, 1]) for row in (0, 1))
    determinant = (a * d - b * c).view(-1, 1, 1)
    adjugate = torch.stack((d, -b, -c, a), dim=1).view(-1, 2, 2)
    inverse = adjugate / torch.where(determinant > 1e-4, determinant, torch.nan)
    return inverse @ stains.mT


def percentile(values: torch.Tensor, chosen: torch.Tensor, share: float) -> torch.Tensor:
    """Return a percentile of the chosen ones of the last axis, the nearest below; of none, infinity."""
    ordered = torch.where(chosen, values, torch.inf).sort(dim=-1).values
    place = ((chosen.sum(dim=-1) - 1).clamp(min=0) * share).long()
    return ordered.gather(-1, place.expand(values.shape[:-1])[..., None])[..., 0]


def reinhard(images: torch.Tensor) -> torch.Tensor:
    """Return images whose tissue has the means and standard deviations of the reference in l-alpha-beta.

    Reinhard et al. (2001), of and for tissue alone: what is background stays as it is, and how much of it
    there is has no effect.
    """
    if not len(images):
        return images
    axes = on_device(images, _OPPONENT).float()
    means, spreads, usable = tissue_statistics(images)
    wanted = [on_device(images, each) for each in (REFERENCE_MEANS, REFERENCE_SPREADS)]
    scale = torch.where(usable[:, None], wanted[1] / spreads, 1.0)
    shift = torch.where(usable[:, None], wanted[0] - means * scale, 0.0)
    moved = _times(axes, _cone_logs(images))
    moved = moved * scale.float()[..., None, None] + shift.float()[..., None, None]
    changed = rounded(_from_opponent(moved).mul_(256).sub_(1))
    tissue = _is_tissue(images) & usable[:, None, None, None]
    return torch.where(tissue, changed, images)


def tissue_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return means and standard deviations of tissue in l-alpha-beta, ``(B, 3)``, and which can be used."""
    few = sampled(images)
    axes = on_device(images, _OPPONENT).float()
    values = _times(axes, _cone_logs(few)).flatten(2).double()
    tissue = _is_tissue(few).flatten(2)  # (B, 1, pixels)
    count = tissue.sum(dim=2).clamp(min=1)
    means = (values * tissue).sum(dim=2) / count
    apart = (values - means[..., None]) * tissue
    spreads = (apart.square().sum(dim=2) / count).sqrt()
    return means, spreads, _enough(tissue[:, 0]) & (spreads > 1e-3).all(dim=1)


def _is_tissue(images: torch.Tensor) -> torch.Tensor:
    return densities(images).mean(dim=1, keepdim=True) > LEAST_DENSITY


def _enough(tissue: torch.Tensor) -> torch.Tensor:
    return tissue.sum(dim=1) >= max(2, LEAST_TISSUE * tissue.shape[1])


def sampled(images: torch.Tensor) -> torch.Tensor:
    """Return every n-th row and column of images, so that about ``SAMPLED_PX`` are left."""
    step = max(1, images.shape[2] // SAMPLED_PX)
    return images[:, :, ::step, ::step]


def _cone_logs(images: torch.Tensor) -> torch.Tensor:
    """Return logarithms to the base of 10 of the cones' responses to values from 1/256 to 1."""
    cones = on_device(images, _LMS).float()
    return _times(cones, (images.to(torch.float32) + 1) / 256).log10()


def _from_opponent(values: torch.Tensor) -> torch.Tensor:
    """Return red, green and blue from 1/256 to 1 of l, alpha and beta."""
    logs, cones = (on_device(values, np.linalg.inv(each)).float() for each in (_OPPONENT, _LMS))
    return _times(cones, 10 ** _times(logs, values))


def _times(matrix: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return ``matrix @ value`` of every pixel of ``(B, 3, H, W)``."""
    made = matrix[:, 0, None, None] * values[:, :1]
    for channel in (1, 2):
        made = made + matrix[:, channel, None, None] * values[:, channel : channel + 1]
    return made
