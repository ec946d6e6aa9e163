"""Small pictures of tiles side by side, and a page of such sheets."""

import html
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from wsi_pipeline.geometry import Rgb
from wsi_pipeline.report.lettering import write_line

SHEET_TILE_PX = 144
_GAP_PX = 3
_BETWEEN = 208  # gray, so that white tiles have an edge
_CAPTION_PX = 30
_LEAST_WIDTH_PX = 720  # room for the caption


def draw_contact_sheet(tiles: Sequence[Rgb], *, caption: str) -> Rgb:
    """Return the tiles in rows below a caption, as near a square as they go.

    All tiles have the same size, at most 144 x 144 px.
    """
    side_px = tiles[0].shape[0] if tiles else SHEET_TILE_PX
    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    pitch = side_px + _GAP_PX
    width = max(_LEAST_WIDTH_PX, columns * pitch + _GAP_PX)
    columns = max(columns, (width - _GAP_PX) // pitch)
    rows = max(1, math.ceil(len(tiles) / columns))
    sheet = np.full((_CAPTION_PX + rows * pitch + _GAP_PX, width, 3), _BETWEEN, np.uint8)
    sheet[:_CAPTION_PX] = _caption(caption, width)
    for place, tile in enumerate(tiles):
        y = _CAPTION_PX + place // columns * pitch + _GAP_PX
        x = place % columns * pitch + _GAP_PX
        sheet[y : y + side_px, x : x + side_px] = tile
    return sheet


def _caption(text: str, width: int) -> Rgb:
    image = Image.new("RGB", (width, _CAPTION_PX), "white")
    write_line(ImageDraw.Draw(image), (6, 6), text, width=width - 12, size_px=15)
    return np.asarray(image)


def quality_page(sheets: Sequence[tuple[str | None, str]]) -> str:
    """Return an HTML page of sheets beside it: (name of ``NAME.jpg`` or None, what it shows)."""
    items = "\n".join(_item(name, says) for name, says in sheets)
    return _PAGE.replace("ITEMS", items or "<p>Nothing to show.</p>")


def _item(name: str | None, says: str) -> str:
    text = html.escape(says)
    if name is None:
        return f"<section><h2>{text}</h2></section>"
    source = html.escape(name)
    return (
        f'<section id="{source}"><h2>{text}</h2>'
        f'<img src="{source}.jpg" alt="Tiles of {text}" loading="lazy"></section>'
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Quality of tiles</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .5rem; }
img { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>Quality of tiles</h1>
<p>Tiles drawn at random from every cluster and every rule that marked some, the least sharp first.
Mark clusters with <code>wsi-pipeline qc RUN --mark-clusters 3,7</code>; nothing is deleted.</p>
ITEMS
</body>
</html>
"""
