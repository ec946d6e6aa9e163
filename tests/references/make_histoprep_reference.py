"""Writes into ``tests/fixtures/histoprep_2_0_5.json`` what HistoPrep 2.0.5 itself says of tiles.

HistoPrep's dependencies and ours cannot be in one environment, so it gets its own; from the root
of the repository::

    python3.11 -m venv .venv-histoprep
    .venv-histoprep/bin/pip install "histoprep==2.0.5" "numpy<2.3" openslide-bin
    .venv-histoprep/bin/python -m tests.references.make_histoprep_reference

Drawn tiles are measured, and real ones from ``../shared/slides`` where that is present.
"""

import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import openslide
import PIL
from numpy.typing import NDArray
from PIL import Image

from tests.references.drawn_tiles import (
    drawn_overviews,
    drawn_tiles,
    pixels_sha256,
    tissue_sha256,
)

COMMAND = ".venv-histoprep/bin/python -m tests.references.make_histoprep_reference"
REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = REPOSITORY / "tests/fixtures/histoprep_2_0_5.json"
SLIDES = REPOSITORY.parent / "shared/slides"

DRAWN_THRESHOLDS = (0, 120, 200, 227)
SLIDE_THRESHOLDS = (200, 227)

SLIDE_TILES = (
    ("aperio_jpeg_he.svs", (900, 900, 1024, 1024)),
    ("aperio_jpeg_he.svs", (1180, 1500, 512, 512)),
    ("aperio_jpeg_he.svs", (0, 0, 512, 512)),
    ("aperio_jpeg2000_he.svs", (1500, 1500, 1024, 1024)),
    ("aperio_jpeg2000_he.svs", (2600, 0, 1024, 1024)),
    ("aperio_jpeg2000_he.svs", (2000, 1700, 512, 512)),
    ("biopsy_with_ink.jpeg", (3560, 460, 512, 512)),
    ("biopsy_with_ink.jpeg", (1500, 100, 512, 512)),
)
"""Name, and x, y, width, height in level-0 pixels."""

SLIDE_OVERVIEWS = (
    ("aperio_jpeg_he.svs", (0, 0, 2220, 2967)),
    ("aperio_jpeg2000_he.svs", (0, 0, 4443, 3567)),
    ("biopsy_with_ink.jpeg", (0, 0, 5600, 1000)),
)
OVERVIEW_STEP_PX = 4
"""An overview is every fourth pixel: no library's averaging is in it."""


def main() -> None:
    reference: dict[str, Any] = {
        "command": COMMAND,
        "versions": {
            "histoprep": version("histoprep"),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "openslide": openslide.__library_version__,
            "pillow": PIL.__version__,
        },
        "tile_coordinates": _tile_coordinates(),
        "drawn": {
            "tiles": {
                name: _tile(rgb, DRAWN_THRESHOLDS) | _size(rgb)
                for name, rgb in drawn_tiles().items()
            },
            "overviews": {
                name: _overview(rgb) | _size(rgb) for name, rgb in drawn_overviews().items()
            },
        },
    }
    if SLIDES.is_dir():
        reference["slides"] = _slides()
    OUTPUT.write_text(_text(reference) + "\n", encoding="utf-8")


def _slides() -> dict[str, Any]:
    """Return the figures of real tiles and overviews, each with where to read it again."""
    tiles = [
        {"slide": slide, "box0": box0} | _tile(_slide_pixels(slide, box0), SLIDE_THRESHOLDS)
        for slide, box0 in SLIDE_TILES
    ]
    overviews = [
        {"slide": slide, "box0": box0, "step_px": OVERVIEW_STEP_PX}
        | _overview(_slide_pixels(slide, box0)[::OVERVIEW_STEP_PX, ::OVERVIEW_STEP_PX])
        for slide, box0 in SLIDE_OVERVIEWS
    ]
    return {"tiles": tiles, "overviews": overviews}


def _slide_pixels(slide: str, box0: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the pixels of a level-0 box, transparent ones white."""
    x, y, width, height = box0
    if slide.endswith(".jpeg"):
        with Image.open(SLIDES / slide) as image:
            return np.array(image.crop((x, y, x + width, y + height)))
    with openslide.OpenSlide(SLIDES / slide) as opened:
        region = opened.read_region((x, y), 0, (width, height))
    return np.array(Image.alpha_composite(Image.new("RGBA", region.size, "white"), region))[..., :3]


def _tile(rgb: NDArray[np.uint8], thresholds: tuple[int, ...]) -> dict[str, Any]:
    """Return HistoPrep's metrics at each threshold, made as its tile cutter makes them."""
    histoprep = _histoprep()
    rgb = np.ascontiguousarray(rgb)
    metrics = {}
    for threshold in thresholds:
        _, tissue_mask = histoprep.get_tissue_mask(rgb, threshold=threshold)
        found = histoprep.get_image_metrics(rgb, tissue_mask)
        metrics[str(threshold)] = {name: _number(value) for name, value in found.items()}
    return {"sha256": pixels_sha256(rgb), "metrics": metrics}


def _overview(rgb: NDArray[np.uint8]) -> dict[str, Any]:
    """Return HistoPrep's Otsu threshold and tissue, with the defaults of its command line."""
    histoprep = _histoprep()
    rgb = np.ascontiguousarray(rgb)
    threshold, tissue_mask = histoprep.get_tissue_mask(rgb, multiplier=1.05, sigma=1.0)
    return {
        "sha256": pixels_sha256(rgb),
        "threshold": int(threshold),
        "tissue_pixels": int(np.count_nonzero(tissue_mask)),
        "tissue_sha256": tissue_sha256(tissue_mask == 1),
    }


def _tile_coordinates() -> list[dict[str, Any]]:
    """Return how many tiles HistoPrep cuts, and where their columns begin.

    Its default drops at most the last column and row, so with overlap "in bounds" can still leave
    the image.
    """
    histoprep = _histoprep()
    side, width, overlap = 2500, 512, 0.2
    grids = []
    for out_of_bounds in (False, True):
        boxes = histoprep.get_tile_coordinates(
            (side, side), width, overlap=overlap, out_of_bounds=out_of_bounds
        )
        grid = {"image_width": side, "image_height": side, "width": width, "overlap": overlap}
        grid |= {"out_of_bounds": out_of_bounds, "count": len(boxes)}
        grids.append(grid | {"x": sorted({box[0] for box in boxes})})
    return grids


def _histoprep() -> ModuleType:
    """Return HistoPrep's functions, late: pytest imports this file where HistoPrep is not."""
    return import_module("histoprep.functional")


def _size(rgb: NDArray[np.uint8]) -> dict[str, int]:
    return {"width": rgb.shape[1], "height": rgb.shape[0]}


def _number(value: float) -> float:
    """Return an int as it is, and a float32 or float64 as the number of its shortest text."""
    return value if isinstance(value, int) else float(str(value))


def _text(value: object, indent: str = "") -> str:
    """Return JSON in which a collection of plain values is one line."""
    if isinstance(value, dict) and any(isinstance(item, dict | list) for item in value.values()):
        lines = [
            f"{indent} {json.dumps(key)}: {_text(item, indent + ' ')}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        lines = [f"{indent} {_text(item, indent + ' ')}" for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
