"""Run a command from a small process and write down what it took: ``launch.py FILE COMMAND…``.

Linux counts the memory of a process that starts another as the other's peak, until that one replaces its
program. A benchmark with slides in its memory would so be measured itself; this process has 10 MiB.
"""

import json
import os
import subprocess
import sys
import time


def main() -> int:
    """Return the command's exit status; its usage is written as JSON, its children counted."""
    into, *command = sys.argv[1:]
    start = time.perf_counter()
    with subprocess.Popen(command) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    usage = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": time.perf_counter() - start,
        "peak_bytes": used.ru_maxrss * 1024,
    }
    with open(into, "w", encoding="utf-8") as file:  # noqa: PTH123  pathlib would double the start-up
        json.dump(usage, file)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
