"""What every slide can do, whatever wrote its file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeAlias

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box, Rgb, Size

PLAUSIBLE_MPP = (0.01, 100.0)
"""µm per pixel: oil immersion at 100x is 0.05, a slide overview 30; 72 dpi as µm/px is 353."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution of the pyramid."""

    size_px: Size
    downsample_x: float
    """Level-0 pixels per pixel of this level, at least 1."""
    downsample_y: float

    @property
    def downsample(self) -> float:
        """Mean of both axes."""
        return (self.downsample_x + self.downsample_y) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideInfo:
    """What a slide is, known before any pixel is read."""

    backend: str
    """What reads it."""
    backend_reason: str
    """Why that one."""
    format: str
    """The file's format or its vendor's name."""
    levels: tuple[Level, ...]
    bounds0: Box
    """Where pixels were scanned, in level-0 pixels of the whole canvas."""
    mpp_x: float | None = None
    """µm per level-0 pixel, None where the file does not say or says something absurd."""
    mpp_y: float | None = None
    mpp_note: str = "the file does not say"
    """Why there is no µm/px, or where it comes from."""
    objective_power: float | None = None
    """As the file says; never used to guess µm/px."""
    scanner: str | None = None
    channels: int = 3
    """As stored: 1 for gray."""
    associated: tuple[str, ...] = ()
    """Names of the label, macro and thumbnail images in the file."""
    icc_profile: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError("levels: expected at least 1, got none")

    @property
    def size0(self) -> Size:
        """Width and height of the whole canvas at level 0."""
        return self.levels[0].size_px

    @property
    def mpp(self) -> float | None:
        """Mean µm per level-0 pixel of both axes."""
        if self.mpp_x is None or self.mpp_y is None:
            return None
        return (self.mpp_x + self.mpp_y) / 2

    def with_mpp(self, mpp: float, *, source: str) -> Self:
        """Return the same slide with µm/px stated by the user, who names where."""
        return replace(self, mpp_x=mpp, mpp_y=mpp, mpp_note=f"from {source}")

    def bounds_px(self, level: int) -> Box:
        """Return the scanned part in pixels of one level, inside that level."""
        at = self.levels[level]
        x = min(round(self.bounds0.x / at.downsample_x), at.size_px.width - 1)
        y = min(round(self.bounds0.y / at.downsample_y), at.size_px.height - 1)
        x_end = min(math.ceil(self.bounds0.x_end / at.downsample_x - 1e-6), at.size_px.width)
        y_end = min(math.ceil(self.bounds0.y_end / at.downsample_y - 1e-6), at.size_px.height)
        return Box(x=x, y=y, width=max(1, x_end - x), height=max(1, y_end - y))


RgbOrError: TypeAlias = Rgb | TileError


class SlideReader(Protocol):
    """An open slide. One thread uses one reader."""

    @property
    def info(self) -> SlideInfo:
        """What the slide is."""
        ...

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the pixels of a window, ``(height, width, 3)`` uint8; transparent is white.

        The window is in pixels of the level and lies inside it.

        Raises
        ------
        TileError
            The file's bytes for this window cannot be decoded; other windows still can.
        """
        ...

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield each window's pixels in order, or why they cannot be read.

        What several windows share is decoded as rarely as the backend can.
        """
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def check_window(info: SlideInfo, level: int, window_px: Box) -> None:
    """Refuse a window that is not inside its level: a mistake of the caller, not of the file."""
    size = info.levels[level].size_px
    if not Box(x=0, y=0, width=size.width, height=size.height).contains(window_px):
        raise ValueError(
            f"window: expected inside level {level} of {size.width} x {size.height} px, got {window_px}"
        )


def only_one(windows: Iterator[RgbOrError]) -> Rgb:
    """Return the pixels of the only window asked for.

    Raises
    ------
    TileError
        It could not be read.
    """
    pixels = next(windows)
    if isinstance(pixels, TileError):
        raise pixels
    return pixels


def plausible_mpp(
    mpp_x: float | None, mpp_y: float | None
) -> tuple[float | None, float | None, str]:
    """Return µm/px as the file states it, or None and why it is not believed."""
    if mpp_x is None or mpp_y is None:
        return None, None, "the file does not say"
    low, high = PLAUSIBLE_MPP
    if not (low <= mpp_x <= high and low <= mpp_y <= high):
        return None, None, f"the file says {mpp_x:g} x {mpp_y:g}, expected {low:g} to {high:g}"
    return mpp_x, mpp_y, "from the file"


def level_of(size_px: Size, size0: Size) -> Level:
    """Return a level whose downsample is what the two sizes say."""
    return Level(
        size_px=size_px,
        downsample_x=size0.width / size_px.width,
        downsample_y=size0.height / size_px.height,
    )


def required_mpp(info: SlideInfo, slide: str) -> tuple[float, float]:
    """Return µm/px of both axes where a resolution in µm/px was asked for.

    Raises
    ------
    SlideError
        The slide has none; the message names the flag and the column that supply it.
    """
    if info.mpp_x is None or info.mpp_y is None:
        raise SlideError(
            f"{slide}: µm/px is needed for --mpp and {info.mpp_note}; "
            "give it with --slide-mpp or in the column 'mpp' of the slide table, or cut at --level 0"
        )
    return info.mpp_x, info.mpp_y
