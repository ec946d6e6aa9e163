"""On a GPU images are shifted as on a CPU: to the bit where arithmetic is of whole numbers."""

import pytest

from wsi_pipeline.evaluate.sweep.shift_config import SHIFTS, sweep_of

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.augment.drawn_images import squares  # noqa: E402
from wsi_pipeline.evaluate.sweep.shifts import sharpness, shifted  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_has_the_same_bits(shift: str) -> None:
    images, keys = squares(1, count=8, side=64), torch.arange(8)
    most = 1 if shift == "hed" else 0  # logarithms differ from device to device
    for level in sweep_of(shift).levels:
        here, there = (shifted(each, shift, level, keys) for each in (images, images.cuda()))
        assert (here.int() - there.cpu().int()).abs().max() <= most


def test_sharpness_is_the_same_number() -> None:
    images = squares(1, count=8, side=64)
    assert torch.equal(sharpness(images), sharpness(images.cuda()).cpu())
