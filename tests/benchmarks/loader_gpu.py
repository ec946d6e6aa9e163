"""What a CUDA device gets of its own rate when the loader feeds it; says why where there is none."""

import importlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from tests.benchmarks.loader_subject import Subject, made
from tests.benchmarks.measure import Plan, Result, figures_of, judged, not_measured

FED_BAR, WAITED_BAR = 0.95, 0.05
STEPS, QUICK_STEPS = 200, 20
SUBJECT = Subject(tile_size=256, tiles=8_192)
DECODERS = {"cpu": "CPU decode", "cuda": "GPU decode"}


def run(plan: Plan) -> Iterator[Result]:
    """Yield, for either decoder, the rate against batches that are there already, and the time waited."""
    for decoder, words in DECODERS.items():
        fed = f"loader: EfficientNet-b0 at 224 against resident batches, {words}"
        waited = f"loader: share of time that the GPU waits, {words}"
        if not (plan.wants(fed) or plan.wants(waited)):
            continue
        if reason := lacking(decoder):
            yield not_measured(fed, reason=reason, bar=FED_BAR, bound="at least")
            yield not_measured(waited, reason=reason, bar=WAITED_BAR)
            continue
        steps = QUICK_STEPS if plan.quick else STEPS
        arguments = (str(made(SUBJECT)), decoder, "cuda", str(steps))
        turns = [figures_of("feeding", *arguments) for _ in range(plan.runs)]
        told = f"{_device()}; batches of 256 of 256 px; images a second: "
        told += ", ".join(map(_rates, turns))
        ratios = [turn["fed_per_s"] / turn["resident_per_s"] for turn in turns]
        yield judged(fed, ratios, bar=FED_BAR, bound="at least", against=told)
        yield judged(waited, [turn["waited"] for turn in turns], bar=WAITED_BAR, against=told)


def _rates(turn: Mapping[str, float]) -> str:
    return f"{turn['fed_per_s']:.0f} and {turn['resident_per_s']:.0f}"


def lacking(decoder: str) -> str:
    """Return why it cannot be measured here, or nothing."""
    for name in ("torch", "timm"):
        if find_spec(name) is None:
            return f"{name} is not installed"
    if not importlib.import_module("torch").cuda.is_available():
        return "no CUDA device here"
    if decoder == "cuda" and find_spec("torchcodec") is None:
        return "torchcodec is not installed"
    return ""


def _device() -> str:
    return str(importlib.import_module("torch").cuda.get_device_name())
