"""Slides that look the same: compared by a small picture made of the mean colours of their tiles.

No pixel is read: a tile's mean grey, saturation and red are in the manifest, and all tiles of a slide are a
picture of it, a pixel a tile. So it works without slides and without a store, and on tables made elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes

COLOURS = ("gray_mean", "saturation_mean", "red_mean")
"""Columns of the manifest that a picture is made of."""

SIDE = 32
"""Width and height of a picture, in cells."""

LEAST_TILES = 30
"""Slides with fewer make pictures so coarse that different slides look the same."""

ALIKE = 0.65
"""Correlation from which two slides are called alike: measured in docs/concepts/splits-and-leakage.md."""

_SAME_SHAPE = 1.25  # sides of the tiled parts may differ by so much: tiles at the rim come and go
_SOFT_CELLS = 0.7  # sigma; tells more copies from others than 0 or 1.2 do
_LEAST_VARIANCE = 1e-3  # of a mixture of colours, of 3 in all: less of it is noise
_AT_ONCE = 256  # slides compared with all others at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Two slides that look the same, by their places among the pictures."""

    one: int
    other: int
    correlation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A slide at a glance."""

    cells: NDArray[np.float32]
    """``(3, SIDE, SIDE)``: mean 0 over the tiled cells of each plane, 0 elsewhere; norm 1 in all."""
    aspect: float
    """Width of the tiled part by its height."""


def picture_of(boxes0: Boxes, colours: NDArray[np.float32]) -> Picture | None:
    """Return the picture of a slide, or None where it has too few tiles or all of them look the same.

    Parameters
    ----------
    boxes0
        Footprints in level-0 pixels, ``(tiles, 4)``: x, y, width, height.
    colours
        ``(tiles, 3)``, in order of ``COLOURS``; NaN where a tile could not be read.
    """
    known = np.isfinite(colours).all(axis=1)
    boxes0, colours = boxes0[known], colours[known]
    if len(np.unique(boxes0[:, :2], axis=0)) < LEAST_TILES:
        return None
    centres = boxes0[:, :2] + boxes0[:, 2:] / 2
    low, high = centres.min(axis=0), centres.max(axis=0)
    if (high <= low).any():
        return None
    cells = _painted((centres - low) / (high - low), _unmixed(colours))
    norm = float(np.linalg.norm(cells))
    if norm < 1e-6:
        return None
    return Picture(cells=cells / np.float32(norm), aspect=float((high - low)[0] / (high - low)[1]))


def alike(pictures: Sequence[Picture], *, least: float = ALIKE) -> list[Likeness]:
    """Return every two that look the same, also turned by quarters or mirrored."""
    if not pictures:
        return []
    flat = np.stack([picture.cells.ravel() for picture in pictures])  # (slides, 3 * SIDE * SIDE)
    aspect = np.log([picture.aspect for picture in pictures])
    found: list[Likeness] = []
    for first in range(0, len(pictures), _AT_ONCE):
        some = pictures[first : first + _AT_ONCE]
        best = np.full((len(some), len(pictures)), -1.0, dtype=np.float32)
        for quarters in range(4):
            sign = -1 if quarters % 2 else 1
            fits = np.abs(sign * aspect[first : first + len(some), None] - aspect) < np.log(
                _SAME_SHAPE
            )
            for mirrored in (False, True):
                turned = np.stack(
                    [_turned(each.cells, quarters, mirrored).ravel() for each in some]
                )
                best = np.maximum(best, np.where(fits, turned @ flat.T, -1.0))
        ones, others = np.nonzero(best >= least)
        found += [
            Likeness(one=first + one, other=other, correlation=float(best[one, other]))
            for one, other in zip(ones.tolist(), others.tolist(), strict=True)
            if first + one < other
        ]
    return found


def _turned(
    cells: NDArray[np.float32],
    quarters: int,
    mirrored: bool,  # noqa: FBT001  private, named where called
) -> NDArray[np.float32]:
    turned = np.rot90(cells, quarters, axes=(1, 2))
    return turned[:, :, ::-1] if mirrored else turned


def _unmixed(colours: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each colour says beside the others, ``(tiles, 3)``: none is correlated with another.

    Dark tiles are mostly saturated and not red, on every slide: three planes that say so together are like
    one, and one agrees by chance with that of another slide more often than three do. The planes stay
    nearest to their colours (ZCA of the correlations; Kessy, Lewin and Strimmer, The American
    Statistician 72, 2018), so that they are the same ones on a copy with other colours.
    """
    values = colours.astype(np.float64) - colours.mean(axis=0)
    values /= np.maximum(values.std(axis=0), 1e-6)
    variances, mixtures = np.linalg.eigh(np.cov(values, rowvar=False))
    return np.asarray(
        values @ (mixtures / np.sqrt(np.maximum(variances, _LEAST_VARIANCE))) @ mixtures.T
    )


def _painted(places: NDArray[np.float64], colours: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return means over cells, less the mean of the slide, in units of its spread, ``(3, SIDE, SIDE)``.

    A tile counts in the four cells around its centre, by nearness: so the picture hardly changes where
    the grid of tiles begins a few pixels further.
    """
    at = places * (SIDE - 1)  # (tiles, 2): x, y in cells
    weight = np.zeros(SIDE * SIDE)
    total = np.zeros((SIDE * SIDE, colours.shape[1]))
    below = np.minimum(np.floor(at).astype(np.int64), SIDE - 2)
    part = at - below
    for x in (0, 1):
        for y in (0, 1):
            near = np.abs(1 - x - part[:, 0]) * np.abs(1 - y - part[:, 1])
            cell = (below[:, 1] + y) * SIDE + below[:, 0] + x
            np.add.at(weight, cell, near)
            np.add.at(total, cell, near[:, None] * colours)
    held = weight > 1e-3 * weight.max()
    cells = np.zeros_like(total)
    cells[held] = total[held] / weight[held, None]
    spread = np.maximum(cells[held].std(axis=0), 1e-6)
    cells[held] = (cells[held] - cells[held].mean(axis=0)) / spread
    planes = cells.T.reshape(-1, SIDE, SIDE).astype(np.float32)  # (colours, rows, columns)
    return np.stack([cv2.GaussianBlur(plane, (0, 0), _SOFT_CELLS) for plane in planes])
