"""``python -m tests.benchmarks scale``: 4.7 million tiles without their pixels.

Planning, driving, leases, shards, records and tables are the real ones (``stubs`` says what is not). As no
pixel is touched, the whole wall clock of the run is overhead.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Plan, Result, figures_of, judged, usage_of
from tests.benchmarks.peers import PLACE
from tests.benchmarks.scaled import WORKERS
from tests.benchmarks.stubs import FLAGS, make_slides
from wsi_pipeline.compute.cluster import LOCAL, PROCESSES

PIXEL_MS = 7.3
"""Decoding, measuring and encoding a tile of the JPEG TIFF, the quickest format (docs/performance.md)."""

SHARE_BAR, MEMORY_BAR_MIB, FLAT_BAR = 0.03, 2048.0, 1.1
FILES_BAR, ALL_BAR_S, SLIDE_BAR_MS, AGAIN_BAR_S = 100_000, 5.0, 50.0, 30.0

_COMMAND = "python -m tests.benchmarks scale"
_PREFIX = "scale: "  # of every result's name
_STEPS = {
    "planning": ("open_s", "mask_s"),
    "writing shards, pictures and manifests": ("write_s",),
}
"""As the run itself counts them; the rest are records, tables of units, and driving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is cut."""

    slides: int = 600
    slides_of_dask: int = 60
    across: int = 98
    down: int = 80
    """Tiles of a slide along both sides: 7840, and 4 704 000 of 600."""


QUICK = Load(slides=12, slides_of_dask=6)


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per figure."""
    if not _PREFIX.startswith(plan.only.lower()[: len(_PREFIX)]):
        return  # one run gives all figures or none
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        found = results(Path(folder), QUICK if plan.quick else Load(), runs=plan.runs)
        yield from (result for result in found if plan.wants(result.name))


def results(folder: Path, load: Load, *, runs: int) -> Iterator[Result]:
    """Yield a result per figure, measured below a folder."""
    slides = make_slides(folder / "slides", load.slides, across=load.across, down=load.down)
    made = folder / "run"
    yield from _cut(slides, made, PROCESSES)
    yield from _on_disk(made)
    yield from _reads(made, runs=runs)
    yield _again(slides, made, runs=runs)
    few = make_slides(folder / "few", load.slides_of_dask, across=load.across, down=load.down)
    yield from _cut(few, folder / "dask", LOCAL)


def _cut(slides: Path, made: Path, where: str) -> Iterator[Result]:
    """Yield what a whole run costs beside its pixels."""
    figures = figures_of("scaled", "cut", str(slides), str(made), where)
    tasks, units, wall_s = figures["tasks"], figures["units"], figures["wall_s"]
    pixels_s = figures["tiles"] * PIXEL_MS / 1e3 / WORKERS
    of = f"{figures['slides']:.0f} slides, {figures['tiles']:.0f} tiles, {units:.0f} units"
    of = f"{of}, {wall_s:.1f} s without pixels"
    told = partial(judged, bar=None, command=f"{_COMMAND}, --cluster {where}", against=of)
    yield told(f"scale: tasks, {where}", [tasks], unit="tasks")
    client_ms = 1e3 * figures["client_cpu_s"] / tasks
    yield told(f"scale: client's CPU per task, {where}", [client_ms], unit="ms")
    unit_ms = 1e3 * wall_s / units
    yield told(f"scale: overhead per unit, {WORKERS} workers, {where}", [unit_ms], unit="ms")
    yield told(
        f"scale: overhead's share of the whole, {where}",
        [wall_s / (wall_s + pixels_s)],
        bar=SHARE_BAR,
        against=f"{of}, {pixels_s:.0f} s of pixels at {PIXEL_MS} ms a tile",
    )
    cpu_s = figures["client_cpu_s"] + figures["workers_cpu_s"]
    yield told(
        f"scale: overhead's CPU against the pixels', {where}",
        [cpu_s / (WORKERS * pixels_s)],
        against=f"{cpu_s:.0f} CPU s of all processes; bears a busy machine, counts no waiting for the disk",
    )
    for step, seconds in _STEPS.items():
        share = sum(figures[name] for name in seconds) / (WORKERS * wall_s)
        yield told(f"scale: {step}, share of the overhead, {where}", [share])
    resident = [figures[f"resident_{at}"] / 2**20 for at in (25, 50, 75, 100)]
    at = ", ".join(f"{mib:.0f}" for mib in resident)
    yield told(
        f"scale: client's peak memory, {where}",
        [figures["peak_bytes"] / 2**20],
        bar=MEMORY_BAR_MIB,
        unit="MiB",
        against=f"resident at 25, 50, 75, 100 % of the slides: {at} MiB; a scheduler here is in the client",
    )
    yield told(
        f"scale: client's memory at the end against a quarter, {where}",
        [resident[-1] / resident[0]],
        bar=FLAT_BAR,
        against=f"{at} MiB",
    )


def _on_disk(made: Path) -> Iterator[Result]:
    """Yield how many files there are, and how many folders they need."""
    files = folders = 0
    for _, below, here in os.walk(made):
        files += len(here)
        folders += len(below)
    yield judged("scale: files", [files], bar=FILES_BAR, unit="files", command=_COMMAND)
    yield judged("scale: folders", [folders], bar=None, unit="folders", command=_COMMAND)


def _reads(made: Path, *, runs: int) -> Iterator[Result]:
    """Yield what reading the manifest takes, each time in a new process."""
    turns = [figures_of("scaled", "read", str(made)) for _ in range(runs)]
    rows, mib = turns[0]["rows"], turns[0]["bytes"] / 2**20
    yield judged(
        "scale: six columns of every tile",
        [turn["all_s"] for turn in turns],
        bar=ALL_BAR_S,
        unit="s",
        command='pd.read_parquet("RUN/manifest", columns=SIX)',
        against=f"{rows:.0f} rows, all columns {mib:.0f} MiB on the disk, in the page cache",
    )
    yield judged(
        "scale: one slide by its file",
        [1e3 * turn["file_s"] for turn in turns],
        bar=SLIDE_BAR_MS,
        unit="ms",
        command='pd.read_parquet("RUN/manifest/SLIDE.parquet", columns=SIX)',
        against=f"{turns[0]['file_rows']:.0f} rows",
    )
    yield judged(
        "scale: one slide by filters=",
        [1e3 * turn["filtered_s"] for turn in turns],
        bar=SLIDE_BAR_MS,
        unit="ms",
        command='pd.read_parquet("RUN/manifest", columns=SIX, filters=[("slide_id", "==", SLIDE)])',
        against=f"{turns[0]['filtered_rows']:.0f} rows; every table's footer is read",
    )


def _again(slides: Path, made: Path, *, runs: int) -> Result:
    """Return what the command takes on a finished run: nothing is stubbed there."""
    command = [sys.executable, "-m", "wsi_pipeline", "tile", str(slides), "-o", str(made), *FLAGS]
    command += ["--quiet", "--workers", str(WORKERS)]
    return judged(
        "scale: running it again",
        [usage_of(command).wall_s for _ in range(runs)],
        bar=AGAIN_BAR_S,
        unit="s",
        command=f"wsi-pipeline tile SLIDES -o RUN {' '.join(FLAGS)} --quiet --workers {WORKERS}",
        against="start-up included; the slides are tiny files, of large ones 1 MiB each is sampled",
    )
