"""``python -m tests.benchmarks report``: the page of 600 slides of 7 840 tiles each, in six columns."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Plan, Result, Usage, judged, usage_of
from tests.benchmarks.peers import PLACE
from tests.invented import write_run

SIZE_BAR_MB = 20.0
_SLIDES, _TILES = 600, 7840
_QUICK_SLIDES, _QUICK_TILES = 60, 400
_COMMAND = "python -m tests.benchmarks report: wsi-pipeline report RUN"


def run(plan: Plan) -> Iterator[Result]:
    """Yield size, seconds of CPU and memory of a page."""
    if plan.wants("report: size") or plan.wants("report: seconds") or plan.wants("report: memory"):
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            yield from results(Path(folder), plan)


def results(folder: Path, plan: Plan) -> Iterator[Result]:
    """Yield size, seconds of CPU and memory of a page, measured below a folder."""
    slides, tiles = (_QUICK_SLIDES, _QUICK_TILES) if plan.quick else (_SLIDES, _TILES)
    made = write_run(folder / "RUN", slides=slides, tiles=tiles)
    command = [sys.executable, "-m", "wsi_pipeline", "report", str(made.path)]
    taken: list[Usage] = []
    sizes_mb: list[float] = []
    for _ in range(plan.runs):
        taken.append(usage_of(command))
        sizes_mb.append((made.path / "report.html").stat().st_size / 1e6)
    of = f"{slides} slides of {tiles} tiles, six columns; start-up included, in the page cache"
    yield judged(
        "report: size of the page",
        sizes_mb,
        bar=SIZE_BAR_MB,
        unit="MB",
        command=_COMMAND,
        against=of,
    )
    yield judged(
        "report: seconds of CPU",
        [turn.cpu_s for turn in taken],
        bar=None,
        unit="s",
        command=_COMMAND,
        against=of,
    )
    yield judged(
        "report: memory",
        [turn.peak_bytes / 2**20 for turn in taken],
        bar=None,
        unit="MiB",
        command=_COMMAND,
        against=of,
    )
