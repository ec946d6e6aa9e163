"""Which tiles a slide will have, decided before any of them is read."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.config import TISSUE_METHODS, TileConfig
from wsi_pipeline.errors import SlideError
from wsi_pipeline.files import Fingerprint, published
from wsi_pipeline.geometry import Boxes, Mask, Rgb
from wsi_pipeline.pixels import resized_by_area, to_gray
from wsi_pipeline.remote import seekable
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.mask_file import mask_path, read_mask
from wsi_pipeline.slides.overview import (
    Overview,
    OverviewLevel,
    histoprep_level,
    overview_level,
    read_overview,
    stored_pixels,
)
from wsi_pipeline.slides.reader import SlideInfo, SlideReader
from wsi_pipeline.tiles.window import Sampling, all_windows_px, footprints0, sampling_of
from wsi_pipeline.tissue.mask import TissueMask
from wsi_pipeline.tissue.segment import (
    DARKEST_PICTURE,
    Segmentation,
    class_raster_reason,
    gray_threshold,
    is_dark_field,
    segment,
)

OVERVIEW_SIDE_PX = 4096
"""Longest side of the overview that the mask is made from, as HistoPrep's."""

PICTURE_SIDE_PX = 1600
"""Longest side of the overview kept for the overlay picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """The tiles of one slide, in order, and what is needed to read and measure them."""

    sampling: Sampling
    windows: Boxes = field(repr=False)
    """Level pixels, ``(tiles, 4)``."""
    footprints0: Boxes = field(repr=False)
    """Level-0 pixels, ``(tiles, 4)``."""
    tissue: NDArray[np.float32] = field(repr=False)
    """Share of each footprint that is tissue."""
    grid_tiles: int
    """Tiles before those with little tissue were left out."""
    threshold: int
    dark_field: bool
    tissue_share: float

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return len(self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A small overview with its mask, for the overlay."""

    rgb: Rgb = field(repr=False)
    tissue: Mask = field(repr=False)
    x0: float
    y0: float
    downsample_x: float
    downsample_y: float


def plan_slide(
    reader: SlideReader, source: SlideSource, config: TileConfig
) -> tuple[TilePlan, Picture]:
    """Return a slide's tiles and its picture.

    Raises
    ------
    SlideError
        The slide is a label mask, has no µm/px where it is needed, or no mask was given for it.
    """
    level, shrink = _overview_choice(reader.info, config)
    overview = read_overview(reader, level=level, shrink=shrink)
    _refuse_class_raster(reader, overview, shrink=shrink)
    sampling = sampling_of(reader.info, config, slide=source.slide_id)
    found = _segmentation(reader.info, source, config, overview)
    mask = TissueMask(
        tissue=found.tissue
        | overview.unreadable,  # unknown is cut, so that its tiles say what is wrong
        x0=overview.x0,
        y0=overview.y0,
        downsample_x=overview.downsample_x,
        downsample_y=overview.downsample_y,
    )
    windows = all_windows_px(reader.info, sampling, config)
    boxes0 = footprints0(reader.info, sampling.level, windows)
    tissue = mask.coverage(boxes0)
    kept = (tissue >= config.min_tissue) | config.whole_image
    plan = TilePlan(
        sampling=sampling,
        windows=windows[kept],
        footprints0=boxes0[kept],
        tissue=tissue[kept],
        grid_tiles=len(windows),
        threshold=found.threshold,
        dark_field=found.dark_field,
        tissue_share=mask.share(),
    )
    return plan, _picture(overview, mask)


def no_tiles_reason(plan: TilePlan, config: TileConfig) -> str | None:
    """Return why a slide has no tiles, or None where it has some."""
    if plan.tiles:
        return None
    if plan.grid_tiles == 0:
        return (
            f"0 tiles: the slide is smaller than a tile and --edge {config.edge} keeps none that "
            "reach past it; use --edge pad or a smaller --tile-size"
        )
    if plan.tissue_share == 0:
        return "0 tiles: no tissue found; look at the overlay, or use another --tissue"
    return (
        f"0 tiles: none of {plan.grid_tiles} has {config.min_tissue:.0%} tissue; "
        "look at the overlay, or lower --min-tissue"
    )


def planned_columns(
    info: SlideInfo, plan: TilePlan, config: TileConfig, source: Fingerprint
) -> dict[str, Any]:
    """Return the columns of slides.parquet that are known before any tile is read."""
    return {
        "tiles": plan.tiles,
        "tiles_grid": plan.grid_tiles,
        "backend": info.backend,
        "format": info.format,
        "width": info.size0.width,
        "height": info.size0.height,
        "levels": len(info.levels),
        "mpp_x": info.mpp_x,
        "mpp_y": info.mpp_y,
        "mpp_note": info.mpp_note,
        "bounds_x": info.bounds0.x,
        "bounds_y": info.bounds0.y,
        "bounds_width": info.bounds0.width,
        "bounds_height": info.bounds0.height,
        "objective_power": info.objective_power,
        "scanner": info.scanner,
        "level": plan.sampling.level,
        "mpp": plan.sampling.mpp,
        "tissue_threshold": plan.threshold,
        "dark_field": plan.dark_field,
        "tissue_share": plan.tissue_share,
        "size_bytes": source.sample.size_bytes,
        "mtime_ns": source.sample.mtime_ns,
        "fingerprint": source.sample.sha256,
        "source_crc32c": source.crc32c,
        "config_digest": config.digest(),
        "icc_profile": info.icc_profile,
    }


def write_plan(path: Path, plan: TilePlan, picture: Picture) -> None:
    """Keep a plan for the workers that carry it out."""
    scalars = {
        "sampling": asdict(plan.sampling),
        "grid_tiles": plan.grid_tiles,
        "threshold": plan.threshold,
        "dark_field": plan.dark_field,
        "tissue_share": plan.tissue_share,
        "picture": {name: getattr(picture, name) for name in _PICTURE_FRAME},
    }
    with published(path) as temporary, temporary.open("wb") as handle:
        np.savez(
            handle,
            scalars=np.frombuffer(json.dumps(scalars).encode(), dtype=np.uint8),
            windows=plan.windows,
            footprints0=plan.footprints0,
            tissue=plan.tissue,
            picture_rgb=picture.rgb,
            picture_tissue=picture.tissue,
        )


def read_plan(path: Path) -> TilePlan:
    """Return the plan that ``write_plan`` kept."""
    with np.load(seekable(path)) as arrays:
        scalars = json.loads(arrays["scalars"].tobytes())
        del scalars["picture"]
        return TilePlan(
            sampling=Sampling(**scalars.pop("sampling")),
            windows=arrays["windows"],
            footprints0=arrays["footprints0"],
            tissue=arrays["tissue"],
            **scalars,
        )


def read_picture(path: Path) -> Picture:
    """Return the picture that ``write_plan`` kept: megabytes, which only the overlay needs."""
    with np.load(seekable(path)) as arrays:
        frame = json.loads(arrays["scalars"].tobytes())["picture"]
        return Picture(rgb=arrays["picture_rgb"], tissue=arrays["picture_tissue"], **frame)


_PICTURE_FRAME = ("x0", "y0", "downsample_x", "downsample_y")


def _overview_choice(info: SlideInfo, config: TileConfig) -> OverviewLevel:
    if config.tissue == "histoprep":
        return histoprep_level(info, max_side_px=OVERVIEW_SIDE_PX)
    return overview_level(info, max_side_px=OVERVIEW_SIDE_PX)


def _refuse_class_raster(reader: SlideReader, overview: Overview, *, shrink: int) -> None:
    """Refuse a label mask; where the overview is averaged, pixels as stored are looked at."""
    channels = reader.info.channels
    if channels > 1 and overview.rgb.max() >= DARKEST_PICTURE:
        return
    sample = overview.rgb if shrink == 1 else stored_pixels(reader)
    if reason := class_raster_reason(sample, channels=channels):
        raise SlideError(reason)


def _segmentation(
    info: SlideInfo, source: SlideSource, config: TileConfig, overview: Overview
) -> Segmentation:
    for method in TISSUE_METHODS:
        if config.tissue == method:
            mpp = None if info.mpp is None else info.mpp * overview.downsample_x
            return segment(overview.rgb, method=method, mpp=mpp)
    gray = to_gray(overview.rgb)
    dark_field = is_dark_field(gray)
    return Segmentation(
        tissue=_given_mask(Path(config.tissue), info, source, overview),
        threshold=gray_threshold(gray, dark_field=dark_field),
        dark_field=dark_field,
    )


def _given_mask(folder: Path, info: SlideInfo, source: SlideSource, overview: Overview) -> Mask:
    """Return the user's mask, which covers the whole canvas, on the overview's pixels."""
    mask = read_mask(
        mask_path(folder, source.slide_id), canvas0=info.size0, max_side_px=OVERVIEW_SIDE_PX
    )
    height, width = mask.shape
    rows = np.arange(overview.rgb.shape[0]) * overview.downsample_y + overview.y0
    columns = np.arange(overview.rgb.shape[1]) * overview.downsample_x + overview.x0
    at_row = np.minimum((rows * height / info.size0.height).astype(np.intp), height - 1)
    at_column = np.minimum((columns * width / info.size0.width).astype(np.intp), width - 1)
    tissue: Mask = mask[at_row[:, None], at_column]
    return tissue


def _picture(overview: Overview, mask: TissueMask) -> Picture:
    """Return overview and mask at the size of the overlay."""
    height, width = overview.rgb.shape[:2]
    shrink = max(1.0, max(height, width) / PICTURE_SIDE_PX)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    tissue = cv2.resize(mask.tissue.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return Picture(
        rgb=resized_by_area(overview.rgb, width=size[0], height=size[1]),
        tissue=tissue,
        x0=overview.x0,
        y0=overview.y0,
        downsample_x=overview.downsample_x * width / size[0],
        downsample_y=overview.downsample_y * height / size[1],
    )
