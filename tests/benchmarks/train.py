"""``python -m tests.benchmarks train``: the trainer's steps beside a bare loop on timm's network.

Batches lie in memory, so nothing is decoded. Sides run in turns, each in a process of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec

from tests.benchmarks.measure import Plan, Result, figures_of, judged, not_measured

BAR = 0.95
_STEP = "train: steps against a bare timm loop"
_AUGMENTED = "train: steps with random changes against a bare timm loop"
_GPU = "train: steps against a bare timm loop, on a GPU"


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per figure."""
    reason = _why_not()
    if reason is not None:
        yield _not_measured(_STEP, reason)
        return
    has_gpu = _has_gpu()
    batch, steps = (256, 100) if has_gpu else (16, 12)
    if plan.quick:
        batch, steps = (64, 20) if has_gpu else (4, 2)
    step, augmented = (_GPU, f"{_AUGMENTED}, on a GPU") if has_gpu else (_STEP, _AUGMENTED)
    wanted = [
        (name, side)
        for name, side in ((step, "ours"), (augmented, "augmented"))
        if plan.wants(name)
    ]
    if wanted:
        sides = ["bare", *(side for _, side in wanted)]
        turns = [
            {side: figures_of("stepping", side, str(batch), str(steps)) for side in sides}
            for _ in range(plan.runs)
        ]
        for name, side in wanted:
            bar = BAR if side == "ours" else None
            yield from _ratios(name, turns, side, bar=bar, by_cpu=not has_gpu)
    if not has_gpu and plan.wants(_GPU):
        yield _not_measured(_GPU, "no CUDA device here")


def _ratios(
    name: str,
    turns: Sequence[dict[str, dict[str, float]]],
    side: str,
    *,
    bar: float | None,
    by_cpu: bool,
) -> Iterator[Result]:
    """Yield how much of the bare loop's rate is left; by processor time too, which bears other programs."""
    rates = [(turn[side]["tiles_per_s"], turn["bare"]["tiles_per_s"]) for turn in turns]
    told = ", ".join(f"{ours:.1f} and {bare:.1f}" for ours, bare in rates)
    ratios = [ours / bare for ours, bare in rates]
    yield judged(name, ratios, bar=bar, bound="at least", against=f"tiles a second: {told}")
    if by_cpu:
        times = [(turn[side]["cpu_ms"], turn["bare"]["cpu_ms"]) for turn in turns]
        told = ", ".join(f"{ours:.1f} and {bare:.1f}" for ours, bare in times)
        ratios = [bare / ours for ours, bare in times]
        yield judged(
            f"{name}, by CPU", ratios, bar=bar, bound="at least", against=f"CPU ms a tile: {told}"
        )


def _not_measured(name: str, reason: str) -> Result:
    return replace(not_measured(name, reason=reason, bar=BAR), bound="at least")


def _why_not() -> str | None:
    lacking = [name for name in ("torch", "timm") if find_spec(name) is None]
    return f"{', '.join(lacking)} is not installed" if lacking else None


def _has_gpu() -> bool:
    import torch  # noqa: PLC0415  other benchmarks do without it

    return bool(torch.cuda.is_available())
