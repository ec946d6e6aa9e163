"""``python -m tests.benchmarks split``: a million rows of 128 slides, split, and audited."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.measure import Plan, Result, Usage, judged, usage_of
from tests.benchmarks.peers import PLACE
from tests.pipeline.written_runs import WrittenSlide, write_run

SPLIT_BAR_S, MEMORY_BAR_MIB = 10.0, 1024.0
_SLIDES, _ACROSS, _DOWN = 128, 100, 79  # 1 011 200 tiles
_COMMANDS = {
    "split": ("--test", "5", "--validation", "4"),
    "split --folds": ("--folds", "5", "--repeats", "5", "--overwrite"),
    "split --check": ("--check",),
}
_COMMAND = "python -m tests.benchmarks split"


def run(plan: Plan) -> Iterator[Result]:
    """Yield seconds and memory of each command."""
    if not any(plan.wants(f"split: {name}") for name in _COMMANDS):
        return
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        yield from results(Path(folder), plan)


def results(folder: Path, plan: Plan) -> Iterator[Result]:
    """Yield seconds and memory of each command, measured below a folder."""
    slides, across = (36, 5) if plan.quick else (_SLIDES, _ACROSS)
    whole = write_run(folder / "WHOLE", cohort(slides, across=across, down=_DOWN))
    taken: dict[str, list[Usage]] = {name: [] for name in _COMMANDS}
    for _ in range(plan.runs):
        shutil.copytree(whole, folder / "RUN")
        for name, flags in _COMMANDS.items():
            command = [sys.executable, "-m", "wsi_pipeline", "split", str(folder / "RUN"), *flags]
            taken[name].append(usage_of(command))
        shutil.rmtree(folder / "RUN")
    of = f"{slides * across * _DOWN} tiles of {slides} slides, start-up included, in the page cache"
    for name, turns in taken.items():
        flags = " ".join(_COMMANDS[name])
        yield judged(
            f"split: {name}",
            [turn.wall_s for turn in turns],
            bar=SPLIT_BAR_S,
            unit="s",
            command=f"{_COMMAND}: wsi-pipeline split RUN {flags}",
            against=of,
        )
        yield judged(
            f"split: {name}, peak memory",
            [turn.peak_bytes / 2**20 for turn in turns],
            bar=MEMORY_BAR_MIB,
            unit="MiB",
            against=of,
        )


def cohort(slides: int, *, across: int, down: int) -> list[WrittenSlide]:
    """Return slides of patients of three each, of two scanners and four centres, in five classes."""
    rng = np.random.default_rng(128)
    return [
        WrittenSlide(
            slide_id=f"slide_{number:04d}",
            patient_id=f"P{number // 3:04d}",
            scanner="AB"[number % 2],
            centre=("north", "south", "east", "west")[number // 3 % 4],
            shares={f"class_{name}": float(rng.uniform(0, 0.2)) for name in "abcde"},
            label=f"class_{'abcde'[number % 5]}",
            across=across,
            down=down,
        )
        for number in range(slides)
    ]
