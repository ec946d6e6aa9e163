"""Operations on tones and colours, as Pillow's: every value is computed as there, in whole numbers.

Images are uint8 ``(n, 3, H, W)``, values float64 ``(n, k)`` on the CPU, one row per image.
"""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.groups import per_image

Values: TypeAlias = NDArray[np.float64]
"""What is drawn for images: ``(n, k)``, one row per image."""

GRAY = (19595, 38470, 7471)
"""Weights of red, green and blue in gray times 65 536, as Pillow's ``convert("L")`` (ITU-R BT.601)."""

FACTOR_STEPS = 128
"""Factors are multiples of 1/128: then 16 bits hold every product, and Pillow's floats are exact."""


def autocontrast(images: torch.Tensor, _: Values) -> torch.Tensor:
    """Return images of which every channel is stretched from 0 to 255; one of a single value stays.

    In 64-bit floats as in Pillow's table: in shorter ones, every tenth table would differ, and dividing a
    number by a tensor multiplies by its reciprocal, which rounds twice.
    """
    values = images.flatten(2)
    low, high = values.amin(2).double(), values.amax(2).double()
    scale = torch.where(high > low, torch.full_like(high, 255).div_(high - low), 1.0)
    offset = torch.where(high > low, -low * scale, 0.0)
    stretched = images.double().mul_(scale[..., None, None]).add_(offset[..., None, None])
    return stretched.to(torch.int16).to(torch.uint8)


def invert(images: torch.Tensor, _: Values) -> torch.Tensor:
    """Return 255 minus every value."""
    return ~images


def equalize(images: torch.Tensor, _: Values) -> torch.Tensor:
    """Return images of which every channel's values are spread evenly over 0 to 255, as far as they can."""
    channels = len(images) * images.shape[1]
    starts = torch.arange(0, channels * 256, 256, dtype=torch.int32, device=images.device)
    places = images.view(channels, -1).to(torch.int32).add_(starts[:, None]).flatten()
    tables = _evening(counts_of(places, channels * 256).view(channels, 256))
    return tables.flatten().index_select(0, places).view(images.shape)


def counts_of(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """Return how often each of 0 to ``count`` - 1 is among numbers, int64."""
    if numbers.device.type == "cpu":
        return torch.bincount(numbers, minlength=count)
    return added_counts(numbers, count)  # bincount would make the program wait for the device


def added_counts(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """Return the same as ``counts_of`` without waiting for a device."""
    counts = torch.zeros(count, dtype=torch.int64, device=numbers.device)
    return counts.scatter_add_(0, numbers.long(), torch.ones_like(numbers, dtype=torch.int64))


def _evening(counts: torch.Tensor) -> torch.Tensor:
    """Return the table ``(channels, 256)`` uint8 of each row of counts, as Pillow's ``equalize``."""
    values = torch.arange(256, device=counts.device)
    last = torch.where(counts > 0, values, 0).amax(1, keepdim=True)
    step = (counts.sum(1, keepdim=True) - counts.gather(1, last)).div_(255, rounding_mode="floor")
    before = counts.cumsum(1).sub_(counts)  # pixels of lower values
    table = (step.div(2, rounding_mode="floor") + before).div_(
        step.clamp(min=1), rounding_mode="floor"
    )
    return torch.where(step > 0, table.clamp_(max=255), values).to(torch.uint8)


def solarize(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images with values at and above a threshold, from 0 to 256, inverted."""
    highest = per_image(images, np.clip(np.ceil(values) - 1, 0, 255).astype(np.uint8))
    above = torch.maximum(images, highest).sub_(highest).clamp_(max=1).mul_(255)
    all_of_it = per_image(images, np.where(values <= 0, 255, 0).astype(np.uint8))
    return above.bitwise_or_(all_of_it).bitwise_xor_(images)


def posterize(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images of which every value keeps its highest bits, a number from 1 to 8."""
    kept = 256 - 2.0 ** (8 - np.floor(values))
    return images & per_image(images, kept.astype(np.uint8))


def brightness(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images times a factor: 0 is black, 1 the image."""
    from_black = images.to(torch.int16)
    return _moved(images, from_black, _steps(images, values))


def contrast(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images moved away from their mean gray by a factor: 0 is that gray, 1 the image."""
    total = gray(images).sum((1, 2), dtype=torch.int64)
    pixels = images.shape[2] * images.shape[3]
    mean = (total.double() / pixels + 0.5).to(torch.int16).view(-1, 1, 1, 1)
    from_gray = images.to(torch.int16).sub_(mean)
    return _moved(images, from_gray, _steps(images, values))


def color(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images moved away from gray by a factor: 0 is gray, 1 the image."""
    from_gray = images.to(torch.int16).sub_(gray(images)[:, None])
    return _moved(images, from_gray, _steps(images, values))


def sharpness(images: torch.Tensor, values: Values) -> torch.Tensor:
    """Return images moved away from smooth ones by a factor: below 1 they are blurred, above 1 sharpened.

    Smooth is the mean of 3 x 3 pixels of which the middle one counts five times; the outermost pixels stay.
    """
    wide = images.to(torch.int16)
    from_smooth = torch.zeros_like(wide)
    torch.sub(wide[:, :, 1:-1, 1:-1], _smooth(wide), out=from_smooth[:, :, 1:-1, 1:-1])
    return _moved(images, from_smooth, _steps(images, values))


def _smooth(images: torch.Tensor) -> torch.Tensor:
    """Return means of 3 x 3 pixels, ``(n, 3, H - 2, W - 2)`` int16, rounded."""
    rows = images[:, :, :-2] + images[:, :, 1:-1]
    rows += images[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1]
    total += rows[..., 2:]
    total.add_(images[:, :, 1:-1, 1:-1], alpha=4)
    return total.to(torch.float32).mul_(1 / 13).add_(0.5).to(torch.int16)


def gray(images: torch.Tensor) -> torch.Tensor:
    """Return gray ``(n, H, W)`` int16, rounded; 32-bit floats hold its sums without loss."""
    planes = images.to(torch.float32)
    total = planes[:, 0] * GRAY[0]
    total.add_(planes[:, 1], alpha=GRAY[1]).add_(planes[:, 2], alpha=GRAY[2])
    return total.add_(1 << 15).mul_(2.0**-16).to(torch.int16)


def _moved(images: torch.Tensor, change: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return ``images + change * steps / 128`` rounded down and kept within 0 to 255.

    ``change`` and ``steps`` are int16; ``change`` is overwritten, as new memory is slower than arithmetic.
    """
    moved = change.mul_(steps).bitwise_right_shift_(7)
    return moved.add_(images).clamp_(0, 255).to(torch.uint8)


def _steps(images: torch.Tensor, factors: Values) -> torch.Tensor:
    """Return how far factors are from 1 in steps of 1/128, int16 beside the images."""
    return per_image(images, np.rint((factors - 1) * FACTOR_STEPS).astype(np.int16))
