"""Parts of images brought to another size: averaged over areas where they shrink, linear where they grow.

A new pixel is the mean over a box as wide as itself in the image, or as wide as a pixel of the image if that
is wider. So sharpness changes steadily with the size, and the whole image at its own size is left as it is.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.groups import on_device

BLOCK = 4
"""Images at a time on a CPU, so that what lies between two steps stays in a core's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """A part of every image, in pixels from its upper left corner, ``(B,)`` each."""

    top: NDArray[np.float64]
    left: NDArray[np.float64]
    height: NDArray[np.float64]
    width: NDArray[np.float64]

    def part(self, start: int, stop: int) -> Self:
        """Return those of the images from ``start`` to before ``stop``."""
        each = {
            name: getattr(self, name)[start:stop] for name in ("top", "left", "height", "width")
        }
        return type(self)(**each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """Which rows of an image make a new one, and what share each has."""

    places: NDArray[np.int64]
    """``(B, new, taps)``."""
    shares: NDArray[np.float32]
    """``(B, new, taps)``; they add up to 1."""


def taps_of(
    start: NDArray[np.float64], length: NDArray[np.float64], *, size: int, new: int
) -> Taps:
    """Return what ``new`` pixels are made of that cover a part of a line of ``size`` pixels.

    Beyond its ends the line goes on with its last pixel. Images that need fewer taps than others have some of
    share 0, which add nothing, to the bit.
    """
    step = (length / new)[:, None]
    wide = np.maximum(step, 1.0)
    low = start[:, None] + (np.arange(new) + 0.5) * step - wide / 2  # (B, new)
    first = np.floor(low)
    pixels = first[..., None] + np.arange(int(np.ceil(wide.max())) + 1)  # (B, new, taps)
    within = np.minimum(pixels + 1, (low + wide)[..., None]) - np.maximum(pixels, low[..., None])
    shares = (np.clip(within, 0, None) / wide[..., None]).astype(np.float32)
    return Taps(places=pixels.clip(0, size - 1).astype(np.int64), shares=shares)


def resampled(images: torch.Tensor, boxes: Boxes, image_px: int) -> torch.Tensor:
    """Return parts of uint8 images ``(B, 3, H, W)`` at another size, ``(B, 3, image_px, image_px)`` uint8."""
    block = BLOCK if images.device.type == "cpu" else len(images)
    blocks = range(0, len(images), block)
    made = [
        _resampled(images[at : at + block], boxes.part(at, at + block), image_px) for at in blocks
    ]
    return torch.cat(made) if len(made) > 1 else made[0]


def _resampled(images: torch.Tensor, boxes: Boxes, image_px: int) -> torch.Tensor:
    count, channels, height, width = images.shape
    down = taps_of(boxes.top, boxes.height, size=height, new=image_px)
    across = taps_of(boxes.left, boxes.width, size=width, new=image_px)
    lines = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    rows = _new_rows(lines, down).view(count, image_px, width, channels)
    columns = rows.permute(0, 2, 3, 1).reshape(count, width, channels * image_px)
    made = _new_rows(columns, across).add_(0.5).to(torch.int16).to(torch.uint8)
    return made.view(count, image_px, channels, image_px).permute(0, 2, 3, 1).contiguous()


def _new_rows(lines: torch.Tensor, taps: Taps) -> torch.Tensor:
    """Return rows ``(B, new, R)`` float32 of ``(B, H, R)``; one tap after another, so in the same order."""
    count, height, length = lines.shape
    starts = np.arange(count)[:, None] * height
    new = taps.places.shape[1]
    made = torch.zeros((count, new, length), dtype=torch.float32, device=lines.device)
    for tap in range(taps.places.shape[2]):
        chosen = on_device(lines, (taps.places[:, :, tap] + starts).ravel())
        rows = lines.view(-1, length).index_select(0, chosen).view(count, new, length)
        made += rows.to(torch.float32).mul_(
            on_device(lines, taps.shares[:, :, tap : tap + 1].copy())
        )
    return made
