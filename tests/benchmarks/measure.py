"""Figures of whole processes, and how they are judged and written down."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tests.benchmarks.peers import ROOT, peer_versions
from wsi_pipeline.provenance import library_version, library_versions

Bound: TypeAlias = Literal["at most", "at least"]

KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 28)}
"""As workers do (docs/decisions/0004-keep-freed-memory.md); for every library that is timed beside them."""

_LAUNCH = Path(__file__).with_name("launch.py")
_MORE_LIBRARIES = ("distributed", "pylibczirw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    quick: bool = False
    """Small slides."""
    runs: int = 3
    """How often each figure is taken."""
    only: str = ""
    """Results whose name holds this; all of them by default."""

    def wants(self, name: str) -> bool:
        """Whether a result of this name is asked for."""
        return self.only.lower() in name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process and its children took."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    """Resident memory of the largest single process, children of children counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One bar of docs/performance.md (design.md, section 10), or a figure without a bar."""

    name: str
    value: float | None
    unit: str = "ratio"
    bar: float | None = None
    bound: Bound = "at most"
    holds: bool | None = None
    against: str = ""
    """What it is measured against, or why it was not measured."""
    command: str = ""
    spread: list[float] = field(default_factory=list)
    """Every single figure that ``value`` is the median of."""


def usage_of(command: Sequence[str]) -> Usage:
    """Run a command to its end and return what it took; its output is shown only if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "usage.json"
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(taken), *command]
        ended = subprocess.run(
            launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd=ROOT
        )
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {ended.stdout.decode()[-2000:]}")
        return Usage(**json.loads(taken.read_text(encoding="utf-8")))


def figures_of(module: str, *arguments: str) -> dict[str, float]:
    """Run a module of this folder in a process of its own and return the figures that it prints."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    environment = {**os.environ, **KEEP_FREED_MEMORY}
    ended = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=environment)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures


def judged(
    name: str, values: Sequence[float], *, bar: float | None, bound: Bound = "at most", **words: str
) -> Result:
    """Return a result whose median is held against a bar; without one it is only told."""
    value = statistics.median(values)
    holds = None
    if bar is not None:
        holds = value <= bar if bound == "at most" else value >= bar
    return Result(
        name=name, value=value, bar=bar, bound=bound, holds=holds, spread=list(values), **words
    )


def not_measured(
    name: str, *, reason: str, bar: float | None = None, bound: Bound = "at most"
) -> Result:
    """Return a result that could not be had here, and why."""
    return Result(name=name, value=None, bar=bar, bound=bound, against=reason)


def report(results: Sequence[Result]) -> dict[str, Any]:
    """Return what is written as JSON."""
    return {
        "results": [asdict(result) for result in results],
        "machine": machine(),
        "versions": versions(),
        "commit": _commit(),
        "date": datetime.now(tz=UTC).date().isoformat(),
    }


def machine() -> str:
    """Return cores, processor and memory of this machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {_cpu_model()}, {memory:.0f} GiB, {platform.platform()}"


def versions() -> Mapping[str, str]:
    """Return the versions of this package's libraries and of the peers that are installed."""
    more = {name: library_version(name) for name in _MORE_LIBRARIES}
    return {**library_versions(), **more, **peer_versions()}


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    ended = subprocess.run(asked, capture_output=True, check=False, cwd=ROOT)
    return ended.stdout.decode().strip() or "unknown"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
