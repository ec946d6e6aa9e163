"""What is done to pixels in more than one place, with types that OpenCV does not give."""

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wsi_pipeline.geometry import WHITE, Gray, Rgb

BLOCK_PX = 1 << 20
"""Pixels for which wider numbers are made at once: 6 MiB as 16-bit RGB, 8 MiB as doubles of gray."""


def to_gray(rgb: Rgb) -> Gray:
    """Return luma, ``(height, width)``."""
    gray: Gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return gray


def gray_to_rgb(gray: NDArray[np.uint8]) -> Rgb:
    """Return gray pixels ``(height, width, 1)`` three times over."""
    rgb: Rgb = np.repeat(gray, 3, axis=2)
    return rgb


def to_hsv(rgb: Rgb) -> NDArray[np.uint8]:
    """Return hue 0 to 179, saturation and brightness 0 to 255, ``(height, width, 3)``."""
    hsv: NDArray[np.uint8] = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    return hsv


def resized_by_area(rgb: Rgb, *, width: int, height: int) -> Rgb:
    """Return the picture at another size, each pixel the mean of the area that it covers.

    A larger size is interpolated linearly; no area is then covered whole.
    """
    if rgb.shape[:2] == (height, width):
        return np.ascontiguousarray(rgb)
    grows = width > rgb.shape[1] or height > rgb.shape[0]
    how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    resized: Rgb = cv2.resize(rgb, (width, height), interpolation=how)
    return resized


def decode_jpeg(data: bytes) -> Rgb:
    """Return a JPEG's pixels, ``(height, width, 3)``.

    Strict, because libjpeg otherwise fills what is missing or damaged with gray and says nothing
    (docs/decisions/0006-strict-jpeg.md).

    Raises
    ------
    ValueError
        The bytes are no JPEG, are cut off, or do not end where its picture ends.
    """
    rgb: Rgb = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    return rgb


def png_bytes(rgb: Rgb) -> bytes:
    """Return a picture as a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def on_white(rgba: NDArray[np.uint8]) -> Rgb:
    """Return RGBA pixels ``(height, width, 4)``, colours not premultiplied, laid over white.

    >>> on_white(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)).tolist()
    [[[10, 20, 30], [255, 255, 255]]]
    """
    rgb: Rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
    rows = max(1, BLOCK_PX // max(1, rgba.shape[1]))
    for row in range(0, rgba.shape[0], rows):
        block, alpha = rgb[row : row + rows], rgba[row : row + rows, :, 3:]
        if alpha.min() < WHITE:
            weighted = block.astype(np.uint16) * alpha + WHITE * (WHITE - alpha.astype(np.uint16))
            block[:] = (weighted + WHITE // 2) // WHITE
    return rgb
