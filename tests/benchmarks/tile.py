"""``python -m tests.benchmarks tile``: cutting against HistoPrep, libvips, and the sum of its own parts."""

import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.measure import (
    Result,
    Usage,
    at_least,
    at_most,
    cpu_ms,
    not_measured,
    usage_of,
)
from tests.benchmarks.peers import HISTOPREP, PLACE, VIPS, PeerMissingError, environment
from tests.benchmarks.subjects import big_tiff
from wsi_pipeline.pixels import decode_jpeg, to_gray
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.tiles.metrics import laplacian_variance
from wsi_pipeline.tiles.read import read_tiles
from wsi_pipeline.tiles.window import sampling_at_level, windows_px

SIZE, STRIDE = 1024, 819
_DZSAVE = """
import sys, pyvips
pyvips.Image.new_from_file(sys.argv[1], access="sequential").dzsave(
    sys.argv[2], tile_size=819, overlap=102, suffix=".jpg[Q=90]", depth="one")
"""


def run(*, quick: bool) -> list[Result]:
    """Return a result per bar."""
    runs = 1 if quick else 3
    subject = (
        big_tiff(PLACE / "slides", across=2, down=1)
        if quick
        else big_tiff(PLACE / "slides", across=4, down=3)
    )
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        folder = Path(name)
        ours = [_ours(subject, folder / "one", workers=1) for _ in range(runs)]
        two = [_ours(subject, folder / "two", workers=2) for _ in range(runs)]
        return [
            _against_histoprep(subject, folder, ours, runs),
            _against_vips(subject, folder, ours, runs),
            _against_parts(subject, ours),
            at_least(
                "2 workers against 1",
                [one.wall_s / both.wall_s for one, both in zip(ours, two, strict=True)],
                bar=1.8,
                against="wall clock of whole processes",
                command="tile --workers 2",
            ),
            at_most(
                "peak memory of a process",
                [usage.peak_bytes / 2**20 for usage in (*ours, *two)],
                bar=1024,
                unit="MiB",
                against="largest single process",
            ),
        ]


def _ours(subject: Path, folder: Path, *, workers: int) -> Usage:
    shutil.rmtree(folder, ignore_errors=True)
    flags = ["--tissue", "none", "--min-tissue", "0", "--quiet", "--workers", str(workers)]
    return usage_of(
        [sys.executable, "-m", "wsi_pipeline", "tile", str(subject), "-o", str(folder), *flags]
    )


def _against_histoprep(subject: Path, folder: Path, ours: list[Usage], runs: int) -> Result:
    name = "whole job against HistoPrep, JPEG TIFF"
    try:
        programs = environment("histoprep", HISTOPREP)
    except PeerMissingError as error:
        return not_measured(name, reason=str(error), bar=1 / 9)
    command = [
        str(programs / "HistoPrep"),
        "--input",
        str(subject),
        "--output",
        str(folder / "histoprep"),
    ]
    command += [
        "--width",
        str(SIZE),
        "--overlap",
        "0.2",
        "--metrics",
        "--max-background",
        "0.9999",
        "-j",
        "1",
    ]
    theirs = []
    for _ in range(runs):
        shutil.rmtree(folder / "histoprep", ignore_errors=True)
        theirs.append(usage_of(command))
    return at_most(
        name,
        [one.cpu_s / other.cpu_s for one, other in zip(ours, theirs, strict=True)],
        bar=1 / 9,
        against="HistoPrep 2.0.5 --metrics, CPU of whole processes, same tiles",
        command="tile --tissue none --min-tissue 0 --workers 1",
    )


def _against_vips(subject: Path, folder: Path, ours: list[Usage], runs: int) -> Result:
    name = "whole job against vips dzsave, which measures nothing"
    try:
        programs = environment("vips", VIPS)
    except PeerMissingError as error:
        return not_measured(name, reason=str(error), bar=1.0)
    theirs = []
    for turn in range(runs):
        command = [
            str(programs / "python"),
            "-c",
            _DZSAVE,
            str(subject),
            str(folder / f"vips{turn}"),
        ]
        theirs.append(usage_of(command))
    return at_most(
        name,
        [one.cpu_s / other.cpu_s for one, other in zip(ours, theirs, strict=True)],
        bar=1.0,
        against="vips dzsave, tiles of 1023 px at stride 819, quality 90, CPU of whole processes",
        command="tile --tissue none --min-tissue 0 --workers 1",
    )


def _against_parts(subject: Path, ours: list[Usage]) -> Result:
    """Compare with decoding every native tile once, gray, Laplacian and encoding, timed in this process."""
    cv2.setNumThreads(1)
    reader = open_slide(subject)
    sampling = sampling_at_level(reader.info, level=0, tile_size=SIZE, stride=STRIDE)
    windows = windows_px(reader.info, sampling, edge="pad")
    size0 = reader.info.size0
    native = encode_tile(_tile(subject, side=256), "jpeg:85")
    tile = _tile(subject, side=SIZE)
    gray = to_gray(tile)
    parts_ms = (
        cpu_ms(lambda: decode_jpeg(native), times=200) * (size0.width * size0.height / 256**2)
        + cpu_ms(lambda: to_gray(tile), times=50) * len(windows)
        + cpu_ms(lambda: laplacian_variance(gray), times=50) * len(windows)
        + cpu_ms(lambda: encode_tile(tile, "jpeg:90"), times=50) * len(windows)
    )
    reader.close()
    return at_most(
        "whole job against the sum of its parts",
        [1e3 * usage.cpu_s / parts_ms for usage in ours],
        bar=1.25,
        against="every native tile decoded once + gray + Laplacian + JPEG, in one process",
        command="tile --tissue none --min-tissue 0 --workers 1",
    )


def _tile(subject: Path, *, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a tile from the middle, where there is tissue."""
    reader = open_slide(subject)
    sampling = sampling_at_level(reader.info, level=0, tile_size=side, stride=side)
    windows = windows_px(reader.info, sampling, edge="drop")
    middle = len(windows) // 2
    pixels = next(read_tiles(reader, sampling, windows[middle : middle + 1]))
    reader.close()
    if isinstance(pixels, Exception):
        raise pixels
    return pixels
