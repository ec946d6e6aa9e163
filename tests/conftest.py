"""What holds for every test: the same examples in every run, no example too slow, one run of the demo."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.pipeline.runs import Ended, process

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder in which the demo was run into DIR, and what it said; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, process("demo", "DIR", cwd=folder)
