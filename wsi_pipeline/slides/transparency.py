"""Transparent pixels become white, whoever read them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import WHITE, Rgb


def on_white(rgba: NDArray[np.uint8]) -> Rgb:
    """Return RGBA pixels ``(height, width, 4)``, colours not premultiplied, laid over white.

    >>> on_white(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)).tolist()
    [[[10, 20, 30], [255, 255, 255]]]
    """
    rgb: Rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)  # type: ignore[assignment]
    alpha = rgba[..., 3:]
    if alpha.min() == WHITE:
        return rgb
    weighted = rgb.astype(np.uint16) * alpha + WHITE * (WHITE - alpha.astype(np.uint16))
    return ((weighted + WHITE // 2) // WHITE).astype(np.uint8)
