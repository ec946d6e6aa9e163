"""Memory of batches, used again once nobody looks at it: new pages cost as much as a tenth of decoding."""

import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Allocate: TypeAlias = Callable[[int], NDArray[np.uint8]]
"""Gives so many bytes, ``(bytes,)``, that own their memory or keep it alive."""


def _references(buffers: list[NDArray[np.uint8]], place: int) -> int:
    return sys.getrefcount(buffers[place])


_NOBODY = _references([np.empty(1, np.uint8)], 0)
"""References to a buffer that only a list knows; asked for, as versions of Python count differently."""


def new_memory(size_bytes: int) -> NDArray[np.uint8]:
    """Return bytes of this process."""
    return np.empty(size_bytes, np.uint8)


class Buffers:
    """Gives arrays of one size; every view of one, in whatever library, keeps it from being given again.

    One for all epochs: on the first writing to new memory a tile of 1024 px takes as long again.
    """

    def __init__(self, *, allocate: Allocate = new_memory) -> None:
        self._allocate = allocate
        self._kept: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many arrays are kept."""
        return len(self._kept)

    def take(self, shape: tuple[int, ...], *, most: int) -> NDArray[np.uint8]:
        """Return an array of a shape; what is in it is whatever was there before.

        Parameters
        ----------
        shape
            Of uint8.
        most
            Arrays that are kept to be given again; those of another size, which nobody uses, make room.
        """
        size_bytes = int(np.prod(shape))
        with self._lock:
            idle = [
                place
                for place in range(len(self._kept))
                if _references(self._kept, place) == _NOBODY
            ]
            for place in idle:
                if self._kept[place].size == size_bytes:
                    return self._kept[place][:].reshape(shape)
            for place in reversed(idle):
                del self._kept[place]
            buffer = self._allocate(size_bytes)
            if len(self._kept) < most:
                self._kept.append(buffer)
            return buffer[:].reshape(shape)
