"""Sizes and boxes of integers. The frame is in the variable's name, never in the type.

``box0`` is in level-0 pixels, ``window_px`` in pixels of the level that is read. Sizes are
(width, height); arrays are (height, width, channel). Intervals are half-open.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rgb: TypeAlias = NDArray[np.uint8]
"""One image, ``(height, width, 3)``, red first."""

Gray: TypeAlias = NDArray[np.uint8]
"""One image, ``(height, width)``, 0 black to 255 white."""

Mask: TypeAlias = NDArray[np.bool_]
"""One yes or no per pixel, ``(height, width)``."""

Boxes: TypeAlias = NDArray[np.int32]
"""Many boxes, ``(count, 4)``: x, y, width, height of each."""

WHITE = 255
"""What is outside the slide, never scanned, or transparent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Width and height in pixels, both at least 1."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"size: expected at least 1 x 1, got {self.width} x {self.height}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The pixels with ``x <= column < x + width`` and ``y <= row < y + height``."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"box: expected at least 1 x 1, got {self.width} x {self.height}")

    @property
    def x_end(self) -> int:
        """First column to the right of the box."""
        return self.x + self.width

    @property
    def y_end(self) -> int:
        """First row below the box."""
        return self.y + self.height

    def intersection(self, other: "Box") -> "Box | None":
        """Return the pixels in both boxes, or None where they do not meet.

        >>> Box(x=0, y=0, width=4, height=4).intersection(Box(x=3, y=2, width=9, height=1))
        Box(x=3, y=2, width=1, height=1)
        """
        x, y = max(self.x, other.x), max(self.y, other.y)
        width, height = min(self.x_end, other.x_end) - x, min(self.y_end, other.y_end) - y
        if width < 1 or height < 1:
            return None
        return Box(x=x, y=y, width=width, height=height)

    def contains(self, other: "Box") -> bool:
        """Whether every pixel of the other box is in this one."""
        return self.intersection(other) == other
