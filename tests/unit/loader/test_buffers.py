"""Memory of batches: used again when nobody looks at it, and never before."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_pipeline.loader.buffers import Buffers


def address(array: NDArray[np.uint8]) -> int:
    return int(array.ctypes.data)


def test_memory_that_nobody_looks_at_is_given_again() -> None:
    buffers = Buffers(most=2)
    first = buffers.take((4, 5, 3))
    where = address(first)
    del first
    assert address(buffers.take((4, 5, 3))) == where


VIEWS: dict[str, Callable[[NDArray[np.uint8]], object]] = {
    "itself": lambda array: array,
    "transposed": lambda array: array.transpose(2, 0, 1),
    "a part": lambda array: array[1:, :, ::2],
    "flat": lambda array: array.reshape(-1),
    "its bytes": lambda array: array.data,
    "one of a list": lambda array: [array[0]],
}


@pytest.mark.parametrize("name", VIEWS)
def test_any_view_keeps_memory_from_being_given_again(name: str) -> None:
    buffers = Buffers(most=2)
    first = buffers.take((4, 5, 3))
    where = address(first)
    view = VIEWS[name](first)
    del first
    other = buffers.take((4, 5, 3))
    assert address(other) != where
    del view
    assert address(buffers.take((4, 5, 3))) == where


def test_another_size_takes_other_memory_and_no_more_is_kept_than_asked_for() -> None:
    buffers = Buffers(most=1)
    small = buffers.take((2, 2))
    assert buffers.take((3, 3)).shape == (3, 3)
    assert small.shape == (2, 2)
    held = [buffers.take((2, 2)) for _ in range(5)]
    assert len({address(each) for each in [small, *held]}) == 6
