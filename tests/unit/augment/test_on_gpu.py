"""On a GPU an image is changed as on a CPU: to the bit where arithmetic is of whole numbers."""

import pytest

from wsi_pipeline.augment.config import AugmentConfig

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.augment.drawn_images import squares  # noqa: E402
from wsi_pipeline.augment.draws import Draws  # noqa: E402
from wsi_pipeline.augment.policy import Augmenter, resized  # noqa: E402
from wsi_pipeline.augment.stain import normalizer  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def test_draws_have_the_same_bits() -> None:
    keys = torch.arange(1000)
    here, there = Draws(keys), Draws(keys, "cuda")
    for kind in ("bits", "uniform", "normal"):
        drawn = [getattr(draws, kind)("a", 7).cpu() for draws in (here, there)]
        assert torch.equal(*drawn)


@pytest.mark.parametrize("kept_on", ["cpu", "cuda"])
def test_default_changes_and_noise_have_the_same_bits(kept_on: str) -> None:
    images, keys = squares(1, count=128, side=64), torch.arange(128)
    changed = Augmenter(AugmentConfig(noise=5.0), 48)
    assert torch.equal(changed(images.cuda(), keys.to(kept_on)).cpu(), changed(images, keys))
    assert torch.equal(resized(images.cuda(), 40).cpu(), resized(images, 40))


def test_changes_of_colour_and_shape_are_within_a_gray_level() -> None:
    images, keys = squares(1, count=32, side=64), torch.arange(32)
    changed = Augmenter(AugmentConfig(hed=0.1, elastic=2.0, blur=1.0, operations=()), 48)
    apart = changed(images.cuda(), keys).cpu().int() - changed(images, keys).int()
    assert apart.abs().max() <= 1
    for method in ("macenko", "reinhard"):
        apart = normalizer(method)(images.cuda()).cpu().int() - normalizer(method)(images).int()
        assert apart.abs().max() <= 1
