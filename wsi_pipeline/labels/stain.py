"""Stain colour as optical density: from the metrics of every tile, and as stain vectors from pixels.

Optical density is -log10(light / light of glass). Glass is taken as 255 where only metrics are known, so a
scanner's dim glass counts as colour, as it does for a network.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Rgb

Floats: TypeAlias = NDArray[np.float64]

LEAST_STAINED_PX = 200
"""Stained pixels below which no vectors are found."""

_WHITE = 255.0


def optical_density(mean: NDArray[Any], std: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return mean and spread of a channel's optical density per tile, to first order.

    With light I of mean m and standard deviation s: mean -log10(m / 255), spread s / (m ln 10). The mean is
    too low by about (s / m)² / 4.6, 0.02 where the spread is a third of the mean.

    Parameters
    ----------
    mean, std
        ``{channel}_mean`` and ``{channel}_std`` of the manifest, ``(tiles,)`` grey levels; NaN stays NaN,
        and a mean of 0 has no density (NaN).
    """
    light = np.asarray(mean, np.float64)
    light = np.where(light > 0, light, np.nan)
    return -np.log10(light / _WHITE), np.asarray(std, np.float64) / (light * np.log(10))


def macenko_vectors(
    rgb: Rgb,
    *,
    glass_rgb: Sequence[float] = (240.0, 240.0, 240.0),
    least_density: float = 0.15,
    percent: float = 1.0,
) -> Floats:
    """Return the two stains of H&E pixels as unit vectors of optical density, ``(2, 3)``.

    Row 0 absorbs more red (hematoxylin), row 1 less (eosin); columns are red, green, blue. Pixels' densities
    are projected on the plane in which they lie most, and the robust ends of their angles there are the
    stains. Source: Macenko et al., ISBI 2009, with its 240, 0.15 and 1 %. Where some programs ask every
    channel for 0.15, this asks their mean, because pure eosin hardly absorbs red.

    Parameters
    ----------
    rgb
        Pixels, ``(..., 3)`` uint8, of any shape before the last axis.
    glass_rgb
        Light of empty glass in each channel.
    least_density
        Mean density of the channels of a stained pixel, at least.
    percent
        Share of the pixels beyond either end, in percent.

    Raises
    ------
    ValueError
        Fewer than 200 pixels are stained.
    """
    light = np.asarray(rgb).reshape(-1, 3)  # (pixels, channel)
    light = light[(light > 0).all(axis=1)]  # black has no density that could be known
    density = -np.log10(light / np.asarray(glass_rgb, np.float64))
    density = density[density.mean(axis=1) >= least_density]
    if len(density) < LEAST_STAINED_PX:
        raise ValueError(
            f"rgb: expected at least {LEAST_STAINED_PX} stained pixels, got {len(density)}"
        )
    _, vectors = np.linalg.eigh(density.T @ density)
    plane = vectors[:, [2, 1]]  # (channel, 2): most of the density, then most of the rest
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    across, along = (density @ plane)[:, 1], (density @ plane)[:, 0]
    ends = np.percentile(np.arctan2(across, along), (percent, 100 - percent))
    stains = plane @ np.stack((np.cos(ends), np.sin(ends)))  # (channel, stain)
    stains /= np.linalg.norm(stains, axis=0)
    return np.asarray(stains[:, np.argsort(-stains[0], kind="stable")].T, np.float64)


def angle_degrees(first: Floats, second: Floats) -> float:
    """Return the angle between two unit vectors, in degrees."""
    return float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))
