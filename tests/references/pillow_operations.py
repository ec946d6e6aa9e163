"""UniformAugment in Pillow, image by image: what ours is checked against and timed beside."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from wsi_pipeline.augment.config import OPERATIONS

Picture = Image.Image
FILL = (125, 123, 114)


def _moved(image: Picture, *matrix: float) -> Picture:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.NEAREST
    )


def _cutout(image: Picture, share: float, x: float, y: float) -> Picture:
    """Fill a square; Pillow's rectangles have their last row and column too."""
    side = int(share * image.width)
    if side < 1:
        return image
    left = int(max(0.0, x * image.width - share * image.width / 2))
    top = int(max(0.0, y * image.height - share * image.width / 2))
    cut = image.copy()
    ImageDraw.Draw(cut).rectangle((left, top, left + side - 1, top + side - 1), FILL)
    return cut


PILLOW: Mapping[str, Callable[..., Picture]] = {
    "shear_x": lambda image, share: _moved(image, 1, share, 0, 0, 1, 0),
    "shear_y": lambda image, share: _moved(image, 1, 0, 0, share, 1, 0),
    "translate_x": lambda image, share: _moved(image, 1, 0, share * image.width, 0, 1, 0),
    "translate_y": lambda image, share: _moved(image, 1, 0, 0, 0, 1, share * image.height),
    "rotate": lambda image, degrees: image.rotate(degrees),
    "autocontrast": ImageOps.autocontrast,
    "invert": ImageOps.invert,
    "equalize": ImageOps.equalize,
    "solarize": ImageOps.solarize,
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "cutout": _cutout,
}


def uniform_augmented(
    image: Picture,
    generator: np.random.Generator,
    *,
    names: Sequence[str] = tuple(OPERATIONS),
    most: int = 2,
) -> Picture:
    """Return an image after UniformAugment, as published implementations go about it."""
    for name in generator.choice(names, most):
        if generator.random() < generator.random():
            values = [generator.uniform(low, high) for low, high in OPERATIONS[name]]
            image = PILLOW[name](image, *values)
    return image


def augmented_batch(images: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return images ``(B, H, W, 3)`` after it, as a data set and its collation would give them."""
    return np.stack(
        [np.asarray(uniform_augmented(Image.fromarray(image), generator)) for image in images]
    )
