"""Tiles in rows under headings, with what is said of each below it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from wsi_pipeline.geometry import Rgb
from wsi_pipeline.report.lettering import write_line

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
    """``(height, width, 3)``: one or more pictures side by side, mostly 160 px high."""
    lines: tuple[str, ...]
    """Said below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """Tiles under one heading."""

    heading: str
    tiles: tuple[SheetTile, ...]


def draw_tile_sheet(title: str, rows: Sequence[SheetRow]) -> Rgb:
    """Return a sheet, white, about six pictures wide; every tile has the room that the largest needs."""
    tiles = [tile for row in rows for tile in row.tiles]
    wide = max((tile.rgb.shape[1] for tile in tiles), default=SHEET_SIDE_PX)
    high = max((tile.rgb.shape[0] for tile in tiles), default=SHEET_SIDE_PX)
    columns = max(1, _COLUMNS * SHEET_SIDE_PX // wide)
    width = _GAP_PX + columns * (wide + _GAP_PX)
    lines = max((len(tile.lines) for tile in tiles), default=0)
    pitch_px = high + lines * _LINE_PX + _GAP_PX
    counts = [-(-len(row.tiles) // columns) for row in rows]
    height = _TITLE_PX + sum(_HEADING_PX + count * pitch_px for count in counts) + _GAP_PX
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (_GAP_PX, 8), title, width=width - 2 * _GAP_PX, size_px=18)
    top = _TITLE_PX
    for row, count in zip(rows, counts, strict=True):
        write_line(draw, (_GAP_PX, top + 6), row.heading, width=width - 2 * _GAP_PX, size_px=14)
        top += _HEADING_PX
        for place, tile in enumerate(row.tiles):
            x = _GAP_PX + place % columns * (wide + _GAP_PX)
            y = top + place // columns * pitch_px
            sheet.paste(Image.fromarray(tile.rgb), (x, y))
            for line, text in enumerate(tile.lines):
                below = (x, y + tile.rgb.shape[0] + 1 + line * _LINE_PX)
                write_line(draw, below, text, width=wide, size_px=12, least_px=9)
        top += count * pitch_px
    return np.asarray(sheet)
