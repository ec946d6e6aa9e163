"""Random numbers of every image, drawn from its key and a name, and from nothing else.

>>> import torch
>>> keys = torch.tensor([7, 8, 9])
>>> together = Draws(keys).uniform("flip")
>>> bool(together[1] == Draws(keys[1:2]).uniform("flip")[0])
True
"""

import hashlib
from functools import cache

import torch

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_NORMAL_BITS = 16


class Draws:
    """Counter-based numbers: integer arithmetic alone, so the same bits on every device.

    The finaliser of SplitMix64 (Steele, Lea and Flood, 2014) of key, name and place; a name is another
    stream, so that nothing depends on who draws first.
    """

    def __init__(self, keys: torch.Tensor, device: "torch.device | str | None" = None) -> None:
        """Take the keys ``(B,)`` int64 of a batch's images; numbers come on ``device``, or on the keys'."""
        self._keys = keys if device is None else keys.to(device, non_blocking=True)

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._keys)

    def bits(self, name: str, count: int = 1) -> torch.Tensor:
        """Return 64 random bits each, ``(B, count)`` int64."""
        stream = _mixed(self._keys + _signed(_stream(name)))
        places = torch.arange(1, count + 1, device=stream.device) * _signed(_GOLDEN)
        return _mixed(stream[:, None] + places)

    def uniform(self, name: str, count: int | None = None) -> torch.Tensor:
        """Return float32 in [0, 1), ``(B,)``, or ``(B, count)`` if a count is given: 24 bits each."""
        drawn = _unit(self.bits(name, 1 if count is None else count))
        return drawn[:, 0] if count is None else drawn

    def between(self, name: str, low: float, high: float) -> torch.Tensor:
        """Return float64 in [low, high), ``(B,)``."""
        return low + (high - low) * self.uniform(name).double()

    def normal(self, name: str, count: int) -> torch.Tensor:
        """Return float32 of a standard normal distribution, ``(B, count)``.

        Each is one of its 65 536 quantiles, from -4.17 to 4.17, looked up, as logarithms and cosines differ
        from device to device. Four are had of 64 bits.
        """
        words = self.bits(name, -(-count // 4))[..., None]
        shifts = torch.arange(0, 64, _NORMAL_BITS, device=words.device)
        places = (words >> shifts) & ((1 << _NORMAL_BITS) - 1)  # (B, words, 4)
        table = _quantiles().to(words.device, non_blocking=True)
        return table[places.flatten(1)[:, :count]]


def _mixed(numbers: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64's finaliser; products wrap around."""
    mixed = (numbers ^ _shifted(numbers, 30)) * _signed(_MIX[0])
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(_MIX[1])
    return mixed ^ _shifted(mixed, 31)


def _shifted(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Return numbers shifted right with zeros; torch's own shift copies the sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _unit(bits: torch.Tensor) -> torch.Tensor:
    return _shifted(bits, 40).to(torch.float32) * 2.0**-24


@cache
def _stream(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _signed(word: int) -> int:
    """Return the signed number with the same 64 bits: torch cannot count in unsigned ones."""
    return word - (1 << 64) if word >> 63 else word


@cache
def _quantiles() -> torch.Tensor:
    middles = (torch.arange(1 << _NORMAL_BITS, dtype=torch.float64) + 0.5) / (1 << _NORMAL_BITS)
    return torch.special.ndtri(middles).to(torch.float32)
