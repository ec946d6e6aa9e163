"""What holds for every test: the same examples in every run, no example too slow, one run of the demo."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import settings

from tests.pipeline.runs import Ended, process

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process of a test compiles the package
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # pytest's workers, and what they start, share the cores

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _unsynchronised() -> Iterator[None]:
    """Do not wait for the disk: no test cuts the power, and most write hundreds of files."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first of pytest's workers to ask for it has made, for all of them."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder


def _run_demo(folder: Path) -> None:
    ended = process("demo", "DIR", cwd=folder)
    shutil.copytree(folder / "DIR", folder / "COPY")
    (folder / "ended.json").write_text(json.dumps(asdict(ended)), encoding="utf-8")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder in which the demo was run into DIR, and what it said; tests leave it as it is.

    COPY is a copy of DIR that no test runs the demo in again: it may be copied at any time.
    """
    folder = made_once(tmp_path_factory, "demo-of-all", _run_demo)
    return folder, Ended(**json.loads((folder / "ended.json").read_text(encoding="utf-8")))
