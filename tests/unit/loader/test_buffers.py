"""Memory of batches: used again when nobody looks at it, and never before."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_pipeline.loader.buffers import Buffers


def address(array: NDArray[np.uint8]) -> int:
    return int(array.ctypes.data)


def test_memory_that_nobody_looks_at_is_given_again() -> None:
    buffers = Buffers()
    first = buffers.take((4, 5, 3), most=2)
    where = address(first)
    del first
    assert address(buffers.take((4, 5, 3), most=2)) == where


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
    buffers = Buffers()
    first = buffers.take((4, 5, 3), most=2)
    where = address(first)
    view = VIEWS[name](first)
    del first
    other = buffers.take((4, 5, 3), most=2)
    assert address(other) != where
    del view
    assert address(buffers.take((4, 5, 3), most=2)) == where


def test_no_more_is_kept_than_asked_for() -> None:
    buffers = Buffers()
    held = [buffers.take((2, 2), most=1) for _ in range(5)]
    assert len({address(each) for each in held}) == 5
    del held
    assert len(buffers) == 1


def test_another_size_makes_room_of_what_nobody_uses() -> None:
    buffers = Buffers()
    used = buffers.take((2, 2), most=2)
    idle = buffers.take((2, 2), most=2)
    del idle
    assert buffers.take((3, 3), most=2).shape == (3, 3)
    assert used.shape == (2, 2)
    assert len(buffers) == 2
    del used
    buffers.take((4, 4), most=2)
    assert len(buffers) == 1
