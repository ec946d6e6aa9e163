"""Images as a network takes them: changed at random for training, brought to size alone for evaluation."""

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.color import hed_jittered, noisy
from wsi_pipeline.augment.config import AugmentConfig
from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.groups import on_device
from wsi_pipeline.augment.resample import resampled
from wsi_pipeline.augment.spatial import blurred, crop_boxes, elastic, turned, whole_boxes
from wsi_pipeline.augment.uniform import uniform_augmented
from wsi_pipeline.errors import ConfigError


class Augmenter:
    """Random changes of a batch on the device where its images are.

    What is done to an image depends on its key and the configuration alone: not on the batch, the rank or
    what was done before. Nothing of it is remembered.
    """

    def __init__(self, config: AugmentConfig, image_px: int) -> None:
        """Take what is done, and the side of the images given."""
        self.config = config
        self.image_px = image_px

    def __call__(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return changed images, uint8 ``(B, 3, image_px, image_px)``, contiguous.

        Parameters
        ----------
        images
            uint8 ``(B, 3, H, H)``, in any memory format, on any device.
        keys
            int64 ``(B,)``, best on the CPU, where they come from: what is done is planned there, and reading
            them back from a device waits for its work.

        Raises
        ------
        ConfigError
            Images are not square, not uint8, or without a key each.
        """
        _check(images)
        if keys.shape != images.shape[:1]:
            raise ConfigError(
                f"keys: expected one for each of {len(images)} images, got {tuple(keys.shape)}"
            )
        if not len(images):
            return images.new_empty((0, 3, self.image_px, self.image_px))
        return self._noisy(self._changed(images, Draws(keys.cpu())), keys)

    def _changed(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        config = self.config
        images = self._cropped(images, draws)
        if config.flip or config.quarter_turns:
            laid = turned(list(images), draws, flip=config.flip, quarter_turns=config.quarter_turns)
            images = torch.stack(laid)
        if config.elastic:
            images = elastic(images, draws, px=config.elastic)
        if config.blur:
            images = blurred(images, _up_to(draws, "blur", config.blur), most=config.blur)
        if config.hed:
            images = hed_jittered(images, draws, strength=config.hed)
        if config.operations and config.most:
            images = uniform_augmented(images, draws, names=config.operations, most=config.most)
        return images

    def _cropped(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        if self.config.crop == (1.0, 1.0):
            return resized(images, self.image_px)
        boxes = crop_boxes(
            draws, side=images.shape[2], area=self.config.crop, ratio=self.config.crop_ratio
        )
        return resampled(images, boxes, self.image_px)

    def _noisy(self, images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        if not self.config.noise:
            return images
        sigmas = _up_to(Draws(keys.cpu()), "noise strength", self.config.noise)
        return noisy(images, Draws(keys, images.device), sigmas)


def _up_to(draws: Draws, name: str, most: float) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = draws.between(name, 0.0, most).numpy()
    return numbers


def resized(images: torch.Tensor, image_px: int) -> torch.Tensor:
    """Return the whole of uint8 images ``(B, 3, H, H)`` at a network's size, contiguous.

    Averaged over areas where that is smaller, linear where it is larger; the same pixels at the same size. A
    network is to be tested on images made so, too: ``Augmenter`` makes its crops in the same way.
    """
    _check(images)
    if images.shape[2] == image_px or not len(images):
        return images[..., :image_px, :image_px].contiguous()
    return resampled(images, whole_boxes(len(images), side=images.shape[2]), image_px)


def normalised(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Return uint8 images ``(B, 3, H, W)`` as float32, ``(value / 255 - mean) / std`` for each channel."""
    spread = np.array(std, np.float64).reshape(1, -1, 1, 1)
    middle = np.array(mean, np.float64).reshape(1, -1, 1, 1)
    scale, shift = (
        on_device(images, each.astype(np.float32))
        for each in (1 / (255 * spread), -middle / spread)
    )
    return images.to(torch.float32).mul_(scale).add_(shift)


def _check(images: torch.Tensor) -> None:
    fits = images.dtype == torch.uint8 and images.dim() == 4 and images.shape[1] == 3
    if not fits or images.shape[2] != images.shape[3]:
        raise ConfigError(
            f"images: expected uint8 (batch, 3, side, side), got {images.dtype} {tuple(images.shape)}"
        )
