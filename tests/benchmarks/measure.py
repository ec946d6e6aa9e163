"""Figures of whole processes and of single steps, and how they are written down."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from wsi_pipeline.provenance import library_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process and its children took."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    """Resident memory of the largest single process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One bar of docs/performance.md (design.md, section 10)."""

    name: str
    value: float | None
    unit: str
    bar: float | None = None
    holds: bool | None = None
    against: str = ""
    command: str = ""
    spread: list[float] = field(default_factory=list)
    """Every single figure that ``value`` is the median of."""


def usage_of(command: Sequence[str]) -> Usage:
    """Run a command to its end and return what it took; its output is shown only if it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        output = process.stdout.read() if process.stdout else b""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {output.decode()[-2000:]}")
    return Usage(
        cpu_s=used.ru_utime + used.ru_stime,
        wall_s=time.perf_counter() - start,
        peak_bytes=used.ru_maxrss * 1024,
    )


def cpu_ms(step: Callable[[], object], *, times: int) -> float:
    """Return a step's processor time in milliseconds: the median of runs, the first not counted."""
    step()
    taken = []
    for _ in range(times):
        start = time.process_time()
        step()
        taken.append(1e3 * (time.process_time() - start))
    return statistics.median(taken)


def at_most(name: str, values: Sequence[float], *, bar: float, **words: str) -> Result:
    """Return a result that holds where its median is at most the bar."""
    value = statistics.median(values)
    return Result(
        name=name,
        value=value,
        bar=bar,
        holds=value <= bar,
        spread=list(values),
        **_with_unit(words),
    )


def at_least(name: str, values: Sequence[float], *, bar: float, **words: str) -> Result:
    """Return a result that holds where its median is at least the bar."""
    value = statistics.median(values)
    return Result(
        name=name,
        value=value,
        bar=bar,
        holds=value >= bar,
        spread=list(values),
        **_with_unit(words),
    )


def not_measured(name: str, *, reason: str, bar: float) -> Result:
    """Return a result that could not be had here, and why."""
    return Result(name=name, value=None, unit="ratio", bar=bar, against=reason)


def report(results: Sequence[Result]) -> dict[str, Any]:
    """Return what is written as JSON."""
    machine = (
        f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {_cpu_model()}"
    )
    return {
        "results": [asdict(result) for result in results],
        "machine": machine,
        "versions": library_versions(),
    }


def _with_unit(words: dict[str, str]) -> dict[str, Any]:
    return {"unit": "ratio", **words}


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return "unknown processor"
