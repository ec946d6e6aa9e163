"""An overview image becomes a tissue mask: one pure function per method."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.config import TissueMethod
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import WHITE, Gray, Mask, Rgb
from wsi_pipeline.pixels import to_gray, to_hsv

BLUR_SIGMA_PX = 1.0
"""Gaussian blur before thresholding, of the overview and of every tile (HistoPrep 2.0.5's command line)."""

DARKEST_PICTURE = 32
"""An image of colour channels whose brightest value is below is looked at as a possible raster of classes."""

_MOST_CLASSES = 32  # more than a label mask has, fewer than the grey levels of any photograph
_BLUR_KERNEL_PX = 5  # int(3.5 * sigma + 0.5), made odd: HistoPrep's truncation

_OTSU_MULTIPLIER = 1.05  # HistoPrep's default: slightly more tissue than Otsu alone
_MIN_CONTRAST = (
    8.0  # grey levels between the two classes; stain gives 40 and more, glass noise 2 to 4
)
_DARK_MEDIAN = 64  # brightfield tissue filling the view has a median of 110 to 200
_BRIGHT_GRAY = 200  # glass under transmitted light is above
_BRIGHT_SHARE = 0.02
_GAP_UM = 30.0  # between nuclei of one tissue; those of stroma stand 15 to 25 apart
_GAPS_PER_SIDE = 50  # where µm are not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """What one overview says of its slide."""

    tissue: Mask = field(repr=False)
    """True on tissue, in the overview's own pixels."""
    threshold: int
    """Grey level of the blurred image between tissue and background; the tiles' metrics use it too."""
    dark_field: bool
    """Tissue is bright on black (fluorescence), so it lies above the threshold."""


def segment(rgb: Rgb, *, method: TissueMethod, mpp: float | None = None) -> Segmentation:
    """Return tissue, threshold and field of an overview image.

    Parameters
    ----------
    rgb
        Overview, ``(height, width, 3)`` uint8, never scanned parts white.
    method
        ``otsu``: HistoPrep's rule, dark field recognised, glass alone recognised.
        ``histoprep``: HistoPrep's rule and nothing else.
        ``hsv``: Otsu on the blurred saturation. ``none``: everything is tissue.
    mpp
        µm per overview pixel: how far apart nuclei of one tissue stand in a dark field.

    Raises
    ------
    SlideError
        Saturation is asked for on a dark-field slide.
    """
    gray = to_gray(rgb)
    dark_field = method != "histoprep" and is_dark_field(gray)
    threshold = gray_threshold(gray, dark_field=dark_field)
    tissue: Mask
    match method:
        case "none":
            tissue = np.ones(gray.shape, dtype=np.bool_)
        case "hsv":
            tissue = _saturated(rgb, dark_field=dark_field)
        case "histoprep":
            tissue = tissue_pixels(gray, threshold=threshold)
        case "otsu":
            tissue = _otsu_tissue(gray, threshold=threshold, dark_field=dark_field, mpp=mpp)
    return Segmentation(tissue=tissue, threshold=threshold, dark_field=dark_field)


def is_dark_field(gray: Gray) -> bool:
    """Whether the background is black: mostly dark, and next to nothing as bright as glass.

    Pure white is left out of the count: it is what was never scanned.
    """
    seen = gray[gray < WHITE]
    if seen.size == 0:
        return False
    return bool(np.median(seen) < _DARK_MEDIAN and np.mean(seen > _BRIGHT_GRAY) < _BRIGHT_SHARE)


def gray_threshold(gray: Gray, *, dark_field: bool = False) -> int:
    """Return the grey level that parts tissue from background, 0 to 255.

    Otsu's threshold of the blurred image over the values 1 to 254, times 1.05 (HistoPrep 2.0.5,
    ``functional/_tissue.py``); divided by 1.05 on a dark field, where less is more tissue.

    >>> 100 < gray_threshold(np.repeat(np.uint8([[100, 240]]), 50, axis=1)) < 240
    True
    """
    values = _blurred(gray)
    counted = values[(values > 0) & (values < WHITE)]
    otsu = _otsu(counted) if counted.size else 0.0
    multiplier = 1 / _OTSU_MULTIPLIER if dark_field else _OTSU_MULTIPLIER
    return min(WHITE, int(otsu * multiplier + 0.5))


def tissue_pixels(gray: Gray, *, threshold: int, dark_field: bool = False) -> Mask:
    """Return True where the blurred image is on the tissue's side of the threshold, ``(height, width)``.

    A pixel at the threshold is tissue on bright glass and background in the dark.
    """
    blurred = _blurred(gray)
    return blurred > threshold if dark_field else blurred <= threshold


def class_raster_reason(rgb: Rgb, *, channels: int) -> str | None:
    """Return why an image is a raster of classes and not a picture, or None when it is a picture.

    Parameters
    ----------
    rgb
        Pixels as stored, never averaged, ``(height, width, 3)`` uint8.
    channels
        How many the file stores: 1 for gray.
    """
    values = np.unique(rgb)
    few = 2 <= values.size <= _MOST_CLASSES
    if not few or (channels > 1 and values[-1] >= DARKEST_PICTURE):
        return None
    if values.size > 2 and values[-1] == WHITE:
        values = values[:-1]  # what the file leaves out reads as white
    listed = ", ".join(str(value) for value in values[:6]) + (", …" if values.size > 6 else "")
    return (
        f"a label mask, not a picture: {channels} channel(s) holding only the values {listed}; "
        "give masks through --tissue DIR"
    )


def _otsu_tissue(gray: Gray, *, threshold: int, dark_field: bool, mpp: float | None) -> Mask:
    if not _has_contrast(gray):
        return np.zeros(gray.shape, dtype=np.bool_)
    tissue = tissue_pixels(gray, threshold=threshold, dark_field=dark_field)
    return _joined(tissue, mpp=mpp) if dark_field else tissue


def _joined(nuclei: Mask, *, mpp: float | None) -> Mask:
    """Return fluorescent nuclei joined to the tissue they stand in: its stroma is as dark as the glass."""
    gap_px = min(nuclei.shape) / _GAPS_PER_SIDE if mpp is None else _GAP_UM / mpp
    side_px = 2 * round(min(gap_px, max(nuclei.shape)) / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px))
    joined: Gray = cv2.morphologyEx(nuclei.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    return joined > 0


def _blurred(gray: Gray) -> Gray:
    kernel = (_BLUR_KERNEL_PX, _BLUR_KERNEL_PX)
    blurred: Gray = cv2.GaussianBlur(gray, kernel, sigmaX=BLUR_SIGMA_PX, sigmaY=BLUR_SIGMA_PX)
    return blurred


def _otsu(values: NDArray[np.uint8]) -> float:
    return cv2.threshold(values.reshape(-1, 1), 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)[0]


def _has_contrast(gray: Gray) -> bool:
    """Whether Otsu's two classes are two things, and not the noise of empty glass."""
    counted = gray[(gray > 0) & (gray < WHITE)]
    if counted.size == 0:
        return False
    dark = counted <= _otsu(counted)
    if dark.all() or not dark.any():
        return False
    return bool(counted[~dark].mean() - counted[dark].mean() >= _MIN_CONTRAST)


def _saturated(rgb: Rgb, *, dark_field: bool) -> Mask:
    if dark_field:
        raise SlideError(
            "tissue: hsv looks for stain on bright glass, and this slide is dark field; use --tissue otsu"
        )
    saturation = _blurred(np.ascontiguousarray(to_hsv(rgb)[..., 1]))
    return saturation > _otsu(saturation)
