"""``python -m tests.benchmarks loader``: tiles a second beside bare decoding and other loaders; what grows.

Same JPEG bytes, same cores, warm page cache; sides run in turns. Batches of 64 uint8 images.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from tests.benchmarks import loader_gpu
from tests.benchmarks.loader_subject import Subject, large_run, made
from tests.benchmarks.loading import BATCH, CORES
from tests.benchmarks.measure import (
    Plan,
    Result,
    figures_of,
    judged,
    not_measured,
)
from tests.benchmarks.peers import ANNBATCH, LOADERS, ROOT, PeerMissingError, environment

ROOFLINE_BAR, PEER_BAR, BEST_BAR, FLAT_BAR = 0.90, 1.0, 1.3, 0.95
START_BAR_S, ORDER_BAR_MB, GROWTH_BAR = 5.0, 200.0, 1.05
SUBJECTS = (  # whole batches: a last one that is filled up would be decoded and not counted
    Subject(tile_size=1024, tiles=512),
    Subject(tile_size=512, tiles=2_048),
    Subject(tile_size=256, tiles=8_192),
)
QUICK = (
    Subject(tile_size=1024, tiles=128),
    Subject(tile_size=512, tiles=256),
    Subject(tile_size=256, tiles=1_024),
)
OWN = "its own worker processes"
ANN = "annbatch"
PEERS = ("ImageFolder", "plain zarr[i]", "WebDataset", "MosaicML Streaming", "litdata", ANN, OWN)
_SCRIPT = Path(__file__).with_name("loader_peers.py")


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per figure."""
    for subject in QUICK if plan.quick else SUBJECTS:
        yield from _against_decoding(subject, plan)
        yield from _against_peers(subject, plan)
    yield from _growth(plan)
    yield from loader_gpu.run(plan)


def _against_decoding(subject: Subject, plan: Plan) -> Iterator[Result]:
    size = subject.tile_size
    ways = {"": (0, 1)}
    if size == 1024:
        ways |= {", to 224 px": (224, 1), ", at 1/4 and to 224 px": (224, 4)}
    for words, (image_px, shrink) in ways.items():
        name = f"loader: against bare decoding, {size} px{words}"
        if not plan.wants(name):
            continue
        place = str(made(subject))
        turns = [
            {
                side: figures_of("loading", side, place, *map(str, numbers))
                for side, numbers in (
                    ("roofline", [image_px]),
                    ("own_roofline", [image_px]),
                    ("ours", [image_px, shrink]),
                )
            }
            for _ in range(plan.runs)
        ]
        bar = None if shrink > 1 else ROOFLINE_BAR
        yield from _ratios(name, turns, ("ours", "roofline"), bar=bar)
        if shrink == 1:
            own = f"loader: against its own decoder alone, {size} px{words}"
            yield from _ratios(own, turns, ("ours", "own_roofline"), bar=None)


_Turns: TypeAlias = Sequence[Mapping[str, Mapping[str, float]]]
"""What every side took, turn by turn."""


def _ratios(
    name: str, turns: _Turns, sides: tuple[str, str], *, bar: float | None, told_too: str = ""
) -> Iterator[Result]:
    """Yield by how much a side is quicker than another, and how much less processor time it takes.

    The second bears other programs on the machine, the first does not.
    """
    side, other = sides
    rates = [(turn[side]["tiles_per_s"], turn[other]["tiles_per_s"]) for turn in turns]
    told = ", ".join(f"{ours:.0f} and {theirs:.0f}" for ours, theirs in rates)
    against = f"{other}{told_too}; tiles a second on {CORES} cores: {told}"
    ratios = [ours / theirs for ours, theirs in rates]
    yield judged(name, ratios, bar=bar, bound="at least", against=against)
    cpu = [(turn[side]["cpu_ms"], turn[other]["cpu_ms"]) for turn in turns]
    told = ", ".join(f"{ours:.3f} and {theirs:.3f}" for ours, theirs in cpu)
    against = f"{other}{told_too}; CPU ms a tile: {told}"
    ratios = [theirs / ours for ours, theirs in cpu]
    yield judged(f"{name}, by CPU", ratios, bar=bar, bound="at least", against=against)


def _against_peers(subject: Subject, plan: Plan) -> Iterator[Result]:
    names = {peer: f"loader: against {peer}, {subject.tile_size} px" for peer in PEERS}
    best = f"loader: against the best of them, {subject.tile_size} px"
    wanted = [peer for peer, name in names.items() if plan.wants(name) or plan.wants(best)]
    if not wanted:
        return
    place = made(subject)
    turns = [_turn(place, wanted) for _ in range(plan.runs)]
    for peer in wanted:
        if all(peer in turn for turn in turns):
            bar = None if peer == OWN else PEER_BAR
            other_bytes = _bytes_of(place) if peer == ANN else ""
            yield from _ratios(names[peer], turns, ("ours", peer), bar=bar, told_too=other_bytes)
        else:
            yield not_measured(names[peer], reason=_failures[peer], bar=PEER_BAR, bound="at least")
    others = set(turns[0]) - {"ours", OWN}
    if plan.wants(best) and all(others <= turn.keys() for turn in turns) and others:
        quickest = [
            {
                **turn,
                "best": max((turn[peer] for peer in others), key=lambda each: each["tiles_per_s"]),
            }
            for turn in turns
        ]
        yield from _ratios(best, quickest, ("ours", "best"), bar=BEST_BAR)


def _bytes_of(place: Path) -> str:
    """Return in words what annbatch reads, which is not JPEG."""
    sizes = [
        sum(path.stat().st_size for path in (place / name).rglob("*") if path.is_file())
        for name in ("annbatch.zarr", "images")
    ]
    return f", of raw pixels in zstd: {sizes[0] / max(1, sizes[1]):.1f} times the bytes"


_failures: dict[str, str] = {}
"""Why a peer gave no figure."""


def _turn(place: Path, wanted: Sequence[str]) -> dict[str, dict[str, float]]:
    found = {"ours": figures_of("loading", "ours", str(place), "0", "1")}
    for peer in wanted:
        try:
            found[peer] = _peer(peer, place)
        except (PeerMissingError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", b"") or b""
            _failures[peer] = f"{error} {said.decode()[-300:]}"
    return found


def _peer(name: str, place: Path) -> dict[str, float]:
    programs = environment(ANN, ANNBATCH) if name == ANN else environment("loaders", LOADERS)
    python = programs / "python"
    command = [str(python), str(_SCRIPT), name, str(place), str(BATCH), str(CORES)]
    ended = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, timeout=300)
    figures: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def _growth(plan: Plan) -> Iterator[Result]:
    """Yield what a run's size costs."""
    start = "loader: start to first batch, 4.7 million tiles"
    order = "loader: memory of their order"
    peak = "loader: peak memory while they are chosen and ordered, above imports"
    if any(map(plan.wants, (start, order, peak))):
        tiles = 100_000 if plan.quick else 4_704_000
        turns = [figures_of("loading", "start", str(large_run(tiles))) for _ in range(plan.runs)]
        first = turns[0]
        told = f"{first['tiles']:.0f} tiles; {first['cpu_s']:.1f} CPU s"
        seconds = [turn["seconds"] for turn in turns]
        yield judged(start, seconds, bar=START_BAR_S, unit="s", against=told)
        kept = [turn["order_mb"] for turn in turns]
        yield judged(order, kept, bar=ORDER_BAR_MB, unit="MB", against=told)
        most = [turn["peak_mb"] for turn in turns]
        yield judged(peak, most, bar=ORDER_BAR_MB, unit="MB", against=told)
    flat = "loader: rate with 1 million tiles against 10 thousand"
    if plan.wants(flat):
        count = "512" if plan.quick else "3072"  # twice that is less than the small run
        pairs = [
            {
                str(tiles): figures_of("loading", "rate", str(large_run(tiles)), count)
                for tiles in (10_000, 1_000_000)
            }
            for _ in range(plan.runs)
        ]
        yield from _ratios(flat, pairs, ("1000000", "10000"), bar=FLAT_BAR)
    grown = "loader: memory after the tenth epoch against the second"
    if plan.wants(grown):
        place = str(made((QUICK if plan.quick else SUBJECTS)[2]))
        figures = [figures_of("loading", "epochs", place) for _ in range(plan.runs)]
        ratios = [each["tenth_mb"] / each["second_mb"] for each in figures]
        told = f"{figures[0]['second_mb']:.0f} MB after the second"
        yield judged(grown, ratios, bar=GROWTH_BAR, against=told)
