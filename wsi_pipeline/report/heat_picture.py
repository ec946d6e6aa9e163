"""A map of probabilities laid over its slide, with the scale that all of them share."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_pipeline.geometry import WHITE, Mask, Rgb
from wsi_pipeline.pixels import to_gray
from wsi_pipeline.report.lettering import font, write_line
from wsi_pipeline.report.overlay import draw_caption

LEGEND_PX = 46
"""Height of the strip with the scale, below the picture and its caption."""

_BAR_PX = (300, 14)
_TISSUE = 120  # gray; the scale is shown over white above, over tissue below
_LEFT_PX = 10
_LINE_RGB, _AROUND_RGB = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatPicture:
    """What is drawn of one slide."""

    rgb: Rgb = field(repr=False)
    """The slide, ``(height, width, 3)``."""
    values: NDArray[np.float32] = field(repr=False)
    """On the same pixels, 0 to 1, NaN where nothing is drawn."""
    truth: Mask | None = field(repr=False)
    """True where tiles have the label; it is outlined."""
    scale_says: str
    """What 0 to 1 is."""
    truth_says: str
    """What the outline is, or what is known of labels; empty for nothing."""
    caption: str
    um_per_px: float | None
    """Of the picture, for a scale bar."""


def draw_heat_picture(picture: HeatPicture, *, colours: Rgb, opacity: float) -> Rgb:
    """Return the slide under its map, then a caption and the scale from 0 to 1.

    The slide is in gray under the map and in its own colours where no tile lies.

    Parameters
    ----------
    colours
        Of 0 to 1, ``(1, 256, 3)``.
    opacity
        Of the map, 0 to 1.
    """
    canvas = laid_over(picture.rgb, picture.values, colours, opacity)
    if picture.truth is not None:
        outlines, _ = cv2.findContours(
            picture.truth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        for colour, width in ((_AROUND_RGB, 4), (_LINE_RGB, 2)):
            cv2.drawContours(canvas, outlines, -1, colour, width, cv2.LINE_8)
    width = canvas.shape[1]
    caption = draw_caption(picture.caption, width, picture.um_per_px)
    scale = _scale(min(_BAR_PX[0], -(-width // 3)), colours, opacity)
    return np.vstack([canvas, caption, _legend(picture, width, scale)])


def laid_over(rgb: Rgb, values: NDArray[np.float32], colours: Rgb, opacity: float) -> Rgb:
    """Return a picture in gray under the colours of values from 0 to 1, and as it is where there is none."""
    known = np.isfinite(values)
    place = np.rint(255 * np.clip(np.where(known, values, 0), 0, 1)).astype(np.uint8)
    mixed = np.repeat(to_gray(rgb)[:, :, None], 3, axis=2) * (1 - opacity)
    mixed += colours[0][place] * opacity
    canvas: Rgb = np.where(known[:, :, None], np.rint(mixed).astype(np.uint8), rgb)
    return np.ascontiguousarray(canvas)


def _scale(across: int, colours: Rgb, opacity: float) -> Rgb:
    """Return the colours of 0 to 1 as they look over glass and over tissue."""
    ground = np.full((_BAR_PX[1], across, 3), WHITE, np.uint8)
    ground[_BAR_PX[1] // 2 :] = _TISSUE
    steps = np.broadcast_to(np.linspace(0, 1, across, dtype=np.float32), ground.shape[:2])
    return laid_over(ground, steps, colours, opacity)


def _legend(picture: HeatPicture, width: int, scale: Rgb) -> Rgb:
    """Return a strip with the colours from 0 to 1 and what they, and an outline, mean."""
    image = Image.new("RGB", (width, LEGEND_PX), "white")
    draw = ImageDraw.Draw(image)
    high, across = scale.shape[:2]
    image.paste(Image.fromarray(scale), (_LEFT_PX, 6))
    draw.rectangle((_LEFT_PX, 6, _LEFT_PX + across - 1, 5 + high), outline="black")
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        at = (_LEFT_PX + share * (across - 1), 8 + high)
        draw.text(at, f"{share:g}", "black", font(13), anchor=anchor)
    left_px = _LEFT_PX + across + 14
    for row, text in enumerate((picture.scale_says, picture.truth_says)):
        write_line(draw, (left_px, 3 + 20 * row), text, width=width - left_px - 6, size_px=14)
    return np.asarray(image)
