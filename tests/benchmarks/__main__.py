"""``python -m tests.benchmarks [tile] [--quick] [--json FILE]``, from the project's root."""

import argparse
import json
from pathlib import Path

from tests.benchmarks import tile
from tests.benchmarks.measure import Result, report
from tests.benchmarks.peers import PLACE

BENCHMARKS = {"tile": tile.run}


def main() -> None:
    """Run benchmarks and print a line per bar."""
    arguments = argparse.ArgumentParser(
        description="Measures speed and memory beside other programs."
    )
    arguments.add_argument("which", nargs="*", choices=[*BENCHMARKS, []], default=[])
    arguments.add_argument("--quick", action="store_true", help="small slides, single runs")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    given = arguments.parse_args()
    PLACE.mkdir(exist_ok=True)
    results = [
        result
        for name in given.which or BENCHMARKS
        for result in BENCHMARKS[name](quick=given.quick)
    ]
    for result in results:
        print(_line(result))  # noqa: T201
    if given.json:
        given.json.write_text(json.dumps(report(results), indent=2) + "\n", encoding="utf-8")


def _line(result: Result) -> str:
    if result.value is None:
        return f"{result.name}: not measured ({result.against})"
    verdict = "holds" if result.holds else "MISSED"
    spread = f"{min(result.spread):.3g} to {max(result.spread):.3g}"
    return f"{result.name}: {result.value:.3g} {result.unit} ({spread}), bar {result.bar:.3g}: {verdict}"


if __name__ == "__main__":
    main()
