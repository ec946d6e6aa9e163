"""Random numbers of tiles by name, from their keys alone; a stand-in until ``augment.draws`` is there."""

import hashlib

import torch

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))


class Draws:
    """Draws of some tiles."""

    def __init__(self, keys: torch.Tensor, device: "torch.device | str") -> None:
        self._keys = keys.to(device)

    def uniform(self, name: str, n: int | None = None) -> torch.Tensor:
        """Return float32 in [0, 1), ``(B,)`` or ``(B, n)``; the same for the same key, name and place."""
        salt = int.from_bytes(
            hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True
        )
        places = torch.arange(1, (n or 1) + 1, device=self._keys.device)
        mixed = _mixed(_mixed(self._keys ^ salt)[:, None] + places * _GOLDEN)
        numbers = ((mixed >> 40) & 0xFFFFFF).float() / (1 << 24)
        return numbers[:, 0] if n is None else numbers


def _mixed(values: torch.Tensor) -> torch.Tensor:
    """Finaliser of SplitMix64 in signed integers, which overflow alike on every device."""
    values = (values ^ ((values >> 30) & ((1 << 34) - 1))) * _MIX[0]
    values = (values ^ ((values >> 27) & ((1 << 37) - 1))) * _MIX[1]
    return values ^ ((values >> 31) & ((1 << 33) - 1))
