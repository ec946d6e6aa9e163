"""The benchmarks' own arithmetic; measuring itself is off by default."""

import sys

from tests.benchmarks.measure import at_least, at_most, report, usage_of


def test_a_bar_holds_where_the_median_is_on_its_side() -> None:
    assert at_most("a", [3.0, 1.0, 2.0], bar=2.0).holds
    assert not at_most("a", [3.0, 1.0, 2.0], bar=1.9).holds
    assert at_least("a", [3.0, 1.0, 2.0], bar=2.0).holds


def test_a_process_is_measured_with_its_children() -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(3_000_000))'])"
    usage = usage_of([sys.executable, "-c", busy])
    assert usage.cpu_s > 0.02
    assert usage.wall_s > 0.02
    assert usage.peak_bytes > 1 << 20


def test_the_report_names_machine_and_versions() -> None:
    written = report([at_most("a", [1.0], bar=2.0)])
    assert written["results"][0]["value"] == 1.0
    assert "numpy" in written["versions"]
