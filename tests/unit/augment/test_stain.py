"""Stain normalisation: the reference is a fixed point, other stains come to it, blank tiles stay."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from wsi_pipeline.errors import ConfigError

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch import Tensor  # noqa: E402

from tests.unit.augment.drawn_images import squares, tensor  # noqa: E402
from wsi_pipeline.augment import stain  # noqa: E402
from wsi_pipeline.augment.color import densities  # noqa: E402
from wsi_pipeline.augment.stain import macenko, normalizer, percentile, reinhard  # noqa: E402

METHODS = ("macenko", "reinhard")
PCAM = Path(__file__).resolve().parents[4] / "shared" / "pcam" / "pcam.parquet"

OTHER_STAINS = np.array([[0.75, 0.58, 0.32], [0.32, 0.86, 0.40]])
OTHER_STAINS /= np.linalg.norm(OTHER_STAINS, axis=1, keepdims=True)
"""Both take enough of every colour to be seen as tissue: what takes less is left out, as Macenko has it."""


def stained(
    stains: NDArray[np.float64], amounts: NDArray[np.float64], *, seed: int, side: int = 96
) -> Tensor:
    """Return an image of two stains whose 99th percentiles are these amounts, a part of it background.

    Most pixels have nearly one stain alone, as its direction is an extreme of their angles.
    """
    generator = np.random.default_rng(seed)
    share = generator.beta(0.25, 0.25, (side, side))
    strength = generator.uniform(0.35, 1, (side, side))
    mixed = np.stack((share, 1 - share), axis=-1) * strength[..., None]
    mixed *= amounts / np.quantile(mixed.reshape(-1, 2), 0.99, axis=0)
    mixed[: side // 4] = 0
    values = np.rint(256 * np.exp(-mixed @ stains) - 1).clip(0, 255)
    return tensor([values.astype(np.uint8)])


def test_an_image_of_the_reference_stains_stays_nearly_as_it_is() -> None:
    image = stained(stain.REFERENCE_STAINS, stain.REFERENCE_AMOUNTS, seed=1)
    made = macenko(image)
    assert (made.int() - image.int()).abs().float().mean() < 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_other_stains_come_to_the_reference(seed: int) -> None:
    image = stained(OTHER_STAINS, np.array([1.2, 0.9]), seed=seed)
    wanted = stained(stain.REFERENCE_STAINS, stain.REFERENCE_AMOUNTS, seed=seed)
    before, after = (
        (each.int() - wanted.int()).abs().float().mean() for each in (image, macenko(image))
    )
    assert after < 4
    assert after < before / 8
    stains = stain._stains(
        densities(image).flatten(2).double(), (densities(image) > 0.15).all(dim=1).flatten(1)
    )[0].T.numpy()
    assert np.abs(stains - OTHER_STAINS).max() < 0.05  # haematoxylin first


def test_after_reinhard_tissue_has_the_references_means_and_spreads() -> None:
    image = stained(OTHER_STAINS, np.array([0.9, 0.5]), seed=4)
    made = reinhard(image)
    background = stain._is_tissue(image).logical_not().expand_as(image)
    assert background.float().mean() > 0.2
    assert torch.equal(made[background], image[background])
    means, _, _ = stain.tissue_statistics(made)
    before, _, _ = stain.tissue_statistics(image)
    reference = torch.from_numpy(stain.REFERENCE_MEANS)
    assert (means - reference).abs().max() < 0.03
    assert (means - reference).abs().max() < (before - reference).abs().max() / 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [(255, 255, 255), (0, 0, 0), (200, 120, 190), (255, 0, 0)])
def test_a_tile_of_one_colour_stays_as_it_is(method: str, values: tuple[int, ...]) -> None:
    image = tensor([np.full((32, 32, 3), values, np.uint8)])
    assert torch.equal(normalizer(method)(image), image)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("changed", [1, 15])
def test_a_tile_with_a_speck_of_tissue_stays_as_it_is(method: str, changed: int) -> None:
    image = torch.full((1, 3, 32, 32), 245, dtype=torch.uint8)
    image[0, :, 0, :changed] = squares(changed, count=1, side=32)[0, :, 0, :changed] // 2
    assert torch.equal(normalizer(method)(image), image)


@pytest.mark.parametrize("method", METHODS)
@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=5),
    st.integers(1, 80),
    st.integers(1, 255),
)
@settings(max_examples=25)
def test_an_image_is_normalised_by_itself_whatever_it_shows(
    method: str, seeds: list[int], side: int, darkest: int
) -> None:
    images = torch.cat([squares(seed, count=1, side=side) for seed in seeds]).clamp(min=darkest)
    together = normalizer(method)(images)
    assert together.dtype == torch.uint8
    for at in range(len(images)):
        alone = normalizer(method)(images[at : at + 1])[0]
        assert (alone.int() - together[at].int()).abs().max() <= 1


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0, 1), st.data())
def test_a_percentile_is_numpys_of_the_chosen_ones(
    values: list[float], share: float, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    found = percentile(torch.tensor([values], dtype=torch.float64), torch.tensor([chosen]), share)
    some = np.array(values)[np.array(chosen)]
    if len(some):
        ordered = np.sort(some)
        assert float(found) == ordered[int((len(some) - 1) * share)]
    else:
        assert float(found) == np.inf


def test_a_batch_without_images_and_a_method_that_is_none() -> None:
    nothing = torch.zeros((0, 3, 8, 8), dtype=torch.uint8)
    assert all(normalizer(method)(nothing).shape == nothing.shape for method in METHODS)
    with pytest.raises(ConfigError, match="stain: expected macenko or reinhard, got 'vahadane'"):
        normalizer("vahadane")


@pytest.mark.skipif(not PCAM.exists(), reason="the tiles of PatchCamelyon are not here")
def test_the_reference_of_reinhard_is_that_of_patchcamelyon_and_colours_become_alike() -> None:
    tiles = pd.read_parquet(PCAM, columns=["split", "jpeg"]).query("split == 'train'")
    jpegs = tiles["jpeg"].sample(120, random_state=1)
    images = tensor([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs])
    means, spreads, usable = stain.tissue_statistics(images)
    assert usable.float().mean() > 0.97
    assert np.abs(means[usable].mean(dim=0).numpy() - stain.REFERENCE_MEANS).max() < 0.05
    assert np.abs(spreads[usable].mean(dim=0).numpy() - stain.REFERENCE_SPREADS).max() < 0.03
    for method in METHODS:
        made = normalizer(method)(images)
        before, after = (each.float().mean(dim=(2, 3)).std(dim=0) for each in (images, made))
        assert (after < before).all()
