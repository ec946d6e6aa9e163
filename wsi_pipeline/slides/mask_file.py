"""Tissue masks that the user gives, one image file per slide."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Mask, Size

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")

_SAME_ASPECT = 0.02  # masks are drawn on rounded thumbnails: one pixel in fifty


def mask_path(folder: Path, slide_id: str) -> Path:
    """Return a slide's mask in a folder of masks; its ending may be in capitals.

    Raises
    ------
    SlideError
        There is none, or more than one.
    """
    endings = [spelt for suffix in MASK_SUFFIXES for spelt in (suffix, suffix.upper())]
    tried = [folder / f"{slide_id}{ending}" for ending in endings]
    # Where the disk does not tell capitals apart, both spellings are one file.
    found = list({path.stat().st_ino: path for path in reversed(tried) if path.is_file()}.values())
    found.reverse()
    if len(found) != 1:
        names = " and ".join(path.name for path in found) or "none"
        raise SlideError(f"mask: expected one file {slide_id}.png or .tif in {folder}, got {names}")
    return found[0]


def read_mask(path: Path, *, canvas0: Size, max_side_px: int) -> Mask:
    """Return a mask at most so large, true where any channel is not 0; nearest pixels, never averaged.

    Raises
    ------
    SlideError
        The file is no image, or its shape is not that of the slide's canvas.
    """
    try:
        pixels = _tiff_pixels(path, max_side_px) if _is_tiff(path) else _picture_pixels(path)
    except Exception as error:  # every decoder raises its own
        raise SlideError(f"mask {path.name}: cannot be read ({error})") from error
    height, width = pixels.shape[:2]
    if abs(canvas0.width / width / (canvas0.height / height) - 1) > _SAME_ASPECT:
        raise SlideError(
            f"mask {path.name}: expected the shape of the slide, {canvas0.width} x {canvas0.height} px "
            f"or a fraction of it, got {width} x {height}"
        )
    step = -(-max(height, width) // max_side_px)
    pixels = pixels[::step, ::step]
    mask: Mask = pixels > 0 if pixels.ndim == 2 else pixels[..., :3].max(axis=2) > 0
    return mask


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in {".tif", ".tiff"}


def _tiff_pixels(path: Path, max_side_px: int) -> NDArray[np.integer]:
    """Return the finest level that is small enough, else the coarsest."""
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        fitting = [level for level in levels if max(level.shape[:2]) <= max_side_px]
        pixels: NDArray[np.integer] = (fitting or levels[-1:])[0].asarray()
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise ValueError(f"expected one plane of 1 to 4 channels, got shape {pixels.shape}")
    return pixels


def _picture_pixels(path: Path) -> NDArray[np.integer]:
    with Image.open(path) as image:
        pixels = np.asarray(image)
        return pixels[..., :1] if image.mode == "LA" else pixels
