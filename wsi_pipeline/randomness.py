"""Independent streams of random numbers by name, so that nothing depends on who draws first."""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator of its own for these names; the same arguments give the same numbers.

    >>> first, again, other = (generator(1, "order", epoch).random() for epoch in (0, 0, 1))
    >>> first == again, first == other
    (True, False)
    """
    key = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def keys_of(seed: int, epoch: int, tiles: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a number for every tile that its random changes of an epoch are drawn from.

    It does not depend on the batch, worker or rank in which the tile comes, so a run that goes on, or is
    carried out by others, repeats itself. The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).

    Parameters
    ----------
    seed, epoch
        Of the training.
    tiles
        Numbers of tiles, any shape.
    """
    start = generator(seed, "tiles", epoch).integers(0, 2**63, dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = start + _GOLDEN * (tiles.astype(np.uint64) + np.uint64(1))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
