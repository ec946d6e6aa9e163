"""The two pictures that are kept of every slide: one with its tiles drawn in, and a small plain one."""

import cv2
import numpy as np

from wsi_pipeline.geometry import Rgb
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.report.overlay import draw_overlay
from wsi_pipeline.stages.plan import Picture, TilePlan

QUALITY = 88
THUMBNAIL_SIDE_PX = 512
"""Longest side of the plain picture, which the report lays tiles over: about 40 kB."""


def overlay_bytes(
    plan: TilePlan, picture: Picture, bad: list[int], *, slide_id: str, mpp0: float | None
) -> bytes:
    """Return the JPEG of a slide with its tissue outlined and its tiles drawn in."""
    scale = np.array([picture.downsample_x, picture.downsample_y] * 2)
    offset0 = np.array([picture.x0, picture.y0, 0, 0])
    drawn = draw_overlay(
        picture.rgb,
        tissue=picture.tissue,
        boxes=np.round((plan.footprints0 - offset0) / scale).astype(np.int32),
        bad=bad,
        caption=f"{slide_id}   {plan.tiles} of {plan.grid_tiles} tiles, {plan.tissue_share:.0%} tissue",
        um_per_px=None if mpp0 is None else mpp0 * picture.downsample_x,
    )
    return _jpeg(drawn)


def thumbnail_bytes(picture: Picture) -> bytes:
    """Return the scanned part of a slide as a small JPEG with nothing drawn in."""
    height, width = picture.rgb.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE_PX / max(height, width))
    size_px = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
    return _jpeg(resized_by_area(picture.rgb, **size_px))


def _jpeg(rgb: Rgb) -> bytes:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
