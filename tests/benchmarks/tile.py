"""``python -m tests.benchmarks tile``: cutting against HistoPrep, libvips, and the sum of its own parts."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.benchmarks import memory
from tests.benchmarks.measure import Bound, Plan, Result, judged, not_measured
from tests.benchmarks.peers import PLACE, PeerMissingError
from tests.benchmarks.sides import (
    STEPS,
    Side,
    Taken,
    dzsave,
    histoprep,
    one_worker,
    own_parts,
    parts,
    two_workers,
)
from tests.benchmarks.subjects import CZI, JPEG_2000, JPEG_TIFF, KINDS, MRXS, Kind

SIDES: Mapping[str, Side] = {
    "one": one_worker,
    "two": two_workers,
    "histoprep": histoprep,
    "dzsave": dzsave,
    "parts": parts,
    "own": own_parts,
}
"""In this order, over and over: what is compared is measured side by side, and drifts together."""

HISTOPREP_BARS = {JPEG_TIFF: 1 / 9, JPEG_2000: 1 / 2, MRXS: 1 / 3, CZI: None}
_BY_CPU = "CPU of whole processes, start-up included"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One side's time over another's."""

    name: str
    over: str
    under: str
    bar: float | None
    about: str
    quantity: Literal["cpu_s", "wall_s"] = "cpu_s"
    bound: Bound = "at most"

    def result(self, taken: Mapping[str, Sequence[Taken]]) -> Result:
        """Return the ratio, run by run."""
        over, under = taken[self.over], taken[self.under]
        ratios = [
            float(getattr(one, self.quantity) / getattr(other, self.quantity))
            for one, other in zip(over, under, strict=True)
        ]
        return judged(
            self.name,
            ratios,
            bar=self.bar,
            bound=self.bound,
            unit="ratio",
            command=over[0].command,
            against=f"{self.about}; {_words(over, self.quantity)} against {_words(under, self.quantity)}: "
            f"{under[0].command}",
        )


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per bar, and what each step took."""
    for kind in KINDS:
        yield from _of_kind(kind, plan)
    yield from memory.run(plan)


def comparisons(kind: Kind) -> list[Comparison]:
    """Return what is compared on one format."""
    once = "every stored tile decoded once, gray, Laplacian, JPEG, in one process"
    alone = "every tile read alone by pylibCZIrw, gray, Laplacian, JPEG, in one process"
    found = [
        Comparison(
            name=f"against HistoPrep, {kind.name}",
            over="one",
            under="histoprep",
            bar=HISTOPREP_BARS[kind],
            about=_BY_CPU,
        ),
        Comparison(
            name=f"against its parts, {kind.name}",
            over="one",
            under="parts",
            bar=None if kind is CZI else 1.25,
            about=f"{_BY_CPU}, over {alone if kind is CZI else once}",
        ),
        Comparison(
            name=f"against its own quicker parts, {kind.name}",
            over="one",
            under="own",
            bar=None if kind is CZI else 1.25,
            about=f"{_BY_CPU}, over {alone if kind is CZI else once}, by this package's functions",
        ),
        Comparison(
            name=f"2 workers against 1, {kind.name}",
            over="one",
            under="two",
            bar=1.8,
            about="wall clock of whole processes, start-up included",
            quantity="wall_s",
            bound="at least",
        ),
    ]
    if kind is JPEG_TIFF:
        vips = Comparison(
            name=f"against vips dzsave, {kind.name}",
            over="one",
            under="dzsave",
            bar=1.0,
            about=f"{_BY_CPU}; it measures nothing",
        )
        found.insert(1, vips)
    return found


def _of_kind(kind: Kind, plan: Plan) -> list[Result]:
    wanted = [each for each in comparisons(kind) if plan.wants(each.name)]
    steps = {step: f"step {step}, {kind.name}" for step in STEPS}
    steps = {step: name for step, name in steps.items() if plan.wants(name)}
    needed = {side for each in wanted for side in (each.over, each.under)}
    if steps:
        needed.add("one")
    if not needed:
        return []
    taken, missing = _taken(kind.path(quick=plan.quick), needed, runs=plan.runs)
    results = []
    for each in wanted:
        if each.under in missing:
            results.append(not_measured(each.name, reason=missing[each.under], bar=each.bar))
        else:
            results.append(each.result(taken))
    for step, name in steps.items():
        results.append(_step(name, step, taken["one"]))
    return results


def _taken(
    slide: Path, needed: set[str], *, runs: int
) -> tuple[dict[str, list[Taken]], dict[str, str]]:
    """Return what each side took, run by run, and why some are missing."""
    taken: dict[str, list[Taken]] = {name: [] for name in needed}
    missing: dict[str, str] = {}
    for _ in range(runs):
        for name, side in SIDES.items():
            if name not in needed or name in missing:
                continue
            with tempfile.TemporaryDirectory(dir=PLACE) as folder:
                try:
                    taken[name].append(side(slide, Path(folder)))
                except PeerMissingError as error:
                    missing[name] = str(error)
    return taken, missing


def _step(name: str, step: str, taken: Sequence[Taken]) -> Result:
    return judged(
        name,
        [each.steps_ms[step] for each in taken],
        bar=None,
        unit="ms per tile",
        against="nothing; the run's own count, wall clock of its worker",
        command=taken[0].command,
    )


def _words(taken: Sequence[Taken], quantity: Literal["cpu_s", "wall_s"]) -> str:
    """Return the median time and the number of tiles."""
    seconds = statistics.median(float(getattr(each, quantity)) for each in taken)
    return f"{seconds:.1f} s for {taken[0].tiles} tiles"
