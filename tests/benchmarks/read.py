"""``python -m tests.benchmarks read``: reading alone, the same tiles by every engine, in one process each."""

from collections.abc import Iterator

from tests.benchmarks.measure import Plan, Result, figures_of, judged
from tests.benchmarks.subjects import CZI, KINDS, Kind
from wsi_pipeline.slides.open import open_slide

WORDS = {
    "openslide": "OpenSlide, tile by tile",
    "bands": "OpenSlide in bands (the fallback)",
    "ours": "this package",
    "pylibczirw": "pylibCZIrw, tile by tile",
}
TILES, QUICK_TILES = 300, 16


def run(plan: Plan) -> Iterator[Result]:
    """Yield CPU milliseconds per tile of every engine on every format."""
    for kind in KINDS:
        yield from _of_kind(kind, plan)


def engines(kind: Kind) -> tuple[str, ...]:
    """Return what reads a format."""
    return ("pylibczirw", "ours") if kind is CZI else ("openslide", "bands", "ours")


def _of_kind(kind: Kind, plan: Plan) -> list[Result]:
    names = {engine: f"reading, {kind.name}: {WORDS[engine]}" for engine in engines(kind)}
    names = {engine: name for engine, name in names.items() if plan.wants(name)}
    if not names:
        return []
    slide = kind.path(quick=plan.quick)
    least = QUICK_TILES if plan.quick else TILES
    turns = [
        {engine: figures_of("engines", engine, str(slide), str(least)) for engine in names}
        for _ in range(plan.runs)
    ]
    reader = open_slide(slide)
    backend = reader.info.backend
    reader.close()
    return [
        judged(
            name,
            [turn[engine]["cpu_ms"] for turn in turns],
            bar=None,
            unit="CPU ms per tile",
            against=f"the others on the same {turns[0][engine]['tiles']:.0f} tiles of 1024 px at stride 819; "
            f"mean grey level {turns[0][engine]['mean']:.2f}; this package reads it by {backend}",
            command=f"python -m tests.benchmarks.engines {engine} {slide.name} {least}",
        )
        for engine, name in names.items()
    ]
