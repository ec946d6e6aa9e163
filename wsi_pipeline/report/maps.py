"""A slide's tiles as the page carries them: few bytes, which its script unpacks when they are looked at."""

import base64
import zlib
from typing import Any

import numpy as np

from wsi_pipeline.report.parts import Maps, SlideMap

_LEVEL = 9


def packed(slide: SlideMap) -> dict[str, Any]:
    """Return a slide's picture and tiles as JSON can hold them.

    ``tiles`` is base64 of zlib of: x, y, width, height as little-endian int32 planes, each value less the
    one before it, then one byte a tile for every column. A regular grid is a few bytes, a column of noise
    half a byte a tile.
    """
    steps = np.diff(slide.boxes0.astype("<i4"), axis=0, prepend=np.zeros((1, 4), dtype="<i4"))
    planes = [np.ascontiguousarray(steps.T).tobytes(), *(codes.tobytes() for codes in slide.codes)]
    frame = slide.frame0
    return {
        "id": slide.slide_id,
        "about": slide.about,
        "frame": [frame.x, frame.y, frame.width, frame.height],
        "count": len(slide.boxes0),
        "picture": None if slide.picture is None else data_url(slide.picture),
        "tiles": base64.b64encode(zlib.compress(b"".join(planes), _LEVEL)).decode(),
    }


def described(maps: Maps) -> dict[str, Any]:
    """Return all maps for the page's script."""
    return {
        "columns": [scale.described() for scale in maps.scales],
        "slides": list(maps.slides),
    }


def data_url(image: bytes) -> str:
    """Return a picture as an address that holds it."""
    kind = "webp" if image[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
