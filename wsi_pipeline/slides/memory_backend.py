"""A slide made of arrays: for tests, doctests and notebooks."""

from collections.abc import Iterator, Sequence

import numpy as np

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides.bands import read_in_bands
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, check_window, level_of, plausible_mpp


class MemoryReader:
    """Reads from arrays, the largest first.

    >>> reader = MemoryReader([np.zeros((8, 16, 3), np.uint8)], mpp=0.5)
    >>> reader.read(0, Box(x=4, y=0, width=2, height=1)).shape
    (1, 2, 3)
    """

    def __init__(
        self,
        levels: Sequence[Rgb],
        *,
        mpp: float | None = None,
        bounds0: Box | None = None,
        unreadable_px: Sequence[Box] = (),
    ) -> None:
        """Take level arrays ``(height, width, 3)``; windows that touch ``unreadable_px`` fail."""
        self._levels = levels
        self._unreadable_px = unreadable_px
        sizes = [Size(width=level.shape[1], height=level.shape[0]) for level in levels]
        mpp_x, mpp_y, note = plausible_mpp(mpp, mpp)
        self.info = SlideInfo(
            backend="memory",
            backend_reason="made of arrays",
            format="memory",
            levels=tuple(level_of(size, sizes[0]) for size in sizes),
            bounds0=bounds0 or Box(x=0, y=0, width=sizes[0].width, height=sizes[0].height),
            mpp_x=mpp_x,
            mpp_y=mpp_y,
            mpp_note=note,
        )

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return a copy of the window."""
        check_window(self.info, level, window_px)
        for box in self._unreadable_px:
            if box.intersection(window_px):
                raise TileError(f"level {level}, {window_px}: declared unreadable")
        rows = slice(window_px.y, window_px.y_end)
        columns = slice(window_px.x, window_px.x_end)
        return np.array(self._levels[level][rows, columns])

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows, neighbours read together."""
        return read_in_bands(self, level, windows_px)

    def close(self) -> None:
        """Nothing is held."""
