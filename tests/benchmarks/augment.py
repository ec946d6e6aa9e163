"""``python -m tests.benchmarks augment``: UniformAugment beside Pillow's, on one core.

Both sides have the same images, one thread and a process of their own, and run in turns.
"""

from collections.abc import Iterator
from importlib.util import find_spec

from tests.benchmarks.measure import Plan, Result, figures_of, judged, not_measured

PILLOW_BAR, STEP_BAR = 5.0, 0.10
_NAMES = {
    "pillow": "augment: UniformAugment against Pillow's, a batch in and out",
    "pillow_alone": "augment: UniformAugment against Pillow's, its pictures in and out",
}
_POLICY = "augment: crop, turns and UniformAugment"
_GPU = "augment: share of a training step on a GPU"


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per figure."""
    if find_spec("torch") is None:
        for name in _NAMES.values():
            yield not_measured(name, reason="torch is not installed", bar=PILLOW_BAR)
        return
    batches = "2" if plan.quick else "20"
    for other, name in _NAMES.items():
        if plan.wants(name):
            yield _against(other, name, batches=batches, runs=plan.runs)
    if plan.wants(_POLICY):
        taken = [figures_of("augmenting", "policy", batches)["cpu_ms"] for _ in range(plan.runs)]
        yield judged(_POLICY, taken, bar=None, unit="CPU ms an image", against="224 px, one core")
    if plan.wants(_GPU):
        yield _on_gpu(batches, runs=plan.runs)


def _on_gpu(batches: str, *, runs: int) -> Result:
    import torch  # noqa: PLC0415  an extra

    if not torch.cuda.is_available():
        return not_measured(_GPU, reason="no CUDA device here", bar=STEP_BAR)
    turns = [figures_of("augmenting", "step", batches) for _ in range(runs)]
    told = ", ".join(f"{turn['augment_ms']:.2f} of {turn['step_ms']:.2f} more" for turn in turns)
    shares = [turn["augment_ms"] / (turn["augment_ms"] + turn["step_ms"]) for turn in turns]
    against = f"EfficientNet-b0, bfloat16, batches of 256 of 224 px, {torch.cuda.get_device_name()}"
    return judged(_GPU, shares, bar=STEP_BAR, against=f"{against}; ms a batch: {told}")


def _against(other: str, name: str, *, batches: str, runs: int) -> Result:
    turns = [
        {side: figures_of("augmenting", side, batches)["cpu_ms"] for side in ("ours", other)}
        for _ in range(runs)
    ]
    told = ", ".join(f"{turn['ours']:.3f} and {turn[other]:.3f}" for turn in turns)
    ratios = [turn[other] / turn["ours"] for turn in turns]
    bar = PILLOW_BAR if other == "pillow" else None
    return judged(
        name, ratios, bar=bar, bound="at least", against=f"Pillow; CPU ms an image: {told}"
    )
