"""Slides to measure on: the real skin slide mirrored and repeated, or drawn tissue where it is not there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide

from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid

ROOT = Path(__file__).resolve().parents[2]
SKIN = ROOT.parent / "shared" / "slides" / "aperio_jpeg_he.svs"


def seamless_tissue() -> Rgb:
    """Return a picture of tissue that can be repeated: mirrored to the right and below."""
    if SKIN.exists():
        with openslide.OpenSlide(SKIN) as slide:
            rgb = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    else:
        rgb = draw_slide(Size(width=2220, height=2967), seed=11).rgb
    wide = np.hstack([rgb, rgb[:, ::-1]])
    return np.vstack([wide, wide[::-1]])


def big_tiff(folder: Path, *, across: int, down: int) -> Path:
    """Return a tiled pyramidal JPEG TIFF of the tissue repeated; made once."""
    path = folder / f"big-{across}x{down}.tif"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # In a process of its own: a large parent would count as its children's peak memory.
        make = [
            sys.executable,
            "-m",
            "tests.benchmarks.subjects",
            str(path),
            str(across),
            str(down),
        ]
        subprocess.run(make, check=True, cwd=ROOT)
    return path


if __name__ == "__main__":
    write_pyramid(
        Path(sys.argv[1]),
        np.tile(seamless_tissue(), (int(sys.argv[3]), int(sys.argv[2]), 1)),
        mpp=0.5,
        levels=4,
    )
