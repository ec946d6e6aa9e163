"""The trainer's benchmark once, on a small network."""

import pytest

from tests.benchmarks import train
from tests.benchmarks.measure import Plan

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.benchmarks import stepping  # noqa: E402


@pytest.mark.parametrize("side", ["bare", "ours", "augmented"])
def test_a_side_is_measured(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "NAME", "test_efficientnet")
    monkeypatch.setattr(stepping, "SIDE_PX", 32)
    figures = stepping.main(side, 4, 2)
    assert figures["tiles_per_s"] > 0
    assert figures["cpu_ms"] > 0


def test_both_sides_have_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "SIDE_PX", 32)
    first, again = stepping._batches(4), stepping._batches(4)
    assert all(
        torch.equal(one.images, other.images) for one, other in zip(first, again, strict=True)
    )
    assert first[0].images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_what_is_not_measured_says_why() -> None:
    (result,) = train.run(Plan(quick=True, runs=1, only="loop, on a GPU"))
    assert (result.value, result.against) == (None, "no CUDA device here")
