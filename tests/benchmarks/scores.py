"""``python -m tests.benchmarks scores``: intervals of a million tiles, and scipy's beside them."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from tests.benchmarks.measure import Plan, Result, judged
from wsi_pipeline.evaluate.score.bootstrap import draws_of
from wsi_pipeline.evaluate.score.ranking import Ranks, pair_area, precision_area, ranked, roc_area
from wsi_pipeline.train.metrics import Floats, Ints, area_under_roc

BAR_S = 60.0
_TILES, _REPLICATES = 1_000_000, 10_000
_PATIENTS = (30, 300, 1000, 30_000)
_COMMAND = "python -m tests.benchmarks scores"


def run(plan: Plan) -> Iterator[Result]:
    """Yield seconds of each score's draws, and how much longer scipy takes of fewer tiles."""
    tiles, replicates = (20_000, 500) if plan.quick else (_TILES, _REPLICATES)
    for patients in _PATIENTS:
        yield from results(plan, tiles=tiles, replicates=replicates, patients=patients)
    if plan.wants("scores: scipy"):
        yield beside(plan, tiles=tiles // 50, replicates=replicates // 100)


def results(plan: Plan, *, tiles: int, replicates: int, patients: int) -> Iterator[Result]:
    """Yield seconds from unordered tiles to all draws of each area."""
    values, positive, owners = _drawn(tiles, patients)
    of = f"{replicates} draws of {patients} patients with {tiles} tiles"
    for name, bar in (("auroc", BAR_S), ("auprc", None)):
        if not plan.wants(f"scores: {name}"):
            continue

        def all_draws(name: str = name) -> Floats:
            ranks = ranked(values, positive, np.ones(tiles), owners, count=patients)
            area = roc_area(ranks, draws=replicates) if name == "auroc" else precision_area(ranks)
            return np.concatenate([area(each) for each in draws_of(patients, replicates, seed=0)])

        taken = [_seconds(all_draws) for _ in range(plan.runs)]
        yield judged(
            f"scores: {name} of {patients} patients",
            taken,
            bar=bar,
            unit="s",
            command=_COMMAND,
            against=of,
        )


def beside(plan: Plan, *, tiles: int, replicates: int) -> Result:
    """Return how many times as long ``scipy.stats.bootstrap`` takes over patients, by tiles counted anew."""
    patients = 30
    values, positive, owners = _drawn(tiles, patients)
    held = [np.flatnonzero(owners == each) for each in range(patients)]

    def theirs(drawn: Ints) -> float:
        tile = np.concatenate([held[each] for each in drawn])
        return area_under_roc(values[tile], positive[tile], np.ones(len(tile))) or 0.0

    def by_scipy() -> object:
        return bootstrap(
            (np.arange(patients),),
            theirs,
            n_resamples=replicates,
            method="percentile",
            vectorized=False,
            rng=1,
        )

    def by_us() -> Floats:
        ranks: Ranks = ranked(values, positive, np.ones(tiles), owners, count=patients)
        return pair_area(ranks)(next(draws_of(patients, replicates, seed=1)))

    ratios = [_seconds(by_scipy) / _seconds(by_us) for _ in range(plan.runs)]
    of = f"{replicates} draws of {patients} patients with {tiles} tiles; scipy's time over ours"
    return judged(
        "scores: scipy.stats.bootstrap, auroc", ratios, bar=None, command=_COMMAND, against=of
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _drawn(tiles: int, patients: int) -> tuple[Floats, NDArray[np.bool_], Ints]:
    random = np.random.default_rng(0)
    owners = random.integers(0, patients, tiles)
    positive = random.random(tiles) < 0.3
    values = random.normal(0, 1, tiles) + 1.5 * positive + random.normal(0, 0.5, patients)[owners]
    return values, positive, owners
