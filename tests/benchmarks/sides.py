"""Who is measured: this package, and the programs and libraries beside it, all on the same tiles."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from tests.benchmarks.measure import figures_of, usage_of
from tests.benchmarks.peers import HISTOPREP, VIPS, environment
from tests.benchmarks.subjects import SIZE

FLAGS = ("--tissue", "none", "--min-tissue", "0", "--quiet")
STEPS = ("open", "mask", "decode", "metrics", "encode", "write")
_DZSAVE = """
import sys, pyvips
pyvips.Image.new_from_file(sys.argv[1], access="sequential").dzsave(
    sys.argv[2], tile_size=819, overlap=102, suffix=".jpg[Q=90]", depth="one")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one run took."""

    cpu_s: float
    wall_s: float
    tiles: int
    command: str
    """With names in place of paths."""
    peak_bytes: int = 0
    steps_ms: Mapping[str, float] = field(default_factory=dict)
    """By step, per tile, as the run itself counted them."""


Side: TypeAlias = Callable[[Path, Path], Taken]
"""Cuts a slide into an empty folder, which the caller removes."""


def ours(slide: Path, folder: Path, *, workers: int, flags: Sequence[str] = FLAGS) -> Taken:
    """Return what this package takes with so many workers."""
    run = folder / f"run{workers}"
    command = [sys.executable, "-m", "wsi_pipeline", "tile", str(slide), "-o", str(run), *flags]
    taken = _taken([*command, "--workers", str(workers)], count=lambda: _row(run)["tiles"])
    row = _row(run)
    return replace(
        taken,
        steps_ms={step: 1e3 * float(row[f"seconds_{step}"]) / taken.tiles for step in STEPS},
    )


def _row(run: Path) -> "pd.Series[Any]":
    """Return what a run says of its only slide."""
    return pd.read_parquet(run / "slides.parquet").iloc[0]


def one_worker(slide: Path, folder: Path) -> Taken:
    """Return what this package takes with one worker."""
    return ours(slide, folder, workers=1)


def two_workers(slide: Path, folder: Path) -> Taken:
    """Return what this package takes with two workers."""
    return ours(slide, folder, workers=2)


def histoprep(slide: Path, folder: Path) -> Taken:
    """Return what HistoPrep takes, metrics and the same JPEG quality included.

    Its threshold is set so that only what lies off the slide is background: else it leaves tiles out.
    """
    out = folder / "histoprep"
    command = [str(environment("histoprep", HISTOPREP) / "HistoPrep")]
    command += ["--input", str(slide), "--output", str(out), "--width", str(SIZE)]
    command += ["--overlap", "0.2", "--metrics", "--quality", "90", "-j", "1"]
    command += ["--threshold", "255", "--max-background", "0.9999"]
    return _taken(command, count=lambda: _files(out / slide.stem / "tiles"))


def dzsave(slide: Path, folder: Path) -> Taken:
    """Return what libvips takes for tiles of 1023 px at stride 819; it counts overlap on both sides."""
    out = folder / "vips"
    command = [str(environment("vips", VIPS) / "python"), "-c", _DZSAVE, str(slide), str(out)]
    return _taken(command, count=lambda: _files(folder / "vips_files"))


def parts(slide: Path, folder: Path) -> Taken:  # noqa: ARG001  a side as the others
    """Return the sum of decoding once, gray, Laplacian and encoding, timed in one process."""
    return _sum_of(slide, ("decode_s", "gray_s", "laplacian_s", "encode_s"))


def own_parts(slide: Path, folder: Path) -> Taken:  # noqa: ARG001  a side as the others
    """Return the same sum with this package's quicker decoding and Laplacian."""
    return _sum_of(slide, ("own_decode_s", "gray_s", "own_laplacian_s", "encode_s"))


def _sum_of(slide: Path, steps: Sequence[str]) -> Taken:
    figures = figures_of("parts", str(slide))
    seconds = sum(figures[step] for step in steps)
    return Taken(
        cpu_s=seconds,
        wall_s=seconds,
        tiles=int(figures["tiles"]),
        command=f"python -m tests.benchmarks.parts {slide.name}",
    )


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*.jp*g"))


def _taken(command: Sequence[str], *, count: Callable[[], int]) -> Taken:
    """Run a command, then have its tiles counted."""
    usage = usage_of(command)
    return Taken(
        cpu_s=usage.cpu_s,
        wall_s=usage.wall_s,
        peak_bytes=usage.peak_bytes,
        tiles=int(count()),
        command=_shown(command),
    )


def _shown(command: Sequence[str]) -> str:
    """Return a command as a person would type it: without the paths of this machine."""
    names = [
        Path(word).name if word.startswith("/") else " ".join(word.split()) for word in command
    ]
    return " ".join(names)
