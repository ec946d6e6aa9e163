"""Drawn slides with damage whose place is known: what quality control is asked to find."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Mask, Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid

TILE_PX = 128
SIZE = Size(width=1664, height=1280)
SOFT_PX = 0.8  # blur of the softer scanner
_INKS = {"green": (20, 150, 60), "blue": (40, 90, 180), "black": (28, 28, 30), "red": (225, 20, 30)}

Damage = Callable[[Rgb], Rgb]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Slides in a table, and the damaged tiles of each: (slide_id, x, y) to the damage's name."""

    table: Path
    damaged: Mapping[tuple[str, int, int], str]
    unfocused: str
    tumours: frozenset[tuple[str, int, int]]
    """Whole tiles of crowded nuclei: what must not be lost."""


def blurred(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 4.0), np.uint8)


def with_black_stripe(rgb: Rgb) -> Rgb:
    striped = rgb.copy()
    striped[40:60] = 0
    return striped


def with_white_block(rgb: Rgb) -> Rgb:
    lost = rgb.copy()
    lost[:64, :64] = 255
    return lost


def folded(rgb: Rgb) -> Rgb:
    """Return tissue that lies double: its light is dimmed twice."""
    return np.asarray(rgb.astype(np.float64) ** 2 / 243, np.uint8)


def grayed(rgb: Rgb) -> Rgb:
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def inked(ink: str) -> Damage:
    """Return what a felt pen does: a stroke that light passes through."""

    def stroke(rgb: Rgb) -> Rgb:
        pen = np.full_like(rgb, 255)
        cv2.line(pen, (0, 20), (TILE_PX, 100), _INKS[ink], 40, cv2.LINE_AA)
        return np.asarray(rgb.astype(np.uint16) * pen // 255, np.uint8)

    return stroke


DAMAGES: Mapping[str, Damage] = {
    "blur": blurred,
    "black": with_black_stripe,
    "white": with_white_block,
    "fold": folded,
    "gray": grayed,
    **{f"pen {ink}": inked(ink) for ink in _INKS},
}


def draw_damaged(folder: Path) -> Cohort:
    """Draw four slides of each of two scanners: number 2 of each is damaged, one is out of focus."""
    damaged: dict[tuple[str, int, int], str] = {}
    tumours: set[tuple[str, int, int]] = set()
    lines = ["path,slide_id,scanner,centre"]
    for number in range(8):
        scanner = ("sharp", "soft")[number % 2]
        name = f"{scanner}_{number // 2}"
        blur_px = 0.0 if scanner == "sharp" else SOFT_PX
        if name == "sharp_3":
            blur_px = 3.0
        drawn = draw_slide(SIZE, seed=[5, number], blur_px=blur_px, tumours=1)
        rgb = drawn.rgb.copy()
        if number // 2 == 2:
            damaged |= {(name, x, y): what for (x, y), what in _damage(rgb, drawn.tissue).items()}
        tumours |= {(name, x, y) for x, y in _full(_filled(drawn.tumours), least=0.8)}
        write_pyramid(folder / f"{name}.tif", rgb, mpp=0.5, compression="deflate")
        lines.append(f"{name}.tif,{name},{scanner},{('north', 'south')[number // 4]}")
    (folder / "slides.csv").write_text("\n".join(lines))
    return Cohort(
        table=folder / "slides.csv",
        damaged=damaged,
        unfocused="sharp_3",
        tumours=frozenset(tumours - damaged.keys()),
    )


def _filled(outlines: NDArray[np.float32]) -> Mask:
    plane = np.zeros((SIZE.height, SIZE.width), np.uint8)
    for outline in outlines:
        cv2.fillPoly(plane, [outline.astype(np.int32)], (1,))
    return plane.view(np.bool_)


def _full(mask: Mask, *, least: float) -> list[tuple[int, int]]:
    """Return corners of the tiles of which such a share at least is in the mask."""
    return [
        (x, y)
        for y in range(0, SIZE.height, TILE_PX)
        for x in range(0, SIZE.width, TILE_PX)
        if mask[y : y + TILE_PX, x : x + TILE_PX].mean() > least
    ]


def _damage(rgb: Rgb, tissue: Mask) -> dict[tuple[int, int], str]:
    """Damage one whole tile in each way, in place, and say where."""
    full = _full(tissue, least=0.9)
    places = full[:: max(1, len(full) // len(DAMAGES))]
    done = {}
    for (x, y), (name, damage) in zip(places, DAMAGES.items(), strict=False):
        part = np.s_[y : y + TILE_PX, x : x + TILE_PX]
        rgb[part] = damage(rgb[part])
        done[x, y] = name
    return done
