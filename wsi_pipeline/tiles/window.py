"""From a wanted resolution to what is read: which level, how large a window, how it is resized."""

from dataclasses import dataclass

import numpy as np

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Boxes
from wsi_pipeline.slides.reader import SlideInfo, required_mpp
from wsi_pipeline.tiles.grid import Edge, stride_px, tile_grid

SAME_RESOLUTION = 1e-3
"""Relative difference up to which a level is the wanted resolution and is not resampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tiles of ``tile_size`` stored pixels come from one level."""

    level: int
    tile_size: int
    side_x_px: int
    """Width of a tile's window in level pixels; equal to ``tile_size`` where nothing is resampled."""
    side_y_px: int
    stride_x: float
    """Distance between windows in level pixels, before rounding down; at most a side."""
    stride_y: float
    mpp: float | None
    """µm per stored pixel, None where the slide does not say."""

    def __post_init__(self) -> None:
        if min(self.side_x_px, self.side_y_px, self.tile_size) < 1:
            raise ValueError(f"sampling: expected sides of at least 1 px, got {self}")


def sampling_of(info: SlideInfo, config: TileConfig, *, slide: str) -> Sampling:
    """Return how a slide's tiles come from its levels by the settings of a run.

    Raises
    ------
    SlideError
        The slide lacks the level, or the µm/px, that is asked for; ``slide`` is its name in the message.
    """
    size, stride = config.tile_size, stride_px(config.tile_size, config.overlap)
    if config.whole_image:
        return sampling_of_whole(info, tile_size=size)
    if config.mpp is None:
        return sampling_at_level(info, level=config.level, tile_size=size, stride=stride)
    resolution = Resolution(mpp=config.mpp, allow_upsample=config.allow_upsample)
    return sampling_at_mpp(info, resolution=resolution, tile_size=size, stride=stride, slide=slide)


def all_windows_px(info: SlideInfo, sampling: Sampling, config: TileConfig) -> Boxes:
    """Return every window of a slide by the settings of a run, before tissue is looked at."""
    return windows_px(info, sampling, edge="pad" if config.whole_image else config.edge)


def sampling_at_level(info: SlideInfo, *, level: int, tile_size: int, stride: int) -> Sampling:
    """Return how tiles come from one level as it is.

    Raises
    ------
    SlideError
        The slide has no such level.
    """
    if level >= len(info.levels):
        raise SlideError(
            f"level {level}: the slide has {len(info.levels)} (0 to {len(info.levels) - 1}); "
            "choose one of them or a resolution with --mpp"
        )
    mpp = None if info.mpp is None else info.mpp * info.levels[level].downsample
    return Sampling(
        level=level,
        tile_size=tile_size,
        side_x_px=tile_size,
        side_y_px=tile_size,
        stride_x=stride,
        stride_y=stride,
        mpp=mpp,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A physical resolution that is asked for."""

    mpp: float
    """µm per stored pixel."""
    allow_upsample: bool = False
    """Finer than the scan is interpolated rather than refused."""


def sampling_at_mpp(
    info: SlideInfo, *, resolution: Resolution, tile_size: int, stride: int, slide: str
) -> Sampling:
    """Return how tiles of an exact resolution come from the next finer level.

    Raises
    ------
    SlideError
        The slide states no µm/px, or was scanned more coarsely than what is wanted.
    """
    mpp = resolution.mpp
    mpp_x, mpp_y = required_mpp(info, slide)
    wanted_x, wanted_y = mpp / mpp_x, mpp / mpp_y  # level-0 pixels per stored pixel
    if min(wanted_x, wanted_y) < 1 - SAME_RESOLUTION and not resolution.allow_upsample:
        raise SlideError(
            f"{slide}: --mpp {mpp:g} is finer than the scan ({mpp_x:g} x {mpp_y:g} µm/px); "
            "ask for the scan's or a coarser one, or have pixels made up with --allow-upsample"
        )
    level = max(
        index
        for index, at in enumerate(info.levels)
        if index == 0
        or (
            at.downsample_x <= wanted_x * (1 + SAME_RESOLUTION)
            and at.downsample_y <= wanted_y * (1 + SAME_RESOLUTION)
        )
    )
    shrink_x = _settled(wanted_x / info.levels[level].downsample_x)
    shrink_y = _settled(wanted_y / info.levels[level].downsample_y)
    side_x_px, side_y_px = (max(1, round(tile_size * shrink)) for shrink in (shrink_x, shrink_y))
    return Sampling(
        level=level,
        tile_size=tile_size,
        side_x_px=side_x_px,
        side_y_px=side_y_px,
        stride_x=min(max(1.0, stride * shrink_x), side_x_px),
        stride_y=min(max(1.0, stride * shrink_y), side_y_px),
        mpp=_true_mpp(info, level, side_x_px / tile_size, side_y_px / tile_size),
    )


def sampling_of_whole(info: SlideInfo, *, tile_size: int) -> Sampling:
    """Return how one tile holds all of a slide: square, from the coarsest level with enough detail."""
    sides_px = [max(box.width, box.height) for box in map(info.bounds_px, range(len(info.levels)))]
    level = max(index for index, side in enumerate(sides_px) if index == 0 or side >= tile_size)
    side_px = max(tile_size, sides_px[level])
    shrink = side_px / tile_size
    mpp = None if info.mpp is None else info.mpp * info.levels[level].downsample * shrink
    return Sampling(
        level=level,
        tile_size=tile_size,
        side_x_px=side_px,
        side_y_px=side_px,
        stride_x=side_px,
        stride_y=side_px,
        mpp=mpp,
    )


def _true_mpp(info: SlideInfo, level: int, shrink_x: float, shrink_y: float) -> float | None:
    """Return µm per stored pixel as windows of whole level pixels give it, the mean of both axes."""
    if info.mpp_x is None or info.mpp_y is None:
        return None
    at = info.levels[level]
    across, down = info.mpp_x * at.downsample_x * shrink_x, info.mpp_y * at.downsample_y * shrink_y
    return (across + down) / 2


def _settled(shrink: float) -> float:
    """Return 1 where the level is the wanted resolution."""
    return 1.0 if abs(shrink - 1) <= SAME_RESOLUTION else shrink


def windows_px(info: SlideInfo, sampling: Sampling, *, edge: Edge) -> Boxes:
    """Return every tile's window in pixels of the sampled level, ``(count, 4)``, row by row."""
    return tile_grid(
        info.bounds_px(sampling.level),
        side_px=(sampling.side_x_px, sampling.side_y_px),
        stride=(sampling.stride_x, sampling.stride_y),
        edge=edge,
    )


def footprints0(info: SlideInfo, level: int, windows: Boxes) -> Boxes:
    """Return level windows as level-0 boxes, ``(count, 4)``, rounded to whole pixels."""
    at = info.levels[level]
    scale = np.array([at.downsample_x, at.downsample_y, at.downsample_x, at.downsample_y])
    boxes0: Boxes = np.floor(windows * scale + 0.5).astype(np.int32)
    return boxes0
