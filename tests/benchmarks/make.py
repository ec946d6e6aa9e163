"""Write one subject: ``python -m tests.benchmarks.make KIND PATH ACROSS DOWN``.

In a process of its own: its memory is not that of what is measured.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np

from tests.benchmarks.peers import VIPS, PeerMissingError, environment
from tests.benchmarks.repeating import write_repeating
from tests.benchmarks.subjects import extents_path, seamless_tissue
from tests.writers.codings import jpeg2000
from tests.writers.czi import Layout, metadata_xml, mosaic, write_subblocks
from tests.writers.mrxs import Camera
from tests.writers.mrxs_large import write_large_mrxs
from tests.writers.pixels import pyramid
from tests.writers.tiff import write_svs
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides.drawn import write_pyramid

MPP = 0.499
_TIFFSAVE = """
import sys, pyvips
raw, width, height, across, down, path = sys.argv[1:]
block = pyvips.Image.rawload(raw, int(width), int(height), 3).copy(interpretation="srgb")
block.replicate(int(across), int(down)).tiffsave(
    path, tile=True, pyramid=True, compression="jpeg", Q=80, tile_width=256, tile_height=256, bigtiff=True)
"""


def tiff(path: Path, block: Rgb, *, across: int, down: int) -> None:
    """Write a pyramidal JPEG TIFF through libvips; through tifffile, in the memory, where it is missing."""
    try:
        programs = environment("vips", VIPS)
    except PeerMissingError:
        write_pyramid(path, np.tile(block, (down, across, 1)), mpp=MPP, levels=4)
        return
    raw = path.with_suffix(".raw")
    raw.write_bytes(block.tobytes())
    height, width = block.shape[:2]
    numbers = [str(number) for number in (width, height, across, down)]
    command = [str(programs / "python"), "-c", _TIFFSAVE, str(raw), *numbers, str(path)]
    subprocess.run(command, check=True)
    raw.unlink()


def svs(path: Path, block: Rgb, *, across: int, down: int) -> None:
    """Write an Aperio slide in JPEG 2000 (33005), coded and as large as the scanner's own tiles are.

    Those of TCGA-CR-7395 have 9-7 wavelets, blocks of 64 px, 11 kB in 256 px of tissue.
    """

    def encode(rgb: Rgb) -> bytes:
        return bytes(
            imagecodecs.jpeg2k_encode(
                rgb, level=34, codecformat="j2k", colorspace="SRGB", mct=True, reversible=False
            )
        )

    coding = replace(
        jpeg2000("rgb", lossless=False), encode=encode, tile_px=Size(width=256, height=256)
    )
    write_svs(path, pyramid(np.tile(block, (down, across, 1)), 4, 16), coding=coding)


def mrxs(path: Path, block: Rgb, *, across: int, down: int) -> None:
    """Write an MRXS of photos of 1024 px that overlap by 64 and lie up to 32 px beside their place."""
    rng = np.random.default_rng(7)
    size0 = Size(width=block.shape[1] * across, height=block.shape[0] * down)
    camera = Camera(image_px=256, images=4, overlap_px=64)
    photos = np.ndindex(camera.across(size0.width), camera.across(size0.height))
    moved = {
        (column, row): (int(dx), int(dy))
        for (column, row) in photos
        if column and row
        for dx, dy in [rng.integers(-1, 2, 2) * 32]  # multiples of the coarsest level's shrink
    }

    def seen(box0: Box) -> Rgb:
        rows = np.arange(box0.y, box0.y_end) % block.shape[0]
        columns = np.arange(box0.x, box0.x_end) % block.shape[1]
        return np.asarray(block[rows[:, None], columns])

    places = write_large_mrxs(path, seen, size0, camera=replace(camera, moved_px=moved))
    extents = [extent[:2] for (zoom, _), extent in places.items() if zoom == 0]
    np.save(extents_path(path), np.array(extents))


def czi(path: Path, block: Rgb, *, across: int, down: int) -> None:
    """Write a CZI as Axio Scan does: tiles of 2048 px that overlap by 200, JPEG XR, a pyramid."""
    layout = Layout(tile_px=2048, overlap_px=200, shrinks=(2, 4, 8, 16))
    tiles = mosaic(np.tile(block, (down, across, 1)), layout, compression="jpegxr")
    lossy = [replace(tile, quality=0.9) for tile in tiles]
    write_subblocks(path, lossy, xml=metadata_xml(mpp=(0.22, 0.22)))


def repeating(path: Path, block: Rgb, *, across: int, down: int) -> None:
    """Write a square slide of ``across`` px a side."""
    if across != down:
        raise ValueError(f"side: expected a square, got {across} x {down} px")
    write_repeating(path, block, side_px=across)


WRITERS = {"tiff": tiff, "svs": svs, "mrxs": mrxs, "czi": czi, "repeating": repeating}


if __name__ == "__main__":
    kind, file, *sides = sys.argv[1:]
    WRITERS[kind](Path(file), seamless_tissue(), across=int(sides[0]), down=int(sides[1]))
