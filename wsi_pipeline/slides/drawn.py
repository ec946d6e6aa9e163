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
from cv2.typing import MatLike  # here a plane of uint8, ``(height, width)``, level-0 pixels
from numpy.typing import NDArray

from wsi_pipeline.geometry import Mask, Rgb, Size

Compression: TypeAlias = Literal["jpeg", "deflate", "none"]
"""How tiles are stored: ``jpeg`` loses a little, the others nothing."""

Seed: TypeAlias = int | Sequence[int]  # for numpy.random.default_rng, to which [1, 0] is 1
_Rng: TypeAlias = np.random.Generator
_Floats: TypeAlias = NDArray[np.float32]
_Kinds: TypeAlias = NDArray[np.float64]
_Value = TypeVar("_Value", np.bool_, np.float32)

_GLASS_RGB = (243, 242, 245)
_HEMATOXYLIN_RGB = (0.57, 0.66, 0.26)  # absorbance, base 10, where the plane is 255
_EOSIN_RGB = (0.08, 0.45, 0.25)  # likewise
_DAPI_RGB = (0.20, 0.55, 1.25)  # brightness of each channel per step of the plane
_NOISE_SIGMA = 1.6  # grey levels; glass of scanners has 1 to 3
_NOISE_FLOOR = 8  # noise is drawn around it and it is taken off again: so nothing is below 0
_FINEST_MPP, _COARSEST_MPP = 0.1, 4.0  # above, a nucleus is smaller than two pixels
_STROMA_MPP = 1.0  # fibres are 2 µm and wider: drawn at this resolution, then enlarged
_EDGE_UM = 0.6  # softness of outlines
_TUMOUR_RADIUS_UM = (110.0, 210.0)
_TUMOUR_FACTORS = (1.0, 0.7, 0.5)
_TUMOUR_CORNERS = 96
_TUMOUR_CELL, _TUMOUR_PITCH_UM = (5.6, 4.4, 175), 9.0  # µm, µm, shade
_PEN_UM, _PEN_RGB = 90.0, (70, 175, 110)  # its ink, over white
_BASAL, _SPINDLE, _LYMPHOCYTE = (4.6, 2.9, 150), (5.2, 1.9, 165), (3.2, 3.0, 195)  # µm, µm, shade
_GLAND_PITCH_UM, _CELL_PITCH_UM, _RING_PITCH_UM = 105.0, 8.5, 6.2  # in rings, side by side
_SUBPIXEL_BITS = 4
_JPEG_QUALITY = 85  # scanners use 70 to 90
_STEP = 0.25  # from each level to the next, as scanners do


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSlide:
    """A picture and what is true of it, all in level-0 pixels."""

    rgb: Rgb = field(repr=False)
    tissue: Mask = field(repr=False)
    """True where tissue was drawn; the lumens of glands are glass."""
    nuclei: NDArray[np.int32] = field(repr=False)
    """Centres, ``(count, 2)``: x, y; every one lies in the tissue."""
    mpp: float  # µm per pixel
    tumours: _Floats = field(repr=False, default_factory=lambda: np.empty((0, 0, 2), np.float32))
    """Outlines, ``(count, corners, 2)``: x, y; inside, large nuclei crowd and no gland is left."""

    def __post_init__(self) -> None:
        if self.rgb.shape != (*self.tissue.shape, 3):
            raise ValueError(f"tissue: expected {self.rgb.shape[:2]}, got {self.tissue.shape}")


def draw_slide(
    size: Size,
    *,
    seed: Seed,
    mpp: float = 0.5,
    dark_field: bool = False,
    blur_px: float = 0.0,
    tumours: int = 0,
) -> DrawnSlide:
    """Return one to three pieces of tissue on glass; the same arguments give the same pixels.

    ``size`` is in level-0 pixels, ``mpp`` in µm per pixel, 0.1 to 4. A dark field shows blue nuclei
    on black, as DAPI does, in place of H&E. ``blur_px`` is the sigma of a missed focus; the truth
    stays sharp. ``tumours`` is how many are drawn at most: each lies in tissue as a whole, where there
    is room.
    """
    if not _FINEST_MPP <= mpp <= _COARSEST_MPP:
        raise ValueError(f"mpp: expected {_FINEST_MPP} to {_COARSEST_MPP}, got {mpp}")
    if not blur_px >= 0:
        raise ValueError(f"blur_px: expected at least 0, got {blur_px}")
    rng = np.random.default_rng(seed)
    other_rng = rng.spawn(1)[0]  # so that slides without tumours stay what they were
    pieces = _filled(_piece_outlines(rng, size), size)
    outlines = _tumour_outlines(other_rng, pieces, count=tumours, mpp=mpp)
    tumour = _filled(outlines, size)
    glands = _gland_outlines(rng, pieces, mpp=mpp)
    glands = glands[~_looked_up(tumour, glands).any(axis=1)]
    gland = _filled(glands, size)
    tissue = pieces & ~_filled(_scaled(glands, rng.uniform(0.2, 0.42, (len(glands), 1, 1))), size)
    stroma, fibre_angle = _stroma(rng, size, mpp=mpp)
    ring = _gland_cells(rng, glands, mpp=mpp)
    cells = np.concatenate((ring, _stroma_cells(rng, gland, fibre_angle, mpp=mpp)))
    cells = cells[~_looked_up(tumour, cells[:, :2])]
    cells = np.concatenate((cells, _tumour_cells(other_rng, tumour, mpp=mpp)))
    cells = cells[_looked_up(tissue, cells[:, :2])]
    blue = cv2.max(_nuclei(rng, cells, size, mpp=mpp), _soft(gland, 20, mpp=mpp))
    pink = cv2.add(_covered(stroma, 255 - _soft(gland, 166, mpp=mpp)), _soft(gland, 56, mpp=mpp))
    cover = _soft(tissue, 255, mpp=mpp)
    light = _fluorescence if dark_field else _transmission
    rgb = light(_covered(blue, cover), _covered(pink, cover))
    rgb = cv2.GaussianBlur(rgb, (0, 0), blur_px) if blur_px else rgb
    nuclei = cells[:, :2].astype(np.int32)
    rgb = _with_noise(rng, rgb)
    return DrawnSlide(rgb=rgb, tissue=tissue, nuclei=nuclei, mpp=mpp, tumours=outlines)


def _piece_outlines(rng: _Rng, size: Size) -> _Floats:
    """Return pieces along the longer side, clear of each other and the border."""
    count = int(rng.integers(1, 4))
    along = np.array((1, 0) if size.width >= size.height else (0, 1))
    cell = np.array((size.width, size.height)) / np.where(along, count, 1)
    shapes = _closed_curves(rng, count, harmonics=40)
    shapes *= rng.uniform(0.37, 0.46, (count, 1, 2)) / np.abs(shapes).max(axis=1, keepdims=True)
    return np.asarray((np.arange(count)[:, None, None] * along + 0.5 + shapes) * cell, np.float32)


def _gland_outlines(rng: _Rng, pieces: Mask, *, mpp: float) -> _Floats:
    """Return outlines ``(count, corners, 2)``, in the tissue as a whole; some regions have none."""
    sites = _jittered(rng, pieces, pitch_px=_GLAND_PITCH_UM / mpp, jitter=0.22)
    centres = sites[_noise_at(rng, sites, grain=400 / mpp) > -0.3]  # (count, 2)
    radii_px = rng.uniform(25, 48, (len(centres), 1, 1)) / mpp
    shapes = _closed_curves(rng, len(centres), harmonics=4)
    outlines = (centres[:, None] + shapes * radii_px).astype(np.float32)
    return outlines[_looked_up(pieces, _scaled(outlines, 1.15)).all(axis=1)]


def _tumour_outlines(rng: _Rng, pieces: Mask, *, count: int, mpp: float) -> _Floats:
    """Return outlines ``(count, corners, 2)`` in the tissue as a whole and clear of each other."""
    chosen = np.empty((0, _TUMOUR_CORNERS, 2), np.float32)
    if not count:
        return chosen
    room = pieces.copy()
    sites = _jittered(rng, pieces, pitch_px=_GLAND_PITCH_UM / mpp, jitter=0.4).reshape(-1, 2)
    shapes = _closed_curves(rng, len(sites), harmonics=_TUMOUR_CORNERS // 16)
    shapes *= rng.uniform(*_TUMOUR_RADIUS_UM, (len(sites), 1, 1)) / mpp
    smaller = [
        sites[:, None] + shapes * factor for factor in _TUMOUR_FACTORS
    ]  # where little room is
    for outline in np.concatenate([rng.permutation(each) for each in smaller])[:, None]:
        if len(chosen) < count and _looked_up(room, _scaled(outline, 1.1)).all():
            chosen = np.concatenate((chosen, outline)).astype(np.float32)
            room &= ~_filled(_scaled(outline, 1.1), Size(width=room.shape[1], height=room.shape[0]))
    return chosen


def _tumour_cells(rng: _Rng, tumour: Mask, *, mpp: float) -> _Floats:
    """Return large, dark nuclei of unequal size, pointing anywhere."""
    sites = _jittered(rng, tumour, pitch_px=_TUMOUR_PITCH_UM / mpp, jitter=0.3).reshape(-1, 2)
    sites = sites[_looked_up(tumour, sites)]
    angles = rng.uniform(0, np.pi, len(sites)).astype(np.float32)
    unequal = np.array(_TUMOUR_CELL) * rng.normal(1, 0.2, (len(sites), 1)).clip(0.6, 1.5)
    return _cells(rng, sites, angles, kinds=unequal, mpp=mpp)


def with_pen(rgb: Rgb, *, seed: Seed, mpp: float) -> tuple[Rgb, Mask]:
    """Return a slide with a stroke of a green pen over it, and where the stroke is."""
    height, width = rgb.shape[:2]
    rng = np.random.default_rng(seed)
    x = np.linspace(-0.1, 1.1, 24) * width
    y = (rng.uniform(0.3, 0.7) + 0.12 * np.sin(np.linspace(0, 2 * np.pi, 24))) * height
    plane = np.zeros((height, width), np.uint8)
    stroke = _fixed_point(np.stack((x, y), axis=-1).astype(np.float32))
    thick = max(1, round(_PEN_UM / mpp))
    cv2.polylines(plane, [stroke], False, (255,), thick, cv2.LINE_8, _SUBPIXEL_BITS)  # noqa: FBT003
    ink = np.array(_PEN_RGB, np.float32) / 255
    inked = np.where(plane[..., None] > 0, rgb * ink, rgb)
    return np.rint(inked).astype(np.uint8), plane > 0


def _closed_curves(rng: _Rng, count: int, *, harmonics: int) -> _Floats:
    """Return star-shaped curves of mean radius near 1 around 0, ``(count, corners, 2)``."""
    turns = np.arange(1, harmonics + 1)
    angles = np.linspace(0, 2 * np.pi, 16 * harmonics, endpoint=False)
    sizes = rng.normal(0, 0.8, (count, harmonics)) / (turns + 1) ** 1.9  # smooth, but for details
    phases = rng.uniform(0, 2 * np.pi, (count, harmonics))
    waves = sizes * np.cos(angles[:, None, None] * turns + phases)  # (corners, count, harmonics)
    radii = np.exp(waves.sum(axis=2)).T  # (count, corners)
    unit = np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    return np.asarray(radii[..., None] * unit, np.float32)


def _scaled(outlines: _Floats, factor: float | NDArray[np.float64]) -> _Floats:
    centres = outlines.mean(axis=1, keepdims=True)
    return np.asarray(centres + (outlines - centres) * factor, np.float32)


def _filled(outlines: _Floats, size: Size) -> Mask:
    plane = np.zeros((size.height, size.width), np.uint8)
    for corners in _fixed_point(outlines):
        cv2.fillPoly(plane, [corners], (1,), cv2.LINE_8, _SUBPIXEL_BITS)
    return plane.view(np.bool_)


def _fixed_point(points: _Floats) -> NDArray[np.int32]:
    return np.rint(points * (1 << _SUBPIXEL_BITS)).astype(np.int32, order="C")


def _jittered(rng: _Rng, plane: Mask, *, pitch_px: float, jitter: float) -> _Floats:
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


def _noise_at(rng: _Rng, points: _Floats, *, grain: float) -> _Floats:
    """Return smooth noise at points ``(rows, columns, 2)``, repeating after 256 grains."""
    noise = rng.standard_normal((256, 256), np.float32)
    turns = points / np.float32(256 * grain)
    at = (turns - np.floor(turns)) * 256  # cv2.remap counts in 16 bits
    read = cv2.remap(noise, at, np.empty(0), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.asarray(read, np.float32)


def _stroma(rng: _Rng, size: Size, *, mpp: float) -> tuple[MatLike, _Floats]:
    """Return eosin of wavy fibres, and their direction in radians, not enlarged."""
    step_um = max(mpp, _STROMA_MPP)
    axes = (np.arange(0, px * mpp, step_um, dtype=np.float32) for px in (size.width, size.height))
    um = np.stack(np.meshgrid(*axes), axis=-1)  # (rows, columns, 2)
    bend_x, bend_y, waves, depth = (_noise_at(rng, um, grain=g) for g in (300, 300, 70, 300))
    across = um[..., 1] + 60 * bend_y + 7 * waves
    flow = np.stack(((um[..., 0] + 60 * bend_x) / 7, across), axis=-1)  # 7 times longer than wide
    bundles, fibres = (_noise_at(rng, flow, grain=width_um) for width_um in (5.5, 1.9))
    eosin = (126 + 14 * depth + 20 * bundles + 16 * fibres).clip(70, 255).astype(np.uint8)
    angle = np.arctan2(-cv2.Sobel(across, -1, 1, 0), cv2.Sobel(across, -1, 0, 1))
    return cv2.resize(eosin, (size.width, size.height)), np.asarray(angle, np.float32)


def _gland_cells(rng: _Rng, glands: _Floats, *, mpp: float) -> _Floats:
    """Return the basal nuclei of every gland, side by side and pointing at its lumen."""
    centres, corners = glands.mean(axis=1), glands.shape[1]
    radii_um = np.linalg.norm(glands - centres[:, None], axis=2).mean(axis=1) * mpp
    counts = (2 * np.pi * 0.8 * radii_um / _RING_PITCH_UM).astype(np.int64)
    gland, step = np.nonzero(np.arange(64) < counts[:, None])
    turn = (step + rng.normal(0, 0.12, len(step))) / counts[gland]
    spokes = glands[gland, (turn * corners).astype(np.int64) % corners] - centres[gland]
    at = centres[gland] + spokes * rng.normal(0.80, 0.035, (len(step), 1)).astype(np.float32)
    return _cells(rng, at, np.arctan2(spokes[:, 1], spokes[:, 0]), kinds=np.array(_BASAL), mpp=mpp)


def _stroma_cells(rng: _Rng, gland: Mask, fibre_angle: _Floats, *, mpp: float) -> _Floats:
    """Return spindles along the fibres and crowds of lymphocytes, none in a gland."""
    sites = _jittered(rng, gland, pitch_px=_CELL_PITCH_UM / mpp, jitter=0.38)
    crowd = _noise_at(rng, sites, grain=280 / mpp)
    chance = rng.random(crowd.shape) - 0.6 / (1 + np.exp(6 * (1.3 - crowd)))
    chance[_looked_up(gland, sites)] = 1
    sites, crowded = sites[chance < 0.17], chance[chance < 0.17] < 0
    angles = _looked_up(fibre_angle, sites / np.float32(max(1, _STROMA_MPP / mpp)))
    kinds = np.where(crowded[:, None], _LYMPHOCYTE, _SPINDLE)  # (count, 3)
    return _cells(rng, sites, angles, kinds=kinds, mpp=mpp)


def _cells(rng: _Rng, at: _Floats, angles: _Floats, *, kinds: _Kinds, mpp: float) -> _Floats:
    """Return nuclei, ``(count, 6)``: x, y, radius along, radius across, angle, shade to 255."""
    varied = kinds * rng.normal(1, 0.11, (len(at), 3)).clip(0.6, 1.5)  # (count, 3)
    return np.column_stack((at, varied[:, :2] / mpp, angles, varied[:, 2])).astype(np.float32)


def _nuclei(rng: _Rng, cells: _Floats, size: Size, *, mpp: float) -> MatLike:
    """Return the blue of all nuclei: a rim, a paler inside, grains of chromatin."""
    plane = np.zeros((size.height, size.width), np.uint8)
    outlines = _nucleus_outlines(rng, cells)
    rims, insides = _fixed_point(outlines), _fixed_point(_scaled(outlines, 0.72))
    for rim, inside, shade in zip(rims, insides, cells[:, 5].tolist(), strict=True):
        cv2.fillConvexPoly(plane, rim, (shade,), cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.fillConvexPoly(plane, inside, (0.8 * shade,), cv2.LINE_AA, _SUBPIXEL_BITS)
    grains = [int(side / max(1.0, 0.7 / mpp)) + 1 for side in plane.shape]
    chromatin = rng.integers(160, 256, grains, np.uint8)
    return _covered(plane, cv2.resize(chromatin, (size.width, size.height)))


def _nucleus_outlines(rng: _Rng, cells: _Floats) -> _Floats:
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    dent = 1 + 0.10 * np.cos(2 * turns + rng.uniform(0, 2 * np.pi, (len(cells), 1)))  # (count, 16)
    x, y, along, across, angle = cells[:, :5].T[..., None]  # (count, 1) each
    outline = (along * np.cos(turns) + 1j * across * np.sin(turns)) * dent
    turned = x + 1j * y + outline * np.exp(1j * angle)
    return np.stack((turned.real, turned.imag), axis=-1).astype(np.float32)


def _soft(mask: Mask, shade: int, *, mpp: float) -> MatLike:
    """Return the shade in the mask and 0 outside, with a soft edge."""
    return cv2.GaussianBlur(mask.view(np.uint8) * np.uint8(shade), (0, 0), max(_EDGE_UM / mpp, 0.3))


def _covered(plane: MatLike, cover: MatLike) -> MatLike:
    return cv2.multiply(plane, cover, scale=1 / 255)


def _transmission(hematoxylin: MatLike, eosin: MatLike) -> MatLike:
    """Return what is left of the lamp's light behind both stains."""
    channels = []
    for glass, *absorbances in zip(_GLASS_RGB, _HEMATOXYLIN_RGB, _EOSIN_RGB, strict=True):
        tables = [255 * 10 ** (-full * np.arange(256) / 255) for full in absorbances]
        first, second = (np.rint(table).astype(np.uint8) for table in tables)
        left = cv2.LUT(hematoxylin, first), cv2.LUT(eosin, second)
        channels.append(cv2.multiply(*left, scale=glass / 255**2))
    return cv2.merge(channels)


def _fluorescence(nuclei: MatLike, stroma: MatLike) -> MatLike:
    """Return nuclei that shine and stroma that hardly does."""
    return cv2.merge([cv2.addWeighted(nuclei, share, stroma, 0.05, 0) for share in _DAPI_RGB])


def _with_noise(rng: _Rng, rgb: MatLike) -> Rgb:
    """Return the picture with the camera's noise, independent in every value."""
    normal = NormalDist(_NOISE_FLOOR, _NOISE_SIGMA)
    table = np.array([round(normal.inv_cdf((step + 0.5) / 256)) for step in range(256)], np.uint8)
    noise = cv2.LUT(rng.integers(0, 256, rgb.shape, np.uint8), table)
    return np.asarray(cv2.add(cv2.subtract(rgb, np.full(4, float(_NOISE_FLOOR))), noise), np.uint8)


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

    ``mpp`` is µm per pixel of level 0, kept as pixels per cm, None for a slide that does not say;
    ``tile_px`` a multiple of 16. Every level is the one before averaged over boxes of 4 x 4 pixels.
    """
    if mpp is not None and not mpp > 0:
        raise ValueError(f"mpp: expected more than 0, or None, got {mpp}")
    if levels < 1 or min(rgb.shape[:2]) * _STEP ** (levels - 1) < 1:
        raise ValueError(f"levels: expected 1 to as many as {rgb.shape[:2]} px have, got {levels}")
    level: MatLike = rgb
    with tifffile.TiffWriter(path) as writer:
        for index in range(levels):
            if index:
                level = cv2.resize(level, None, fx=_STEP, fy=_STEP, interpolation=cv2.INTER_AREA)
            per_cm = None if mpp is None else 1e4 / (mpp * rgb.shape[1] / level.shape[1])
            writer.write(
                level,
                photometric="rgb",
                tile=(tile_px, tile_px),
                compression=None if compression == "none" else compression,
                compressionargs={"level": _JPEG_QUALITY} if compression == "jpeg" else None,
                subfiletype=int(index > 0),  # 1: a smaller copy of the first
                resolution=per_cm and (per_cm, per_cm),
                resolutionunit=per_cm and "CENTIMETER",
                software="wsi-pipeline",
                metadata=None,  # no description, which would carry the shape
            )
