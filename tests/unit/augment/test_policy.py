"""Random changes as a whole: the key decides, whatever the batch, its memory or what came before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.augment.config import AugmentConfig
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.randomness import keys_of

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch import Tensor  # noqa: E402

from tests.unit.augment.drawn_images import keys, squares  # noqa: E402
from wsi_pipeline.augment.color import hed_jittered, noisy  # noqa: E402
from wsi_pipeline.augment.draws import Draws  # noqa: E402
from wsi_pipeline.augment.policy import Augmenter, normalised, resized  # noqa: E402

CONFIGS = (
    AugmentConfig(),
    AugmentConfig(crop=(1.0, 1.0), most=0),
    AugmentConfig(operations=("color", "rotate"), most=5),
    AugmentConfig(hed=0.1, noise=20.0, most=0, flip=False),
    AugmentConfig(elastic=3.0, blur=1.5, quarter_turns=False),
)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@given(
    given_keys=st.lists(keys, min_size=1, max_size=7),
    side=st.integers(20, 33),
    image_px=st.integers(16, 24),
    data=st.data(),
)
@settings(max_examples=12)
def test_an_image_is_the_same_in_any_batch_and_whenever_it_comes_again(
    config: AugmentConfig, given_keys: list[int], side: int, image_px: int, data: st.DataObject
) -> None:
    images, numbers = squares(side, count=len(given_keys), side=side), torch.tensor(given_keys)
    changed = Augmenter(config, image_px)
    together = changed(images, numbers)
    assert together.shape == (len(images), 3, image_px, image_px)
    assert (together.dtype, together.is_contiguous()) == (torch.uint8, True)
    assert torch.equal(changed(images, numbers), together)
    some = data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1, max_size=5))
    loaders = images[some].contiguous(memory_format=torch.channels_last)
    assert torch.equal(Augmenter(config, image_px)(loaders, numbers[some]), together[some])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_images_given_are_not_written_to(config: AugmentConfig) -> None:
    images = squares(3, count=5, side=24)
    before = images.clone()
    Augmenter(config, 24)(images, torch.arange(5))
    assert torch.equal(images, before)


def test_an_epoch_on_is_another_image() -> None:
    images = squares(3, count=64, side=24)
    made = [
        Augmenter(AugmentConfig(), 24)(
            images, torch.from_numpy(keys_of(1, epoch, np.arange(64)).view(np.int64))
        )
        for epoch in (0, 1)
    ]
    assert (made[0] != made[1]).flatten(1).any(dim=1).all()


def test_without_any_change_an_image_is_brought_to_size() -> None:
    config = AugmentConfig(crop=(1.0, 1.0), flip=False, quarter_turns=False, most=0)
    images = squares(3, count=5, side=33)
    for image_px in (33, 20):
        made = Augmenter(config, image_px)(images, torch.arange(5))
        assert torch.equal(made, resized(images, image_px))


@pytest.mark.parametrize("shape", [(0, 3, 24, 24), (1, 3, 1, 1)])
def test_an_empty_batch_and_an_image_of_one_pixel_are_batches(shape: tuple[int, ...]) -> None:
    images = torch.full(shape, 7, dtype=torch.uint8)
    config = AugmentConfig(operations=tuple(AugmentConfig().operations), most=15, noise=1.0)
    made = Augmenter(config, 8)(images, torch.arange(shape[0]))
    assert made.shape == (shape[0], 3, 8, 8)
    assert resized(images, 8).shape == made.shape


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 3, 8, 8), r"uint8 \(batch, 3, side, side\), got torch.float32"),
        (torch.zeros(2, 3, 8, 9, dtype=torch.uint8), r"got torch.uint8 \(2, 3, 8, 9\)"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), r"got torch.uint8 \(2, 8, 8, 3\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"got torch.uint8 \(3, 8, 8\)"),
        (torch.zeros(3, 3, 8, 8, dtype=torch.uint8), r"keys: expected one for each of 3 images"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: Tensor, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Augmenter(AugmentConfig(), 8)(images, torch.arange(2))


def test_normalised_images_have_the_mean_and_spread_asked_for() -> None:
    images = squares(4, count=3, side=16)
    mean, std = (0.7, 0.5, 0.6), (0.2, 0.25, 0.3)
    shape = (1, 3, 1, 1)
    expected = (images.double() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(
        shape
    )
    made = normalised(images, mean, std)
    assert made.dtype == torch.float32
    assert torch.allclose(made.double(), expected, atol=1e-6)


def test_jitter_of_stains_is_none_at_0_and_moves_colours_about_as_far_as_asked() -> None:
    images = squares(4, count=200, side=8) // 2 + 100
    draws = Draws(torch.arange(200))
    assert torch.equal(hed_jittered(images, draws, strength=0.0), images)
    moved = [
        (hed_jittered(images, draws, strength=strength).float() - images.float()).abs().mean()
        for strength in (0.02, 0.1)
    ]
    assert 0 < moved[0] < moved[1] < 40


def test_noise_is_normal_and_as_strong_as_asked() -> None:
    images = torch.full((40, 3, 64, 64), 128, dtype=torch.uint8)
    draws = Draws(torch.arange(40))
    made = noisy(images, draws, np.linspace(0, 20, 40)).float() - 128
    assert torch.equal(made[0], torch.zeros(3, 64, 64))
    assert abs(made[20].std() - 20 * 20 / 39) < 0.3
    assert abs(made[39].std() - 20) < 0.5
    assert made.mean().abs() < 0.1
    neighbours = torch.corrcoef(torch.stack((made[39, 0, :, :-1], made[39, 0, :, 1:])).flatten(1))
    assert neighbours[0, 1].abs() < 0.05
