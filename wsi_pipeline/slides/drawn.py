"""Slides that are drawn: glands in stroma on glass, or nuclei in the dark, with known truth.

Shapes are laid out in µm and drawn in level-0 pixels, so that a finer ``mpp`` shows the same
kind of tissue larger. Stains mix as light does: absorbances add up, colours multiply.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Literal, TypeAlias, TypeVar

import cv2
import numpy as np
import tifffile
from cv2.typing import MatLike  # a plane of uint8, ``(height, width)``, level-0 pixels
from numpy.typing import NDArray

from wsi_pipeline.geometry import Mask, Rgb, Size

Compression: TypeAlias = Literal["jpeg", "deflate", "none"]
"""How tiles are stored: ``jpeg`` loses a little, the others nothing."""

JPEG_QUALITY = 85
"""Of tiles stored as JPEG; scanners use 70 to 90."""

LEVEL_STEP = 4
"""Every level of a pyramid is this many times smaller than the one before, as scanners do."""

_Floats: TypeAlias = NDArray[np.float32]
_Value = TypeVar("_Value", np.bool_, np.float32)

_GLASS_RGB = (243, 242, 245)
_HEMATOXYLIN_RGB = (0.70, 0.88, 0.42)  # absorbance, base 10, where the plane is 255
_EOSIN_RGB = (0.07, 0.40, 0.23)  # likewise
_DAPI_RGB = (0.20, 0.55, 1.25)  # brightness of each channel per step of the plane
_NOISE_SIGMA = 1.6  # grey levels; glass of scanners has 1 to 3
_NOISE_FLOOR = 8  # noise is drawn around it and it is taken off, so that no value wraps

_LONGEST_SIDE_PX = 30_000  # cv2.remap counts in 16 bits
_MPP_RANGE = (0.1, 4.0)  # above, a nucleus is smaller than two pixels
_STROMA_MPP = 1.0  # fibres are 2 µm and wider: drawn at this resolution, then enlarged
_EDGE_UM = 0.8  # softness of outlines
_GLAND_PITCH_UM = 105.0
_CELL_PITCH_UM = 8.5
_RING_PITCH_UM = 6.2  # basal nuclei of a gland stand side by side
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSlide:
    """A picture and what is true of it, all in level-0 pixels."""

    rgb: Rgb = field(repr=False)
    tissue: Mask = field(repr=False)
    """True where tissue was drawn; the lumens of glands are glass."""
    nuclei: NDArray[np.int32] = field(repr=False)
    """Centres, ``(count, 2)``: x, y; every one lies in the tissue."""
    mpp: float
    """µm per pixel."""

    def __post_init__(self) -> None:
        if self.rgb.shape != (*self.tissue.shape, 3):
            raise ValueError(f"tissue: expected {self.rgb.shape[:2]}, got {self.tissue.shape}")


def draw_slide(
    size: Size,
    *,
    seed: int | Sequence[int],
    mpp: float = 0.5,
    dark_field: bool = False,
    blur_px: float = 0.0,
) -> DrawnSlide:
    """Return one to three pieces of tissue on glass; the same arguments give the same pixels.

    Parameters
    ----------
    size
        Level-0 pixels, sides up to 30,000.
    mpp
        µm per pixel, 0.1 to 4.
    dark_field
        Blue nuclei on black, as DAPI under fluorescence, in place of H&E.
    blur_px
        Sigma of the focus; the truth stays sharp.
    """
    if max(size.width, size.height) > _LONGEST_SIDE_PX:
        raise ValueError(f"size: expected sides up to {_LONGEST_SIDE_PX}, got {size}")
    if not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
        raise ValueError(f"mpp: expected {_MPP_RANGE[0]} to {_MPP_RANGE[1]}, got {mpp}")
    if not blur_px >= 0:
        raise ValueError(f"blur_px: expected at least 0, got {blur_px}")
    rng = np.random.default_rng(seed)
    pieces = _filled(_piece_outlines(rng, size), size=size)
    glands = _gland_outlines(rng, pieces, mpp=mpp)
    gland = _filled(glands, size=size)
    lumen = _filled(_scaled(glands, rng.uniform(0.2, 0.42, (len(glands), 1, 1))), size=size)
    tissue = pieces & ~lumen
    stroma, fibre_angle = _stroma(rng, size, mpp=mpp)
    in_glands = _gland_cells(rng, glands, mpp=mpp)
    cells = np.concatenate([in_glands, _stroma_cells(rng, gland, fibre_angle, mpp=mpp)])
    cells = cells[_looked_up(tissue, cells[:, :2])]
    cytoplasm, cover = _soft(gland, mpp=mpp), _soft(tissue, mpp=mpp)
    hematoxylin = cv2.max(_nuclei(rng, cells, size=size, mpp=mpp), _times(cytoplasm, 0.08))
    pale = cv2.bitwise_not(_times(cytoplasm, 0.65))
    eosin = cv2.add(_covered(stroma, pale), _times(cytoplasm, 0.22))
    light = _fluorescence if dark_field else _transmission
    rgb = light(_covered(hematoxylin, cover), _covered(eosin, cover))
    return DrawnSlide(
        rgb=_with_noise(rng, cv2.GaussianBlur(rgb, (0, 0), blur_px) if blur_px else rgb),
        tissue=tissue,
        nuclei=cells[:, :2].astype(np.int32),
        mpp=mpp,
    )


def _piece_outlines(rng: np.random.Generator, size: Size) -> _Floats:
    """Return pieces along the longer side, clear of each other and the border."""
    count = int(rng.integers(1, 4))
    along = np.array((1, 0) if size.width >= size.height else (0, 1))
    cell = np.array((size.width, size.height)) / np.where(along, count, 1)
    shapes = _closed_curves(rng, count, harmonics=40, roughness=0.8, falloff=1.9)
    shapes /= np.abs(shapes).max(axis=1, keepdims=True)
    reach = rng.uniform(0.37, 0.46, (count, 1, 2))
    steps = np.arange(count)[:, None, None] * along  # (count, 1, 2)
    return ((steps + 0.5 + shapes * reach) * cell).astype(np.float32)


def _gland_outlines(rng: np.random.Generator, pieces: Mask, *, mpp: float) -> _Floats:
    """Return outlines ``(count, corners, 2)``, in the tissue as a whole; some regions have none."""
    sites = _jittered(rng, pieces, pitch_px=_GLAND_PITCH_UM / mpp, jitter=0.22)
    centres = sites[_noise_at(rng, sites * mpp / 400) > -0.3]  # (count, 2)
    radii_px = rng.uniform(25, 48, len(centres)) / mpp
    shapes = _closed_curves(rng, len(centres), harmonics=4, roughness=0.35, falloff=1.2)
    outlines = (centres[:, None] + shapes * radii_px[:, None, None]).astype(np.float32)
    return outlines[_looked_up(pieces, _scaled(outlines, 1.15)).all(axis=1)]


def _closed_curves(
    rng: np.random.Generator, count: int, *, harmonics: int, roughness: float, falloff: float
) -> _Floats:
    """Return star-shaped curves of mean radius near 1 around 0, ``(count, corners, 2)``."""
    turns = np.arange(1, harmonics + 1)
    angles = np.linspace(0, 2 * np.pi, 16 * harmonics, endpoint=False)
    sizes = rng.normal(0, roughness, (count, harmonics)) / (turns + 1) ** falloff
    phases = rng.uniform(0, 2 * np.pi, (count, harmonics))
    waves = sizes * np.cos(angles[:, None, None] * turns + phases)  # (corners, count, harmonics)
    radii = np.exp(waves.sum(axis=2)).T  # (count, corners)
    unit = np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    return np.asarray(radii[..., None] * unit, np.float32)


def _scaled(outlines: _Floats, factor: float | NDArray[np.float64]) -> _Floats:
    centres = outlines.mean(axis=1, keepdims=True)
    return np.asarray(centres + (outlines - centres) * factor, np.float32)


def _filled(outlines: _Floats, *, size: Size) -> Mask:
    plane = np.zeros((size.height, size.width), np.uint8)
    for corners in _fixed_point(outlines):
        cv2.fillPoly(plane, [corners], (1,), cv2.LINE_8, _SUBPIXEL_BITS)
    return plane.view(np.bool_)


def _fixed_point(points: _Floats) -> NDArray[np.int32]:
    return np.rint(points * (1 << _SUBPIXEL_BITS)).astype(np.int32, order="C")


def _jittered(rng: np.random.Generator, plane: Mask, *, pitch_px: float, jitter: float) -> _Floats:
    """Return a hexagonal grid, its points moved by ``jitter`` pitches: ``(rows, columns, 2)``."""
    rows, columns = (int(side / pitch_px) + 1 for side in (plane.shape[0] / 0.866, plane.shape[1]))
    y, x = np.mgrid[0:rows, 0:columns]
    grid = np.stack((x + 0.5 * (y % 2), y * 0.866), axis=-1)
    return np.asarray((grid + rng.uniform(-jitter, jitter, grid.shape)) * pitch_px, np.float32)


def _looked_up(plane: NDArray[_Value], points: _Floats) -> NDArray[_Value]:
    """Return the values at points ``(..., 2)``; those off the plane see its border."""
    x, y = np.moveaxis(points.astype(np.int32), -1, 0)
    found: NDArray[_Value] = plane[y.clip(0, plane.shape[0] - 1), x.clip(0, plane.shape[1] - 1)]
    return found


def _noise_at(rng: np.random.Generator, points: _Floats) -> _Floats:
    """Return smooth noise at points ``(rows, columns, 2)``: grains 1 wide, repeating after 256."""
    noise = rng.standard_normal((256, 256), np.float32)
    wrapped = (points / 256 - np.floor(points / 256)) * 256
    empty = np.empty(0)
    read = cv2.remap(noise, wrapped, empty, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.asarray(read, np.float32)


def _stroma(rng: np.random.Generator, size: Size, *, mpp: float) -> tuple[MatLike, _Floats]:
    """Return eosin of wavy fibres, and their direction in radians, not enlarged."""
    step_um = max(mpp, _STROMA_MPP)
    x_um = np.arange(0, size.width * mpp, step_um, np.float32)
    y_um = np.arange(0, size.height * mpp, step_um, np.float32)
    um = np.stack(np.meshgrid(x_um, y_um), axis=-1)  # (rows, columns, 2)
    bend_x, bend_y, ripple, thickness = (
        _noise_at(rng, um / grain) for grain in (300, 300, 70, 300)
    )
    along, across = um[..., 0] + 60 * bend_x, um[..., 1] + 60 * bend_y + 7 * ripple
    bundles = _noise_at(rng, np.stack((along / 38, across / 5.5), axis=-1))
    fibres = _noise_at(rng, np.stack((along / 14, across / 1.9), axis=-1))
    eosin = (126 + 14 * thickness + 20 * bundles + 16 * fibres).clip(70, 255).astype(np.uint8)
    slope_y, slope_x = cv2.Sobel(across, -1, 0, 1), cv2.Sobel(across, -1, 1, 0)
    angle = np.arctan2(-slope_x, slope_y).astype(np.float32)
    return cv2.resize(eosin, (size.width, size.height)), angle


def _gland_cells(rng: np.random.Generator, glands: _Floats, *, mpp: float) -> _Floats:
    """Return the basal nuclei of every gland, side by side and pointing at its lumen."""
    centres = glands.mean(axis=1)
    radii_um = np.linalg.norm(glands - centres[:, None], axis=2).mean(axis=1) * mpp
    counts = 2 * np.pi * 0.8 * radii_um / _RING_PITCH_UM
    gland, step = np.nonzero(np.arange(64) < np.floor(counts)[:, None])
    turn = (step + rng.normal(0, 0.12, len(step))) / counts[gland]
    corners = glands.shape[1]
    spokes = glands[gland, (turn * corners).astype(np.int64) % corners] - centres[gland]
    at = centres[gland] + spokes * rng.normal(0.80, 0.035, (len(step), 1))
    return _cells(rng, at, np.arctan2(*spokes.T[::-1]), radii_px=(4.6 / mpp, 2.9 / mpp), shade=150)


def _stroma_cells(
    rng: np.random.Generator, gland: Mask, fibre_angle: _Floats, *, mpp: float
) -> _Floats:
    """Return spindles along the fibres, then crowds of lymphocytes; none in a gland."""
    sites = _jittered(rng, gland, pitch_px=_CELL_PITCH_UM / mpp, jitter=0.38)
    crowd = _noise_at(rng, sites * mpp / 280)
    chance = rng.random(crowd.shape) - 0.8 / (1 + np.exp(6 * (1.3 - crowd)))
    free = ~_looked_up(gland, sites)
    spindles, round_ones = sites[free & (chance >= 0) & (chance < 0.17)], sites[free & (chance < 0)]
    angles = _looked_up(fibre_angle, spindles * mpp / max(mpp, _STROMA_MPP))
    turned = np.zeros(len(round_ones), np.float32)
    return np.concatenate(
        [
            _cells(rng, spindles, angles, radii_px=(5.2 / mpp, 1.9 / mpp), shade=165),
            _cells(rng, round_ones, turned, radii_px=(3.2 / mpp, 3.0 / mpp), shade=205),
        ]
    )


def _cells(
    rng: np.random.Generator,
    centres: _Floats,
    angles: _Floats,
    *,
    radii_px: tuple[float, float],
    shade: float,
) -> _Floats:
    """Return nuclei, ``(count, 6)``: x, y, radius along, radius across, angle, shade to 255."""
    radii = radii_px * rng.normal(1, 0.12, (len(centres), 2)).clip(0.6, 1.5)
    shades = rng.normal(shade, 15, len(centres))
    return np.column_stack((centres, radii, angles, shades)).astype(np.float32)


def _nuclei(rng: np.random.Generator, cells: _Floats, *, size: Size, mpp: float) -> MatLike:
    """Return the blue of all nuclei: a rim, a paler inside, grains of chromatin."""
    plane = np.zeros((size.height, size.width), np.uint8)
    outlines = _nucleus_outlines(rng, cells)
    rims, insides = _fixed_point(outlines), _fixed_point(_scaled(outlines, 0.72))
    for rim, inside, shade in zip(rims, insides, cells[:, 5].tolist(), strict=True):
        cv2.fillConvexPoly(plane, rim, (shade,), cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.fillConvexPoly(plane, inside, (0.8 * shade,), cv2.LINE_AA, _SUBPIXEL_BITS)
    grain_px = max(1.0, 0.7 / mpp)
    grid = (int(size.height / grain_px) + 1, int(size.width / grain_px) + 1)
    chromatin = cv2.resize(rng.integers(160, 256, grid, np.uint8), (size.width, size.height))
    return _covered(plane, chromatin)


def _nucleus_outlines(rng: np.random.Generator, cells: _Floats) -> _Floats:
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    dent = 1 + 0.10 * np.cos(2 * turns + rng.uniform(0, 2 * np.pi, (len(cells), 1)))  # (count, 16)
    x, y, radius_along, radius_across, angle = cells[:, :5].T[..., None]  # (count, 1) each
    along, across = radius_along * np.cos(turns) * dent, radius_across * np.sin(turns) * dent
    turned_x = along * np.cos(angle) - across * np.sin(angle)
    turned_y = along * np.sin(angle) + across * np.cos(angle)
    return np.stack((x + turned_x, y + turned_y), axis=-1).astype(np.float32)


def _soft(mask: Mask, *, mpp: float) -> MatLike:
    """Return 255 in the mask and 0 outside, with a soft edge."""
    return cv2.GaussianBlur(mask.view(np.uint8) * np.uint8(255), (0, 0), max(_EDGE_UM / mpp, 0.3))


def _times(plane: MatLike, factor: float) -> MatLike:
    return cv2.convertScaleAbs(plane, alpha=factor)


def _covered(plane: MatLike, cover: MatLike) -> MatLike:
    return cv2.multiply(plane, cover, scale=1 / 255)


def _transmission(hematoxylin: MatLike, eosin: MatLike) -> MatLike:
    """Return what is left of the lamp's light behind both stains."""
    steps = np.arange(256) / 255
    channels = []
    for glass, blue, red in zip(_GLASS_RGB, _HEMATOXYLIN_RGB, _EOSIN_RGB, strict=True):
        behind_blue = cv2.LUT(hematoxylin, np.rint(255 * 10 ** (-blue * steps)).astype(np.uint8))
        behind_red = cv2.LUT(eosin, np.rint(255 * 10 ** (-red * steps)).astype(np.uint8))
        channels.append(cv2.multiply(behind_blue, behind_red, scale=glass / 255**2))
    return cv2.merge(channels)


def _fluorescence(nuclei: MatLike, stroma: MatLike) -> MatLike:
    """Return nuclei that shine and stroma that hardly does."""
    return cv2.merge([cv2.addWeighted(nuclei, share, stroma, 0.05, 0) for share in _DAPI_RGB])


def _with_noise(rng: np.random.Generator, rgb: MatLike) -> Rgb:
    """Return the picture with the camera's noise, independent in every value."""
    normal = NormalDist(_NOISE_FLOOR, _NOISE_SIGMA)
    table = np.array([round(normal.inv_cdf((step + 0.5) / 256)) for step in range(256)], np.uint8)
    noise = cv2.LUT(rng.integers(0, 256, rgb.shape, np.uint8), table)
    lowered = cv2.subtract(rgb, np.full(4, _NOISE_FLOOR, np.float64))
    return np.asarray(cv2.add(lowered, noise), np.uint8)


def write_pyramid(
    path: Path,
    rgb: Rgb,
    *,
    mpp: float | None,
    tile_px: int = 256,
    levels: int = 3,
    compression: Compression = "jpeg",
) -> None:
    """Write a tiled TIFF that OpenSlide opens as generic; the same input gives the same bytes.

    Parameters
    ----------
    rgb
        Level 0; every further level is the one before averaged over boxes of 4 x 4 pixels,
        a little stretched where 4 does not divide a side.
    mpp
        µm per pixel of level 0, stored as pixels per cm; None stores no resolution.
    tile_px
        Side of the tiles, a multiple of 16.
    """
    if levels < 1:
        raise ValueError(f"levels: expected at least 1, got {levels}")
    if mpp is not None and not mpp > 0:
        raise ValueError(f"mpp: expected more than 0, or None, got {mpp}")
    level = rgb
    with tifffile.TiffWriter(path) as writer:
        for index in range(levels):
            level = _reduced(level) if index else rgb
            writer.write(
                level,
                photometric="rgb",
                tile=(tile_px, tile_px),
                compression=None if compression == "none" else compression,
                compressionargs={"level": JPEG_QUALITY} if compression == "jpeg" else None,
                subfiletype=int(index > 0),
                resolution=None if mpp is None else _pixels_per_cm(level, level0=rgb, mpp=mpp),
                resolutionunit=None if mpp is None else "CENTIMETER",
                software="wsi-pipeline",
                metadata=None,
            )


def _reduced(rgb: Rgb) -> Rgb:
    height, width = (max(1, round(side / LEVEL_STEP)) for side in rgb.shape[:2])
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _pixels_per_cm(level: Rgb, *, level0: Rgb, mpp: float) -> tuple[float, float]:
    (height, width), (height0, width0) = level.shape[:2], level0.shape[:2]
    return 1e4 / mpp * width / width0, 1e4 / mpp * height / height0
