"""Pictures deeper than 8 bits become 8-bit gray through a window of their values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Gray
from wsi_pipeline.pixels import BLOCK_PX

_LOW_PERCENT, _HIGH_PERCENT = 0.5, 99.5  # without the sensor's dead pixels and burnt-in marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Values from ``low`` (black) to ``high`` (white)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"window: expected low up to high, got {self.low} and {self.high}")

    def __str__(self) -> str:
        return f"window {self.low:g} to {self.high:g}"


def window_of(values: NDArray[np.integer | np.floating]) -> Window:
    """Return the window of a picture that states none: its 0.5 % to 99.5 % quantiles."""
    low, high = np.percentile(values, [_LOW_PERCENT, _HIGH_PERCENT])
    return Window(low=float(low), high=float(high))


def to_eight_bits(
    values: NDArray[np.integer | np.floating], window: Window, *, inverted: bool = False
) -> Gray:
    """Return gray ``(height, width)``; what is outside the window is black or white.

    >>> to_eight_bits(np.array([[0, 50, 100, 300]]), Window(low=0, high=100)).tolist()
    [[0, 128, 255, 255]]
    """
    span = max(window.high - window.low, 1e-9)
    gray: Gray = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, BLOCK_PX // max(1, values.shape[1]))
    for row in range(0, values.shape[0], rows):
        block = values[row : row + rows].astype(np.float64)
        scaled = np.clip((block - window.low) / span, 0, 1)
        gray[row : row + rows] = np.rint(255 * (1 - scaled if inverted else scaled))
    return gray
