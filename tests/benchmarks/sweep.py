"""``python -m tests.benchmarks sweep``: 31 levels of two changes against as many plain evaluations.

The plain ones change nothing, so what a sweep saves by decoding once has to pay for its changes, too.
"""

from collections.abc import Iterator
from importlib.util import find_spec

from tests.benchmarks.measure import Plan, Result, figures_of, judged, not_measured

_NAME = "sweep: time of 31 plain evaluations by that of a sweep of 31 levels"
_SIZES = {"stored": "tiles of 512 px to 224 px", "small": "tiles of 96 px as they are"}


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result for each size of tiles."""
    for size, words in _SIZES.items():
        name = f"{_NAME}, {words}"
        if not plan.wants(name):
            continue
        if find_spec("torch") is None:
            yield not_measured(name, reason="torch is not installed")
            continue
        tiles = "16" if plan.quick else "256"
        turns = [figures_of("sweeping", size, tiles) for _ in range(plan.runs)]
        told = ", ".join(
            f"{turn['sweep_ms']:.1f} and {turn['plain_ms']:.1f} ({turn['device']})"
            for turn in turns
        )
        yield judged(
            name,
            [turn["plain_ms"] / turn["sweep_ms"] for turn in turns],
            bar=None,
            bound="at least",
            against=f"the same tiles, network and thread; ms a tile of all levels: {told}",
        )
