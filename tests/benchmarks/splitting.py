"""``python -m tests.benchmarks split``: a million rows of 128 slides, split, and audited."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from tests.benchmarks.measure import Plan, Result, Usage, judged, usage_of
from tests.benchmarks.peers import PLACE
from tests.written_runs import WrittenSlide, write_run
from wsi_pipeline.labels.draw import FREE, draw, imbalance, keys_of, random_parts

SPLIT_BAR_S, MEMORY_BAR_MIB = 10.0, 1024.0
_SLIDES, _ACROSS, _DOWN = 128, 100, 79  # 1 011 200 tiles
_COMMANDS = {
    "split": ("--test", "5", "--validation", "4"),
    "split --folds": ("--folds", "5", "--repeats", "5", "--overwrite"),
    "split --check": ("--check",),
}
_COMMAND = "python -m tests.benchmarks split"


def run(plan: Plan) -> Iterator[Result]:
    """Yield how alike the parts are, and seconds and memory of each command."""
    if plan.wants("split: imbalance"):
        yield from balance(cohorts=5 if plan.quick else 50)
    if any(plan.wants(f"split: {name}") for name in _COMMANDS):
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
        command_line = f"{_COMMAND}: wsi-pipeline split RUN {' '.join(_COMMANDS[name])}"
        yield judged(
            f"split: {name}",
            [turn.wall_s for turn in turns],
            bar=SPLIT_BAR_S,
            unit="s",
            command=command_line,
            against=of,
        )
        cpu_s = [turn.cpu_s for turn in turns]
        yield judged(f"split: {name}, CPU", cpu_s, bar=None, unit="s", against=of)
        yield judged(
            f"split: {name}, peak memory",
            [turn.peak_bytes / 2**20 for turn in turns],
            bar=MEMORY_BAR_MIB,
            unit="MiB",
            against=of,
        )


def balance(*, cohorts: int) -> Iterator[Result]:
    """Yield the imbalance of five folds of 30 patients, beside scikit-learn's and chance."""
    found: dict[str, list[float]] = {"ours": [], "StratifiedGroupKFold": [], "by chance": []}
    sizes: dict[str, list[float]] = {name: [] for name in found}
    for seed in range(cohorts):
        patients, strata, features = _patients(seed)
        keys = keys_of([f"P{number}" for number in range(30)], seed=seed, repeat=1)
        sixes, fixed = [6] * 5, np.full(30, FREE)
        theirs = np.full(30, FREE)
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, inside) in enumerate(folds.split(patients, strata, patients)):
            theirs[patients[inside]] = fold
        ours = draw(keys, features, sizes=sixes, fixed=fixed)
        by_chance = random_parts(keys, sizes=sixes, fixed=fixed)
        for name, parts in zip(found, (ours, theirs, by_chance), strict=True):
            found[name].append(imbalance(parts, features, count=5))
            sizes[name].append(float(np.ptp(np.bincount(parts, minlength=5))))
    for name, values in found.items():
        most = f"{cohorts} cohorts of 30 patients; folds differ by up to {max(sizes[name]):.0f} patients"
        yield judged(
            f"split: imbalance of folds, {name}",
            values,
            bar=None,
            unit="",
            command=_COMMAND,
            against=most,
        )


def _patients(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return patient and stratum of every slide, and what each patient holds."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(30), rng.integers(1, 4, 30))
    scanner, tiles = rng.integers(0, 2, len(patients)), rng.integers(50, 500, len(patients))
    cancer = rng.uniform(size=len(patients)) ** 3
    features = np.zeros((30, 4))
    held = np.column_stack([tiles, cancer * tiles, scanner == 0, scanner == 1])
    np.add.at(features, patients, held)
    return patients, scanner * 2 + (cancer > 0.2), features


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
