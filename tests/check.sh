#!/usr/bin/env bash
# Everything that has to hold, for people and for CI: format, style, types, imports, behaviour.
# Usage: bash tests/check.sh [FOLDER WITH python, ruff, mypy, …]   (default: those on the PATH)
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
    PATH="$(cd "$1" && pwd):$PATH"
    export PATH
fi
ruff format --check .
ruff check .
mypy
lint-imports --no-logo
# Two at once, a file on one of them: tests of processes mostly wait.
python -m pytest -q -n 2 --dist loadfile
