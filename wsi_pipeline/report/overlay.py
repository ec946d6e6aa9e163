"""A slide's picture with its tissue outlined and its tiles drawn in."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_pipeline.geometry import Boxes, Mask, Rgb
from wsi_pipeline.report.lettering import write_line

TISSUE_RGB = (0, 130, 60)
TILE_RGB = (30, 60, 200)
BAD_TILE_RGB = (220, 30, 30)
CAPTION_PX = 44
"""Height of the strip below the picture."""
_SPECK_PX = 100  # outlines around fewer pixels would hide the tissue under them
_JOIN_PX = 7
_SCALE_BARS_UM = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def draw_overlay(
    rgb: Rgb,
    *,
    tissue: Mask,
    boxes: Boxes,
    bad: Sequence[int],
    caption: str,
    um_per_px: float | None,
) -> Rgb:
    """Return a picture of the slide, as large as ``rgb`` and a caption's height more.

    Parameters
    ----------
    rgb
        Overview, ``(height, width, 3)``.
    tissue
        The mask on the same pixels; its outline is drawn around what stands close together.
    boxes
        Tiles in the picture's pixels, ``(count, 4)``; may reach past it.
    bad
        Rows of ``boxes`` that could not be read: drawn red and crossed.
    caption
        One line below the picture.
    um_per_px
        Size of the picture's pixels for a scale bar, None for none.
    """
    canvas = np.array(rgb)
    cv2.drawContours(canvas, _outlines(tissue), -1, TISSUE_RGB, 2, cv2.LINE_AA)
    for x, y, width, height in boxes.tolist():
        cv2.rectangle(canvas, (x, y), (x + width, y + height), TILE_RGB, 1, cv2.LINE_AA)
    for x, y, width, height in boxes[list(bad)].tolist():
        cv2.rectangle(canvas, (x, y), (x + width, y + height), BAD_TILE_RGB, 1, cv2.LINE_AA)
        cv2.line(canvas, (x, y), (x + width, y + height), BAD_TILE_RGB, 1, cv2.LINE_AA)
    return np.vstack([canvas, draw_caption(caption, canvas.shape[1], um_per_px)])


def _outlines(tissue: Mask) -> list[NDArray[np.int32]]:
    """Return outlines of tissue and of its larger holes; drawn around every fibre they would hide it."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_JOIN_PX, _JOIN_PX))
    joined = cv2.morphologyEx(tissue.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    outlines, _ = cv2.findContours(joined, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [outline for outline in outlines if cv2.contourArea(outline) >= _SPECK_PX]


def draw_caption(text: str, width: int, um_per_px: float | None) -> Rgb:
    """Return a white strip with a scale bar, a sixth of the width and of a round length, and the text.

    ``um_per_px`` is the size of the picture's pixels, None for no bar.
    """
    image = Image.new("RGB", (width, CAPTION_PX), "white")
    draw = ImageDraw.Draw(image)
    left_px = 10
    if um_per_px is not None:
        length_um = min(_SCALE_BARS_UM, key=lambda each: abs(each - width * um_per_px / 6))
        end_px = left_px + round(length_um / um_per_px)
        words = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um} µm"
        draw.rectangle((left_px, 32, end_px, 36), fill="black")
        write_line(draw, (left_px, 8), words, width=width, size_px=17)
        left_px = max(end_px, left_px + 70) + 24
    write_line(draw, (left_px, 12), text, width=width - left_px, size_px=18)
    return np.asarray(image)
