"""Mixup (Zhang et al. 2018) and its asymmetric version (Li et al., TMI 2021), as pure functions of keys.

Which tile is mixed with which, and by how much, follows from the tiles' keys: it does not depend on where in
its batch a tile is.
"""

import functools

import numpy as np
import torch
from scipy.special import betaincinv

from wsi_pipeline.augment.draws import Draws

NODES = 1 << 14
"""Of the table of quantiles, by which shares are within 1e-6 of the exact ones."""


def partners(keys: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the place of the tile that each is mixed with, ``(B,)`` int64.

    Tiles that count form a ring in order of their keys; those of weight 0 are partners of nobody and are
    their own. In a ring of one a tile is mixed with itself.
    """
    counted = weights > 0
    last = torch.iinfo(torch.int64).max
    order = torch.argsort(torch.where(counted, keys, last), stable=True)
    count = counted.sum()
    places = torch.arange(len(keys), device=keys.device)
    following = torch.where(places + 1 < count, places + 1, 0)
    ring = torch.where(places < count, order[following], order)
    return torch.empty_like(order).scatter_(0, order, ring)


def shares(keys: torch.Tensor, a: float, *, most: float = 1.0) -> torch.Tensor:
    """Return each tile's own share of its mixture, ``(B,)`` float32: Beta(a, a) times ``most``."""
    uniform = Draws(keys).uniform("mixup").double()
    upper = uniform > 0.5  # the distribution is symmetric about it
    lower = torch.where(upper, 1 - uniform, uniform)
    table = _quantiles(a, keys.device)
    place = (2 * lower) ** 0.25 * NODES
    node = place.long().clamp(max=NODES - 1)
    value = torch.lerp(table[node], table[node + 1], place - node)
    return (torch.where(upper, 1 - value, value) * most).float()


@functools.lru_cache(maxsize=8)
def _quantiles(a: float, device: torch.device) -> torch.Tensor:
    """Return the lower half of Beta(a, a)'s quantile function, at the probabilities (k / NODES)⁴ / 2.

    Near 0 it is like their root of order a: nodes that are dense there make it straight between them.
    """
    probabilities = np.linspace(0, 1, NODES + 1) ** 4 / 2
    return torch.from_numpy(betaincinv(a, a, probabilities)).to(device)


def mixed_images(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return share x image + (1 - share) x its partner's, ``(B, 3, H, W)``."""
    return torch.lerp(images[partner], images, share.to(images.dtype)[:, None, None, None])


def soft_labels(labels: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return targets mixed as the images are, ``(B, C)``."""
    return torch.lerp(labels[partner], labels, share[:, None])


def rare_labels(soft: torch.Tensor, rare: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return targets of asymmetric mixup, ``(B, C)`` of 0 and 1; a row of zeros has no loss.

    A mixture is of the rare class that has more than ``margin`` of it, and of a common class only if all of
    it is. All else teaches nothing: a common tile with a little of a rare one, two common classes, two rare
    classes.

    Parameters
    ----------
    soft
        ``(B, C)``, from ``soft_labels`` of targets that are 0 or 1.
    rare
        ``(C,)`` bool.
    """
    whole = soft == 1
    raised = (soft > margin) & rare
    found = whole | raised
    return (found & (found.sum(1, keepdim=True) == 1)).to(soft.dtype)
