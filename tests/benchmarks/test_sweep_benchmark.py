"""The benchmark of sweeps once, on a few tiles."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.benchmarks import sweep_memory, sweeping  # noqa: E402


def test_both_sides_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "SIZES", {"tiny": (40, 32)})
    threads = torch.get_num_threads()
    figures = sweeping.main("tiny", 3)
    torch.set_num_threads(threads)
    assert float(figures["plain_ms"]) > 0
    assert float(figures["sweep_ms"]) > 0


def test_every_level_of_every_network_is_judged() -> None:
    found = sweep_memory.main(5000, 3, 2)
    assert found["judged"] == 6
    assert 0 < found["before"] <= found["peak"]
