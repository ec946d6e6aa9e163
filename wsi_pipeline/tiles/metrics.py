"""Quality numbers of one tile, equal to HistoPrep 2.0.5's, and the paper's sharpness.

Source: HistoPrep ``functional/_metrics.py`` for what each number means; Pohjonen et al. for the
variance of the Laplacian. The whole tile is measured where a share or the sharpness is wanted;
means, spreads and quantiles come from its 64 x 64 nearest-neighbour sample, as HistoPrep's do.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import WHITE, Gray, Mask, Rgb
from wsi_pipeline.pixels import to_gray, to_hsv
from wsi_pipeline.schema import CHANNELS, QUANTILES
from wsi_pipeline.tissue.segment import tissue_pixels

SAMPLE_PX = 64
_MIN_TISSUE_PX = 10  # with fewer in the sample, HistoPrep takes the whole sample


def tile_metrics(rgb: Rgb, *, threshold: int, dark_field: bool = False) -> dict[str, float]:
    """Return every metric of one uncompressed tile by column name.

    Parameters
    ----------
    rgb
        The tile, ``(height, width, 3)`` uint8.
    threshold
        The slide's grey level between tissue and background, 0 to 255.
    dark_field
        Tissue is brighter than the threshold.

    Returns
    -------
    dict
        ``laplacian_var`` in squared grey levels; shares 0 to 1; means, standard deviations and
        quantiles in grey levels (hue 0 to 179).
    """
    gray = to_gray(rgb)
    tissue = tissue_pixels(gray, threshold=threshold, dark_field=dark_field)
    metrics = {
        "laplacian_var": laplacian_variance(gray),
        "background": 1.0 - np.count_nonzero(tissue) / tissue.size,
        "black_pixels": 1.0 - cv2.countNonZero(gray) / gray.size,
        "white_pixels": np.count_nonzero(gray == WHITE) / gray.size,
    }
    metrics.update(_channel_metrics(*_sample(rgb, tissue)))
    return metrics


def laplacian_variance(gray: Gray) -> float:
    """Return the variance of the Laplacian, the paper's sharpness, in squared grey levels.

    16-bit integers hold the 3 x 3 Laplacian of 8-bit pixels exactly (-1020 to 1020).
    """
    _, deviation = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S, ksize=1))
    return float(deviation[0, 0] ** 2)


def _sample(rgb: Rgb, tissue: Mask) -> tuple[NDArray[np.uint8], Mask]:
    """Return the sampled planes ``(7, 4096)`` and which of their pixels count as tissue ``(4096,)``."""
    rows, columns = _sampled(rgb.shape[0]), _sampled(rgb.shape[1])
    small = np.ascontiguousarray(rgb[rows[:, None], columns])
    planes = (
        np.dstack([to_gray(small), small, to_hsv(small)]).reshape(-1, len(CHANNELS)).T
    )  # (channel, pixel)
    counted = tissue[rows[:, None], columns].reshape(-1)
    if np.count_nonzero(counted) < _MIN_TISSUE_PX:
        counted = np.ones_like(counted)
    return np.ascontiguousarray(planes), counted


def _sampled(side_px: int) -> NDArray[np.intp]:
    """Return which 64 rows or columns are sampled, rounded as ``cv2.INTER_NEAREST`` rounds them.

    Its factor is the reciprocal of a reciprocal, and for some sides just below ``side_px / 64``.
    """
    return (np.arange(SAMPLE_PX) * (1 / (SAMPLE_PX / side_px))).astype(np.intp)


def _channel_metrics(planes: NDArray[np.uint8], counted: Mask) -> dict[str, float]:
    metrics: dict[str, float] = {}
    means, spreads = planes.mean(axis=1), planes.std(axis=1)
    for name, mean, spread in zip(CHANNELS, means, spreads, strict=True):
        metrics[f"{name}_mean"], metrics[f"{name}_std"] = float(mean), float(spread)
    ordered = np.sort(planes[:, counted], axis=1)
    for percent in QUANTILES:
        # The first value with more than this many pixels at or below it (HistoPrep's rule).
        rank = int(percent / 100 * ordered.shape[1])
        for name, value in zip(CHANNELS, ordered[:, rank], strict=True):
            metrics[f"{name}_q{percent}"] = int(value)
    return metrics
