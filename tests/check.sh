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
python -m pytest -q
