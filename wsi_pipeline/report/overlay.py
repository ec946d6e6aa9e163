"""A slide's picture with its tissue outlined and its tiles drawn in."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wsi_pipeline.geometry import Boxes, Mask, Rgb

TISSUE_RGB = (0, 130, 60)
TILE_RGB = (30, 60, 200)
BAD_TILE_RGB = (220, 30, 30)
_CAPTION_PX = 44
_SPECK_PX = 12  # outlines around fewer pixels would hide the tissue under them
_SCALE_BARS_UM = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def draw_overlay(rgb: Rgb, *, tissue: Mask, boxes: Boxes, bad: Sequence[int], caption: str) -> Rgb:
    """Return a picture of the slide, at most as large as ``rgb`` and a caption's height more.

    Parameters
    ----------
    rgb
        Overview, ``(height, width, 3)``.
    tissue
        The mask on the same pixels.
    boxes
        Tiles in the picture's pixels, ``(count, 4)``; may reach past it.
    bad
        Rows of ``boxes`` that could not be read: drawn red and crossed.
    caption
        One line below the picture.
    """
    canvas = np.ascontiguousarray(rgb)
    unreadable = set(bad)
    for row, (x, y, width, height) in enumerate(boxes.tolist()):
        colour = BAD_TILE_RGB if row in unreadable else TILE_RGB
        cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, 1, cv2.LINE_AA)
        if row in unreadable:
            cv2.line(canvas, (x, y), (x + width, y + height), colour, 1, cv2.LINE_AA)
    outlines, _ = cv2.findContours(tissue.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    large = [outline for outline in outlines if cv2.contourArea(outline) >= _SPECK_PX]
    cv2.drawContours(canvas, large, -1, TISSUE_RGB, 2, cv2.LINE_AA)
    return np.vstack([canvas, _caption(caption, canvas.shape[1])])


def draw_scale_bar(canvas: Rgb, *, um_per_px: float) -> Rgb:
    """Return the picture with a bar of a round length, about a sixth of its width, in the lower left."""
    wanted_um = canvas.shape[1] * um_per_px / 6
    length_um = min(_SCALE_BARS_UM, key=lambda each: abs(each - wanted_um))
    length_px = round(length_um / um_per_px)
    words = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um} µm"
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    bottom = image.height - 10
    draw.rectangle((8, bottom - 34, 28 + max(length_px, 50), bottom + 4), fill="white")
    draw.rectangle((18, bottom - 5, 18 + length_px, bottom - 1), fill="black")
    draw.text((18, bottom - 31), words, fill="black", font=_font(18))
    return np.asarray(image)


def _caption(text: str, width: int) -> Rgb:
    image = Image.new("RGB", (width, _CAPTION_PX), "white")
    draw = ImageDraw.Draw(image)
    size_px = 20
    while size_px > 8 and draw.textlength(text, font=_font(size_px)) > width - 16:
        size_px -= 1
    draw.text((8, (_CAPTION_PX - size_px) // 2 - 2), text, fill="black", font=_font(size_px))
    return np.asarray(image)


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
