"""What a worker keeps in memory, on a slide of 100 000 px a side and on one of a tenth."""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.measure import Plan, Result, judged
from tests.benchmarks.peers import PLACE
from tests.benchmarks.sides import Taken, ours
from tests.benchmarks.subjects import square

LARGE_PX, SMALL_PX = 100_000, 10_000
BAR_MIB = 1024.0
SAME = 1.1
"""The same memory, but for what differs from run to run."""

_MASK_PX = 100  # of the mask by which a quick run cuts a band only
_QUICK_ROWS = 3


def run(plan: Plan) -> list[Result]:
    """Return the peak on both slides and their ratio."""
    sides = {"100 000 px a side": LARGE_PX, "10 000 px a side": SMALL_PX}
    names = {f"peak memory of a process, {words}": side_px for words, side_px in sides.items()}
    ratio = "peak memory, 100 000 px a side against 10 000"
    if not any(plan.wants(name) for name in (*names, ratio)):
        return []
    taken: dict[int, list[Taken]] = {LARGE_PX: [], SMALL_PX: []}
    for _ in range(plan.runs):
        for side_px, turns in taken.items():
            turns.append(_cut(square(side_px), quick=plan.quick))
    results = [
        judged(
            name,
            [turn.peak_bytes / 2**20 for turn in taken[side_px]],
            bar=BAR_MIB,
            unit="MiB",
            command=taken[side_px][0].command,
            against=f"largest of all processes; {taken[side_px][0].tiles} tiles of 1024 px",
        )
        for name, side_px in names.items()
    ]
    same = judged(
        ratio,
        [
            large.peak_bytes / small.peak_bytes
            for large, small in zip(taken[LARGE_PX], taken[SMALL_PX], strict=True)
        ],
        bar=SAME,
        unit="ratio",
        command=taken[LARGE_PX][0].command,
        against="the same on a slide of a tenth of the side",
    )
    return [each for each in (*results, same) if plan.wants(each.name)]


def _cut(slide: Path, *, quick: bool) -> Taken:
    """Cut a slide with two workers: all of it, or of the large one a band at its top."""
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        folder = Path(name)
        if not quick or slide == square(SMALL_PX):
            return ours(slide, folder, workers=2)
        mask = np.zeros((_MASK_PX, _MASK_PX), np.uint8)
        mask[:_QUICK_ROWS] = 255
        masks = folder / "masks"
        masks.mkdir()
        cv2.imwrite(str(masks / f"{slide.stem}.png"), mask)
        return ours(slide, folder, workers=2, flags=("--tissue", str(masks), "--quiet"))
