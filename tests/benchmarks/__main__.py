"""``python -m tests.benchmarks [NAME …] [--quick] [--runs N] [--only WORDS] [--json FILE]``."""

import argparse
import json
import sys
from pathlib import Path

from tests.benchmarks import (
    augment,
    dataset,
    label,
    likeness,
    loader,
    read,
    reporting,
    scale,
    scores,
    splitting,
    sweep,
    tile,
    train,
)
from tests.benchmarks.measure import Plan, Result, machine, report
from tests.benchmarks.peers import PLACE
from tests.benchmarks.show import table

BENCHMARKS = {
    "loader": loader.run,
    "augment": augment.run,
    "train": train.run,
    "sweep": sweep.run,
    "tile": tile.run,
    "read": read.run,
    "scale": scale.run,
    "label": label.run,
    "split": splitting.run,
    "report": reporting.run,
    "alike": likeness.run,
    "dataset": dataset.run,
    "scores": scores.run,
}


def main() -> None:
    """Run benchmarks and print a line per figure."""
    arguments = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures speed and memory beside other programs.",
    )
    arguments.add_argument(
        "which", nargs="*", choices=[*BENCHMARKS, []], default=[], help="all by default"
    )
    arguments.add_argument("--quick", action="store_true", help="small slides, single runs")
    arguments.add_argument(
        "--runs", type=int, metavar="N", help="of each figure; 3, with --quick 1"
    )
    arguments.add_argument(
        "--only", default="", metavar="WORDS", help="figures whose name holds these words"
    )
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    given = arguments.parse_args()
    PLACE.mkdir(exist_ok=True)
    plan = Plan(quick=given.quick, runs=given.runs or (1 if given.quick else 3), only=given.only)
    results: list[Result] = []
    for name in given.which or BENCHMARKS:
        for result in BENCHMARKS[name](plan):
            results.append(result)
            print(f"{result.name}: {result.value}", file=sys.stderr, flush=True)  # noqa: T201
            if given.json:  # anew with every result: a run takes long and may be interrupted
                written = json.dumps(report(results), indent=2)
                given.json.write_text(written + "\n", encoding="utf-8")
    print(f"{machine()}\n\n{table(results)}")  # noqa: T201


if __name__ == "__main__":
    main()
