"""Graded changes of images on the device where they are; what each is called: ``shift_config.SHIFTS``.

An image's change depends on its pixels, the level and, for noise, its key alone. Blurring and sharpening
compute in whole numbers, or in floats that hold them, so that every device gives the same bits.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment import tone
from wsi_pipeline.augment.color import HED, noisy, recoloured
from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.groups import on_device
from wsi_pipeline.augment.resample import resampled
from wsi_pipeline.augment.spatial import rounded, whole_boxes
from wsi_pipeline.evaluate.sweep.shift_config import shift_of
from wsi_pipeline.store.codec import decode_tile, encode_tile

Change: TypeAlias = Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]
"""Of uint8 images ``(B, 3, H, W)``, a level, and the images' keys; gives as many images."""

CPU_BYTES, DEVICE_BYTES = 1 << 22, 1 << 27
"""Of images that are changed at a time: what lies between two steps takes about twenty times as much."""

GRAY = (9798, 19235, 3735)
"""Weights of red, green and blue in gray times 32 768, as OpenCV's ``COLOR_RGB2GRAY`` for 8 bits."""


def shifted(images: torch.Tensor, shift: str, level: float, keys: torch.Tensor) -> torch.Tensor:
    """Return changed images, uint8 like those given; at the clean level they are those given.

    Parameters
    ----------
    images
        uint8 ``(B, 3, H, W)``, square, in any memory format, on any device.
    shift
        Name in ``SHIFTS``.
    level
        How far.
    keys
        int64 ``(B,)``: noise is drawn from them.

    Raises
    ------
    ConfigError
        There is no such change.
    """
    kind = shift_of(shift)
    if level == kind.clean or not images.numel():
        return images
    change = CHANGES[shift]
    parts = zip(pieces(images), pieces(images, keys), strict=True)
    return torch.cat([change(part, level, of_part) for part, of_part in parts])


def pieces(images: torch.Tensor, along: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """Return images in pieces of bounded size, or what else there is one of for each image."""
    most = CPU_BYTES if images.device.type == "cpu" else DEVICE_BYTES
    length = max(1, most // max(1, images[0].numel()))
    split: tuple[torch.Tensor, ...] = (images if along is None else along).split(length)
    return split


def sharpness(images: torch.Tensor) -> torch.Tensor:
    """Return the variance of each image's Laplacian in squared grey levels, float64 ``(B,)``.

    Of gray as OpenCV makes it, 4 neighbours, mirrored beyond the edge: ``tiles.metrics.laplacian_variance``
    of every image, sums of whole numbers too.
    """
    if not len(images):
        return torch.empty(0, dtype=torch.float64, device=images.device)
    return torch.cat([_sharpness(part) for part in pieces(images)])


def _sharpness(images: torch.Tensor) -> torch.Tensor:
    planes = images.to(torch.float32)
    total = planes[:, 0] * GRAY[0] + planes[:, 1] * GRAY[1] + planes[:, 2] * GRAY[2]
    gray = total.add_(1 << 14).mul_(2.0**-15).to(torch.int32)
    wide = _mirrored(gray, 1, 1)
    middle = wide[:, 1:-1, 1:-1]
    around = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    laplacian = around.sub_(middle, alpha=4).flatten(1)
    pixels = laplacian.shape[1]
    mean = laplacian.sum(1).double() / pixels
    return laplacian.square_().sum(1).double() / pixels - mean**2


def box_blur(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return the mean over n x n pixels around each, mirrored beyond the edge (OpenCV's reflect101).

    Of even n over those from n / 2 before to n / 2 - 1 after it, as ``cv2.blur`` takes them: the image moves
    by half a pixel. Sharpness falls from every n to the next.
    """
    n = int(level)
    return _box_blurred(images, n, is_centred=n % 2 == 1)


def box_blur_centred(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return the same, of even n over n + 1 pixels of which the first and the last count half.

    Nothing moves, but both means of neighbours leave less of the finest structure than the next odd n.
    """
    return _box_blurred(images, int(level), is_centred=True)


def _box_blurred(images: torch.Tensor, n: int, *, is_centred: bool) -> torch.Tensor:
    is_doubled = is_centred and n % 2 == 0
    after = n // 2 if is_centred else (n - 1) // 2
    sums = _mirrored(images, n // 2, after).to(torch.int32)
    for dim in (2, 3):
        sums = _box_sums(sums, n, dim=dim)
        if is_doubled:
            length = sums.shape[dim] - 1
            sums = sums.narrow(dim, 0, length) + sums.narrow(dim, 1, length)
    count = n * n * (4 if is_doubled else 1)
    # Halves go up; a quarter of a step more, so that no rounding of the quotient takes one down.
    mean = sums.to(torch.float32).mul_(1 / count).add_(0.5 + 1 / (4 * count))
    return mean.to(torch.uint8)


def _box_sums(values: torch.Tensor, n: int, *, dim: int) -> torch.Tensor:
    """Return sums of n neighbours along a dimension; its length is n - 1 less."""
    length = values.shape[dim] - n + 1
    totals = values.cumsum(dim, dtype=torch.int32)
    sums = totals.narrow(dim, n - 1, length).clone()
    sums.narrow(dim, 1, length - 1).sub_(totals.narrow(dim, 0, length - 1))
    return sums


def sharpen(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return ``(1 - a) x + a clip(K x)`` with K of ``filtered``: the sharpened image is an image itself."""
    change = filtered(images).clamp_(0, 255).sub_(images)
    return rounded(change.to(torch.float32).mul_(level).add_(images))


def sharpen_kernel(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return ``clip((1 - a) x + a K x)``: the image filtered once with ``(1 - a) identity + a K``."""
    change = filtered(images).sub_(images)
    return rounded(change.to(torch.float32).mul_(level).add_(images))


def filtered(images: torch.Tensor) -> torch.Tensor:
    """Return int16 images of which every pixel is 9 times itself less its 8 neighbours: -2040 to 2295."""
    wide = _mirrored(images, 1, 1).to(torch.int16)
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    return around.neg_().add_(images, alpha=10)


def jpeg(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return images that have been JPEGs, as ``tile`` would store them.

    libjpeg-turbo on the processor, an image a thread: images on another device go there and back.
    """
    once_more = partial(_once_more, codec=f"jpeg:{int(level)}")
    given = images.permute(0, 2, 3, 1).cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        made = np.stack(list(threads.map(once_more, given)))
    return torch.from_numpy(made).permute(0, 3, 1, 2).to(images.device)


def _once_more(rgb: NDArray[np.uint8], *, codec: str) -> NDArray[np.uint8]:
    data = encode_tile(np.ascontiguousarray(rgb), codec)
    return decode_tile(data, codec, tile_size=len(rgb))


def gamma(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return ``255 (x / 255)^g``, rounded, from a table."""
    table = np.rint(255 * (np.arange(256) / 255) ** level).astype(np.uint8)
    return on_device(images, table)[images.to(torch.int32)]


def hed(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return images with haematoxylin times 1 + s and eosin times 1 - s (Ruifrok and Johnston, 2001)."""
    matrix = on_device(images, _stain_matrix(level))
    return recoloured(images, matrix.expand(len(images), 3, 3))


@cache
def _stain_matrix(level: float) -> NDArray[np.float32]:
    """Return what densities are multiplied by, as columns."""
    amounts = np.diag([1 + level, 1 - level, 1])
    return np.ascontiguousarray((np.linalg.inv(HED) @ amounts @ HED).T, np.float32)


def resolution(images: torch.Tensor, level: float, _: torch.Tensor) -> torch.Tensor:
    """Return images averaged to a side divided by the factor, rounded, and linearly interpolated back."""
    side = images.shape[2]
    small_px = max(1, round(side / level))
    small = resampled(images, whole_boxes(len(images), side=side), small_px)
    return resampled(small, whole_boxes(len(images), side=small_px), side)


def noise(images: torch.Tensor, level: float, keys: torch.Tensor) -> torch.Tensor:
    """Return images with normal noise; a tile's noise at two levels differs by a factor."""
    return noisy(images, Draws(keys, images.device), np.full(len(images), level))


def _toned(change: Callable[[torch.Tensor, tone.Values], torch.Tensor]) -> Change:
    return lambda images, level, _: change(images, np.full((len(images), 1), level))


def _mirrored(values: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Return values with so many more before and after the last two dimensions, mirrored about the edge.

    Several times where an image is smaller than that, so that there is none that cannot be changed.
    """
    for dim in (-2, -1):
        places = on_device(values, _places(values.shape[dim], before, after))
        values = values.index_select(dim, places)
    return values


@cache
def _places(size: int, before: int, after: int) -> NDArray[np.int64]:
    period = max(1, 2 * (size - 1))
    places = np.abs(np.arange(-before, size + after)) % period
    return np.minimum(places, period - places) if size > 1 else np.zeros_like(places)


CHANGES: Mapping[str, Change] = {
    "box_blur": box_blur,
    "box_blur_centred": box_blur_centred,
    "sharpen": sharpen,
    "sharpen_kernel": sharpen_kernel,
    "jpeg": jpeg,
    "gamma": gamma,
    "hed": hed,
    "resolution": resolution,
    "noise": noise,
    "brightness": _toned(tone.brightness),
    "contrast": _toned(tone.contrast),
    "saturation": _toned(tone.color),
}
"""What makes each of ``SHIFTS``."""
