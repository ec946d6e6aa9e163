"""Results as a table in plain text."""

from collections.abc import Sequence

from tests.benchmarks.measure import Result

_HEAD = ("", "measured", "range", "bar", "")


def table(results: Sequence[Result]) -> str:
    """Return a line per result in aligned columns."""
    rows = [_HEAD, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(result: Result) -> tuple[str, str, str, str, str]:
    bar = "" if result.bar is None else f"{result.bound} {_number(result.bar)}"
    if result.value is None:
        return result.name, "", "", bar, f"not measured: {result.against}"
    verdict = {True: "holds", False: "MISSED", None: ""}[result.holds]
    spread = f"{_number(min(result.spread))} to {_number(max(result.spread))}"
    unit = "" if result.unit == "ratio" else f" {result.unit}"
    return result.name, f"{_number(result.value)}{unit}", spread, bar, verdict


def _number(value: float) -> str:
    """Return three significant digits, never in powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
