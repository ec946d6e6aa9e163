"""The pixels that are written: real H&E where the workplace has it, drawn tissue where it has not."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import openslide

from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.pixels import on_white
from wsi_pipeline.slides.drawn import draw_slide

REAL_SLIDES = Path(__file__).resolve().parents[3] / "shared" / "slides"
_REAL = REAL_SLIDES / "aperio_jpeg_he.svs"  # 2220 x 2967 px of skin, 0.499 µm/px
_CORNER = (300, 700)  # tissue and glass within 1000 px


@cache
def tissue(width: int, height: int) -> Rgb:
    """Return a picture of tissue, not writeable; the same size gives the same pixels."""
    rgb = _real(width, height) if _REAL.is_file() else _drawn(width, height)
    rgb.flags.writeable = False
    return rgb


def pyramid(rgb: Rgb, *shrinks: float) -> list[Rgb]:
    """Return the picture and smaller ones, by area; a size that comes out broken is rounded down."""
    height, width = rgb.shape[:2]
    sizes = [(int(width / shrink), int(height / shrink)) for shrink in shrinks]
    return [
        rgb,
        *(np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)) for size in sizes),
    ]


def _real(width: int, height: int) -> Rgb:
    with openslide.OpenSlide(_REAL) as slide:
        return on_white(np.asarray(slide.read_region(_CORNER, 0, (width, height))))


def _drawn(width: int, height: int) -> Rgb:
    return draw_slide(Size(width=width, height=height), seed=[3, 5]).rgb
