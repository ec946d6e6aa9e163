"""Test-time augmentation: a tile is asked turned and mirrored too, and the logits are averaged.

A tile of tissue has no upper side, so what a network says of it should not depend on how it lies. The mean
is of logits, not of probabilities, as a mean of logits keeps the network's own scale of confidence for a
tile on which all views agree; issue 8 leaves the choice open.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch

from wsi_pipeline.train.looking import Ask

View: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

_AXES = (2, 3)
"""Height and width of images ``(B, 3, H, W)``."""


def _turned(images: torch.Tensor, *, turns: int, mirrored: bool) -> torch.Tensor:
    turned = images.rot90(turns, _AXES)
    return turned.flip(_AXES[1]) if mirrored else turned


_QUARTERS = tuple(
    partial(_turned, turns=turns, mirrored=mirrored)
    for mirrored in (False, True)
    for turns in range(4)
)

VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_QUARTERS[0],),
    "flips": tuple(_QUARTERS[number] for number in (0, 2, 4, 6)),
    "d4": _QUARTERS,
}
"""By word: the tile as it is; it, mirrored by either axis and by both; all eight symmetries of a square."""


def views_asked(ask: Ask, tta: str) -> Ask:
    """Return what asks every view of images and gives the mean of the logits.

    Views are made on the images' device and asked one after another: memory is that of one.

    Parameters
    ----------
    ask
        uint8 images ``(B, 3, H, W)`` to logits.
    tta
        A word of ``VIEWS``; of "none", ``ask`` itself is given back.
    """
    views = VIEWS[tta]
    if len(views) == 1:
        return ask

    def asked(images: torch.Tensor) -> torch.Tensor:
        return _mean([ask(_dense(view(images))).float() for view in views])

    return asked


def _dense(images: torch.Tensor) -> torch.Tensor:
    """Return images in the layout in which those of a loader come, as the view of a turned one is not."""
    return images.contiguous(memory_format=torch.channels_last)


def _mean(logits: list[torch.Tensor]) -> torch.Tensor:
    """Return the mean, sorted before it is summed: a turned tile has the same logits in another order."""
    ordered = torch.stack(logits).sort(dim=0).values
    return ordered.mean(dim=0)
