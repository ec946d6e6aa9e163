"""Images of a batch divided by what is done to them, so that a change is made once for all of its images."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

Change: TypeAlias = Callable[[torch.Tensor, NDArray[np.intp]], torch.Tensor]
"""Of images ``(n, …)`` and their places in the batch ``(n,)``; gives as many images."""


def changed_by_group(
    images: list[torch.Tensor], groups: NDArray[np.intp], changes: Mapping[int, Change]
) -> list[torch.Tensor]:
    """Return images in their order, each as the change of its group gives it; others as they are.

    Which images go together is found on the CPU, so that nothing waits for a device. Images are kept one by
    one, as views: what is not changed is not copied.

    Parameters
    ----------
    images
        Of one shape.
    groups
        Number of every image's group, ``(B,)``.
    changes
        By number of the group.
    """
    changed = list(images)
    for number, change in changes.items():
        places = np.flatnonzero(groups == number)
        if len(places):
            made = change(torch.stack([images[place] for place in places]), places)
            for place, image in zip(places, made.unbind(0), strict=True):
                changed[place] = image
    return changed


def on_device(images: torch.Tensor, values: NDArray[np.generic]) -> torch.Tensor:
    """Return numbers of the CPU beside the images; the program does not wait for their way."""
    return torch.from_numpy(values).to(images.device, non_blocking=True)


def per_image(images: torch.Tensor, values: NDArray[np.generic]) -> torch.Tensor:
    """Return a number for every image, ``(n, 1, 1, 1)`` beside the images."""
    return on_device(images, values.reshape(-1, 1, 1, 1))
