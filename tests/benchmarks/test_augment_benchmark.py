"""The augmentation's benchmark once, on a batch."""

import pytest

from tests.benchmarks import augment
from tests.benchmarks.measure import Plan

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("timm", reason="needs the extra train")

from tests.benchmarks import augmenting  # noqa: E402


@pytest.mark.parametrize("side", ["ours", "policy", "pillow", "pillow_alone"])
def test_a_side_is_measured(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmenting, "SIDE_PX", 32)
    threads = torch.get_num_threads()
    figures = augmenting.main(side, 1)
    torch.set_num_threads(threads)
    assert figures["cpu_ms"] > 0
    assert figures["wall_ms"] > 0


def test_a_step_of_a_network_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmenting, "SIDE_PX", 32)
    figures = augmenting.step(1, device="cpu", network="test_efficientnet", batch=3)
    assert figures["augment_ms"] > 0
    assert figures["step_ms"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_what_is_not_measured_says_why() -> None:
    (result,) = augment.run(Plan(quick=True, runs=1, only="on a GPU"))
    assert (result.value, result.against) == (None, "no CUDA device here")
