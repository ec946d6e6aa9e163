"""``python -m tests.benchmarks.sweep_memory TILES LEVELS NETWORKS``: memory of judging a drawn sweep."""

import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.evaluate.ask.asked_tiles import AskedTiles
from wsi_pipeline.evaluate.ask.part_files import PartFiles
from wsi_pipeline.evaluate.sweep.answers import Level, Listener, judgements
from wsi_pipeline.evaluate.sweep.sweeping import sweep_cut

_BATCH_SIZE = 64


class _Tiles:
    """Tiles with a label and nothing else."""

    def __init__(self, count: int) -> None:
        self.targets = np.arange(count) % 2
        self.weights = np.ones(count, np.float32)


def main(tiles: int, levels: int, networks: int) -> dict[str, float]:
    """Return the peak of this process in MiB before judging and after it; logits are drawn."""
    asked = tuple(Level(apply_at="source", shift="box_blur", level=n + 2.0) for n in range(levels))
    names = [f"network-{number}" for number in range(networks)]
    with tempfile.TemporaryDirectory() as folder:
        cut = sweep_cut(tiles, _BATCH_SIZE)
        parts = PartFiles(above=Path(folder) / "test.parts", key="drawn", cut=cut)
        for number in range(len(cut)):
            rows = cut.rows(number)
            columns = dict(_columns(asked, names, rows.stop - rows.start, seed=number))
            parts.write_columns(number, columns)
        before = _peak_mib()
        owned = cast(AskedTiles, _Tiles(tiles))
        listeners = [
            Listener(model=name, tiles=owned, classes=("benign", "cancer"), patients=None)
            for name in names
        ]
        judged = sum(map(len, judgements(parts, asked, listeners)))
    return {"before": before, "peak": _peak_mib(), "judged": judged}


def _columns(
    levels: tuple[Level, ...], networks: list[str], tiles: int, *, seed: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    random = np.random.default_rng(seed)
    for level in levels:
        yield level.sharpness, random.exponential(100, tiles).astype(np.float32)
        for name in networks:
            yield level.logits(name), random.normal(size=tiles).astype(np.float32)


def _peak_mib() -> float:
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))  # noqa: T201
