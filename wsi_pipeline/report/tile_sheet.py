"""Tiles in rows under headings, with what is said of each below it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wsi_pipeline.geometry import Rgb

SHEET_SIDE_PX = 160
"""Side of the pictures."""

_COLUMNS = 6
_GAP_PX = 8
_LINE_PX = 15
_HEADING_PX = 30
_TITLE_PX = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetTile:
    """One picture of a sheet."""

    rgb: Rgb = field(repr=False)
    """``(160, n x 160, 3)``: one or more pictures side by side."""
    lines: tuple[str, ...]
    """Said below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """Tiles under one heading."""

    heading: str
    tiles: tuple[SheetTile, ...]


def draw_tile_sheet(title: str, rows: Sequence[SheetRow]) -> Rgb:
    """Return a sheet, white, about six pictures wide; all tiles are as wide and have as many lines."""
    tiles = [tile for row in rows for tile in row.tiles]
    wide = max((tile.rgb.shape[1] for tile in tiles), default=SHEET_SIDE_PX)
    columns = max(1, _COLUMNS * SHEET_SIDE_PX // wide)
    width = _GAP_PX + columns * (wide + _GAP_PX)
    lines = max((len(tile.lines) for tile in tiles), default=0)
    pitch_px = SHEET_SIDE_PX + lines * _LINE_PX + _GAP_PX
    counts = [-(-len(row.tiles) // columns) for row in rows]
    height = _TITLE_PX + sum(_HEADING_PX + count * pitch_px for count in counts) + _GAP_PX
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_GAP_PX, 8), title, width - 2 * _GAP_PX, 20)
    top = _TITLE_PX
    for row, count in zip(rows, counts, strict=True):
        _write(draw, (_GAP_PX, top + 6), row.heading, width - 2 * _GAP_PX, 16)
        top += _HEADING_PX
        for place, tile in enumerate(row.tiles):
            x = _GAP_PX + place % columns * (wide + _GAP_PX)
            y = top + place // columns * pitch_px
            sheet.paste(Image.fromarray(tile.rgb), (x, y))
            for line, text in enumerate(tile.lines):
                _write(draw, (x, y + SHEET_SIDE_PX + 1 + line * _LINE_PX), text, wide, 13)
        top += count * pitch_px
    return np.asarray(sheet)


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, size_px: int
) -> None:
    """Write one line, smaller where it does not fit, and cut off where it still does not."""
    text = " ".join(text.split())
    font: Any = ImageFont.load_default(size_px)
    while size_px > 9 and draw.textlength(text, font) > width:
        size_px -= 1
        font = ImageFont.load_default(size_px)
    while len(text) > 1 and draw.textlength(text, font) > width:
        text = text[:-2] + "…"
    draw.text(at, text, fill="black", font=font)
