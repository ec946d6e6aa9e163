"""The tissue mask of one slide, and how much of a box it covers."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes, Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueMask:
    """A mask laid over the slide: pixel (i, j) covers ``downsample_x`` by ``downsample_y`` level-0 pixels."""

    tissue: Mask = field(repr=False)
    """``(height, width)``, true on tissue."""
    x0: float
    """Left edge of the mask in level-0 pixels."""
    y0: float
    """Top edge of the mask in level-0 pixels."""
    downsample_x: float
    downsample_y: float

    def __post_init__(self) -> None:
        if self.tissue.ndim != 2 or self.tissue.dtype != np.bool_:
            raise ValueError(
                f"tissue: expected 2 axes of bool, got {self.tissue.ndim} of {self.tissue.dtype}"
            )
        if self.downsample_x <= 0 or self.downsample_y <= 0:
            raise ValueError(
                f"downsample: expected above 0, got {self.downsample_x} and {self.downsample_y}"
            )

    def share(self) -> float:
        """Return the share of the mask that is tissue, 0 to 1."""
        return float(self.tissue.mean()) if self.tissue.size else 0.0

    def coverage(self, boxes0: Boxes) -> NDArray[np.float32]:
        """Return the share of each level-0 box that is tissue, ``(count,)``, 0 to 1.

        Exact for fractions of a mask pixel: a summed-area table is bilinear between its nodes.
        What lies outside the mask is no tissue.
        """
        # (height + 1, width + 1); a mask has fewer than 2^31 pixels
        table = cv2.integral(self.tissue.view(np.uint8), sdepth=cv2.CV_32S)
        x0, y0, width0, height0 = boxes0.astype(np.float64).T
        left, top = (x0 - self.x0) / self.downsample_x, (y0 - self.y0) / self.downsample_y
        right, bottom = left + width0 / self.downsample_x, top + height0 / self.downsample_y
        tissue_px = (
            _bilinear(table, right, bottom)
            - _bilinear(table, left, bottom)
            - _bilinear(table, right, top)
            + _bilinear(table, left, top)
        )
        area_px = (right - left) * (bottom - top)
        share: NDArray[np.float32] = np.clip(tissue_px / area_px, 0.0, 1.0).astype(np.float32)
        return share


def _bilinear(
    table: NDArray[np.int32], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the table at fractional positions, positions outside moved to its border."""
    x = np.clip(x, 0, table.shape[1] - 1)
    y = np.clip(y, 0, table.shape[0] - 1)
    column = np.minimum(x.astype(np.intp), max(table.shape[1] - 2, 0))
    row = np.minimum(y.astype(np.intp), max(table.shape[0] - 2, 0))
    right, down = x - column, y - row
    upper = table[row, column] * (1 - right) + table[row, column + 1] * right
    lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
    value: NDArray[np.float64] = upper * (1 - down) + lower * down
    return value
