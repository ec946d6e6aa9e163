"""Slides to measure on: the real skin slide mirrored and repeated, or drawn tissue where it is not there."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide

from tests.benchmarks.peers import PLACE, ROOT
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide

SKIN = ROOT.parent / "shared" / "slides" / "aperio_jpeg_he.svs"
SIZE, STRIDE = 1024, 819
"""Tiles of every benchmark, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One format, and how large it is measured."""

    name: str
    writer: str
    """A function of ``make``."""
    suffix: str
    blocks: tuple[int, int]
    """How often the mirrored tissue of 4440 x 5934 px is repeated, across and down; quick: once."""

    def path(self, *, quick: bool) -> Path:
        """Return the slide, which is made once."""
        across, down = (1, 1) if quick else self.blocks
        return made(self.writer, f"{self.writer}-{across}x{down}{self.suffix}", across, down)


JPEG_TIFF = Kind(name="JPEG TIFF", writer="tiff", suffix=".tif", blocks=(6, 5))
JPEG_2000 = Kind(name="JPEG 2000", writer="svs", suffix=".svs", blocks=(4, 3))
MRXS = Kind(name="MRXS", writer="mrxs", suffix=".mrxs", blocks=(4, 3))
CZI = Kind(name="CZI", writer="czi", suffix=".czi", blocks=(4, 3))
KINDS = (JPEG_TIFF, JPEG_2000, MRXS, CZI)


def square(side_px: int) -> Path:
    """Return a JPEG TIFF that repeats a few tiles to any size."""
    return made("repeating", f"repeating-{side_px}.tif", side_px, side_px)


def made(writer: str, name: str, across: int, down: int) -> Path:
    """Return a slide of ``make``; it appears whole, its name last."""
    slides = PLACE / "slides"
    path = slides / name
    if not path.exists():
        slides.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=slides) as folder:
            make = [sys.executable, "-m", "tests.benchmarks.make", writer, f"{folder}/{name}"]
            subprocess.run([*make, str(across), str(down)], check=True, cwd=ROOT)
            for part in sorted(Path(folder).iterdir(), key=lambda part: part.name == name):
                part.rename(slides / part.name)
    return path


def extents_path(path: Path) -> Path:
    """Return where an MRXS's images of level 0 are listed: offset and length in ``Data0000.dat``."""
    return path.with_suffix(".extents.npy")


def seamless_tissue() -> Rgb:
    """Return a picture of tissue that can be repeated: mirrored to the right and below."""
    if SKIN.exists():
        with openslide.OpenSlide(SKIN) as slide:
            rgb = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    else:
        rgb = draw_slide(Size(width=2220, height=2967), seed=11).rgb
    wide = np.hstack([rgb, rgb[:, ::-1]])
    return np.vstack([wide, wide[::-1]])
