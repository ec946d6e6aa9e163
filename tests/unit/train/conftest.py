"""What tests of training share."""

from collections.abc import Generator

import pytest


@pytest.fixture(scope="module")
def one_thread() -> Generator[None]:
    """Let torch use one thread: tensors of tests are so small that others only wait."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
