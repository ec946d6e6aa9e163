"""Groups drawn into parts: so many of each, like the whole in what they hold, the same for the same seed.

The draw is a random one, keyed by the names of the groups, which pairs of groups then leave and enter as
long as that makes the parts more alike. So it is never less balanced than the random draw that it began as.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FREE = -1
"""Part of a group that is still to be drawn."""

_CANDIDATES = 256  # of each part that may change places: 10 000 groups take seconds, not minutes
_SWAPS = 400  # at most for a pair of parts in one round
_ROUNDS = 20
_GAIN = 1e-12


def keys_of(names: Sequence[str], *, seed: int, repeat: int) -> NDArray[np.uint64]:
    """Return a random number per name that depends on nothing else but seed and repeat.

    >>> keys_of(["a", "b"], seed=1, repeat=1)[1] == keys_of(["b"], seed=1, repeat=1)[0]
    np.True_
    """
    digests = b"".join(
        hashlib.blake2b(f"{seed}/{repeat}/{name}".encode(), digest_size=8).digest()
        for name in names
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def random_parts(
    keys: NDArray[np.uint64], *, sizes: Sequence[int], fixed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the part of every group, by order of its key; groups with a part already keep it.

    Parameters
    ----------
    keys
        ``(groups,)``, a random number each.
    sizes
        Groups wanted in each part; the first takes what is left over.
    fixed
        ``(groups,)``, the part that a group has, or ``FREE``.
    """
    parts = fixed.copy()
    free = np.flatnonzero(fixed == FREE)
    free = free[np.argsort(keys[free], kind="stable")]
    first = 0
    for part in range(len(sizes) - 1, 0, -1):
        wanted = max(0, sizes[part] - int(np.sum(fixed == part)))
        parts[free[first : first + wanted]] = part
        first += wanted
    parts[free[first:]] = 0
    return parts


def draw(
    keys: NDArray[np.uint64],
    features: NDArray[np.float64],
    *,
    sizes: Sequence[int],
    fixed: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the part of every group, as ``random_parts``, then made alike by ``features``.

    Parameters
    ----------
    keys, sizes, fixed
        As of ``random_parts``.
    features
        ``(groups, features)``: how much of each thing a group holds, such as tiles of a class.
    """
    parts = random_parts(keys, sizes=sizes, fixed=fixed)
    shares = _shares(features)
    for _ in range(_ROUNDS):
        swapped = 0
        for part in range(len(sizes)):
            for other in range(part + 1, len(sizes)):
                swapped += _swap(parts, shares, keys, free=fixed == FREE, pair=(part, other))
        if not swapped:
            break
    return parts


def imbalance(parts: NDArray[np.int64], features: NDArray[np.float64], *, count: int) -> float:
    """Return how unlike the whole the parts are: 0 where each holds its share of everything.

    The sum over parts and features of ``(held - n)² / n``, where ``held`` is the share of all of a feature
    that lies in the part and ``n`` the part's share of the groups.
    """
    shares = _shares(features)
    total = 0.0
    for part in range(count):
        n = float(np.mean(parts == part))
        if n:
            total += float(np.sum((shares[parts == part].sum(axis=0) - n) ** 2)) / n
    return total


def _shares(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return features as shares of all; without those that nobody holds."""
    totals = features.sum(axis=0)
    held = totals > 0
    return np.asarray(features[:, held] / totals[held])


def _swap(
    parts: NDArray[np.int64],
    shares: NDArray[np.float64],
    keys: NDArray[np.uint64],
    *,
    free: NDArray[np.bool_],
    pair: tuple[int, int],
) -> int:
    """Let groups of two parts change places while that helps; return how often it did."""
    weights = [1 / max(float(np.mean(parts == part)), 1e-9) for part in pair]
    off = [shares[parts == part].sum(axis=0) - np.mean(parts == part) for part in pair]
    sides = [_candidates(parts == part, free, keys) for part in pair]
    if not len(sides[0]) or not len(sides[1]):
        return 0
    for done in range(_SWAPS):
        left, right = (shares[side] for side in sides)
        pull = 2 * (weights[0] * off[0] - weights[1] * off[1])
        squares = (right**2).sum(axis=1) + (left**2).sum(axis=1)[:, None] - 2 * left @ right.T
        change = right @ pull - (left @ pull)[:, None] + sum(weights) * squares
        at = np.unravel_index(int(np.argmin(change)), change.shape)
        if change[at] > -_GAIN:
            return done
        leaves, enters = sides[0][at[0]], sides[1][at[1]]
        moved = shares[enters] - shares[leaves]
        off = [off[0] + moved, off[1] - moved]
        sides[0][at[0]], sides[1][at[1]] = enters, leaves
        parts[leaves], parts[enters] = pair[1], pair[0]
    return _SWAPS


def _candidates(
    inside: NDArray[np.bool_], free: NDArray[np.bool_], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    among = np.flatnonzero(inside & free)
    return among[np.argsort(keys[among], kind="stable")[:_CANDIDATES]]
