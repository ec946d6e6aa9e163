"""Rules of the house that no linter knows."""

import ast
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsi_pipeline import errors

PACKAGE = Path(__file__).resolve().parents[1] / "wsi_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
ERRORS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
]


def functions() -> Iterator[tuple[str, int]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                yield f"{path.relative_to(PACKAGE)}:{node.name}", lines


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_function_is_longer_than_60_lines() -> None:
    # A command declares one parameter per flag, each with its help; its body is short.
    signatures_of_flags = {
        f"cli/{name}.py:{name}" for name in ("evaluate", "export", "import_tiles", "label", "tile")
    }
    long = {name: lines for name, lines in functions() if lines > 60}
    assert long.keys() <= signatures_of_flags


def test_most_functions_are_short() -> None:
    lengths = sorted(lines for _, lines in functions())
    assert lengths[len(lengths) // 2] <= 12


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_package_files_hold_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys, wsi_pipeline.cli.app;"
        "heavy = {'torch', 'dask', 'zarr', 'openslide', 'pandas', 'pyarrow', 'cv2', 'numpy'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_come_back_from_another_process_as_themselves(kind: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(kind("which thing, what to do")))
    assert type(again) is kind
    assert str(again) == "which thing, what to do"


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_an_error_of_the_pipeline(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.PipelineError)
