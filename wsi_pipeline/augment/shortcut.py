"""Shortcuts in tiles: which tiles of a part carry one, and how it is put into their images.

Both follow from a tile's key and the configuration alone, so that a tile looks the same in every epoch, on
every rank and whenever it is looked at again.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wsi_pipeline.augment.color import HED, recoloured
from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.groups import on_device
from wsi_pipeline.augment.shortcut_config import ShortcutConfig
from wsi_pipeline.augment.spatial import rounded

_KERNEL = 9.0
"""Of the sharpening kernel, 9 in the middle and -1 around: x + 9 (x - mean of 3 x 3)."""


def carriers(
    keys: NDArray[np.uint64], classes: NDArray[np.int64], shares: tuple[float, ...]
) -> NDArray[np.bool_]:
    """Return which tiles carry the shortcut: of each class those with the smallest drawn numbers.

    Their share is exact to half a tile. A tile that carries it by a small share does so by a larger one too.

    Parameters
    ----------
    keys
        Of all tiles of the part, ``(tiles,)``.
    classes
        Number of each one's class, ``(tiles,)``; -1 of a tile without a label, which carries none.
    shares
        Of every class, from 0 to 1.
    """
    drawn = _draws(keys).bits("shortcut share")[:, 0].numpy()
    carries = np.zeros(len(keys), np.bool_)
    for number, share in enumerate(shares):
        of_class = np.flatnonzero(classes == number)
        count = int(np.floor(share * len(of_class) + 0.5))
        order = np.argsort(drawn[of_class], kind="stable")
        carries[of_class[order[:count]]] = True
    return carries


class Shortcut:
    """Puts the shortcut into the images of those tiles of a part that carry it."""

    def __init__(
        self, config: ShortcutConfig, carries: NDArray[np.bool_], keys: NDArray[np.uint64]
    ) -> None:
        """Take whether each row of the part carries it, and its key, both ``(tiles,)``."""
        self.config = config
        self.carries = carries
        self._keys = keys

    def __call__(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return images, those that carry it changed; the ones given stay as they are.

        Parameters
        ----------
        images
            uint8 ``(B, 3, H, W)``, as they are stored, on any device.
        rows
            int64 ``(B,)``: rows of the part; -1 for what only fills a batch up, which carries none.
        """
        numbers = rows.cpu().numpy()
        places = np.flatnonzero((numbers >= 0) & self.carries[numbers])
        if not len(places):
            return images
        marked, chosen = images.clone(), on_device(images, places)
        marked[chosen] = self._marked(images[chosen], self._keys[numbers[places]])
        return marked

    def _marked(self, images: torch.Tensor, keys: NDArray[np.uint64]) -> torch.Tensor:
        if self.config.kind == "cutout":
            return cut_out(images, keys, self.config)
        if self.config.kind == "high_pass":
            return emphasised(images, self.config.strength)
        return restained(images, self.config.strength)


def cut_out(images: torch.Tensor, keys: NDArray[np.uint64], config: ShortcutConfig) -> torch.Tensor:
    """Return uint8 images with squares of one colour, wholly inside, every place equally likely.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``.
    keys
        ``(B,)``: where the squares are follows from them.
    config
        Says how many squares, how large and of what colour.
    """
    height, width = images.shape[2:]
    side = max(1, round(config.size * min(height, width)))
    drawn = _draws(keys).uniform("shortcut place", 2 * config.count).double()
    corners = drawn.view(len(images), config.count, 2)
    room = torch.tensor([height - side + 1, width - side + 1])
    begins = (corners * room).long().to(images.device)  # (B, count, 2)
    inside_rows = _spans(begins[..., 0], side, height)
    inside_columns = _spans(begins[..., 1], side, width)
    inside = (inside_rows[..., :, None] & inside_columns[..., None, :]).any(dim=1)  # (B, H, W)
    color = on_device(images, np.array(config.color, np.uint8).reshape(1, 3, 1, 1))
    return torch.where(inside[:, None], color, images)


def emphasised(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Return uint8 images with more fine detail: x + 9 strength (x - mean of 3 x 3), mirrored at edges.

    That is the mixture (1 - strength) x + strength K x with the study's sharpening kernel K, 9 in the middle
    and -1 around, cut off at 0 and 255 once: what a scanner that sharpens a little does.
    """
    given = images.to(torch.float32)
    around = functional.avg_pool2d(functional.pad(given, (1, 1, 1, 1), mode="reflect"), 3, 1)
    return rounded(given + _KERNEL * strength * (given - around))


def restained(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Return uint8 images with haematoxylin times 1 + strength and eosin times 1 - strength.

    What is white stays white.
    """
    amounts = np.array([1 + strength, 1 - strength, 1.0])
    matrix = (np.linalg.inv(HED) @ (amounts[:, None] * HED)).T.astype(np.float32)
    return recoloured(images, on_device(images, np.ascontiguousarray(matrix)[None]))


def _spans(begins: torch.Tensor, length: int, whole: int) -> torch.Tensor:
    """Return which of ``whole`` places lie in spans that begin somewhere, ``(…, whole)``."""
    places = torch.arange(whole, device=begins.device)
    return (places >= begins[..., None]) & (places < begins[..., None] + length)


def _draws(keys: NDArray[np.uint64]) -> Draws:
    return Draws(torch.from_numpy(keys.view(np.int64)))
