import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import seeds
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.labels.stain import angle_degrees, macenko_vectors, optical_density
from wsi_pipeline.slides.drawn import draw_slide

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])  # Ruifrok and Johnston's
EOSIN = np.array([0.21, 0.85, 0.48])


def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def stained(seed: int, *, stains: list[NDArray[np.float64]], glass: float = 240.0) -> Rgb:
    """Return pixels of random amounts of two stains, among them each alone."""
    amounts = np.random.default_rng(seed).gamma(2, 0.35, (6000, 2))
    amounts[:1000, 0] = amounts[1000:2000, 1] = 0
    light = glass * 10 ** -(amounts @ np.stack([unit(stain) for stain in stains]))
    return np.asarray(np.rint(light), np.uint8)


@given(seeds)
@settings(max_examples=20)
def test_the_stains_that_were_mixed_are_found_again(seed: int) -> None:
    found = macenko_vectors(stained(seed, stains=[HEMATOXYLIN, EOSIN]))
    assert angle_degrees(found[0], unit(HEMATOXYLIN)) < 2.5
    assert angle_degrees(found[1], unit(EOSIN)) < 2.5


@given(seeds)
@settings(max_examples=20)
def test_vectors_have_length_1_and_do_not_depend_on_the_order_or_shape_of_pixels(seed: int) -> None:
    rgb = stained(seed, stains=[HEMATOXYLIN, EOSIN])
    found = macenko_vectors(rgb)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1])
    mixed = np.random.default_rng(seed).permutation(rgb).reshape(60, 100, 3)
    assert macenko_vectors(mixed) == pytest.approx(found, abs=1e-9)


def test_another_stain_is_another_vector() -> None:
    purple = np.array([0.45, 0.80, 0.40])
    first, second = (
        macenko_vectors(stained(1, stains=[stain, EOSIN])) for stain in (HEMATOXYLIN, purple)
    )
    turned = angle_degrees(unit(HEMATOXYLIN), unit(purple))
    assert angle_degrees(first[0], second[0]) == pytest.approx(turned, abs=3)
    assert angle_degrees(first[1], second[1]) < 2


def test_glass_of_a_drawn_slide_does_not_matter_and_its_eosin_is_found() -> None:
    drawn = draw_slide(Size(width=1000, height=800), seed=[3, 1])
    found = macenko_vectors(drawn.rgb, glass_rgb=(243, 242, 245))
    assert angle_degrees(found[1], unit(np.array([0.08, 0.45, 0.25]))) < 3
    # Nuclei lie among eosin, so their pixels are never hematoxylin alone.
    assert angle_degrees(found[0], unit(np.array([0.57, 0.66, 0.26]))) < 10


def test_pixels_without_stain_have_no_vectors() -> None:
    with pytest.raises(ValueError, match="at least 200 stained pixels, got 0"):
        macenko_vectors(np.full((100, 100, 3), 243, np.uint8))
    with pytest.raises(ValueError, match="got 0"):
        macenko_vectors(np.zeros((100, 100, 3), np.uint8))


@given(st.floats(60, 240), st.floats(0.01, 0.25), seeds)
@settings(max_examples=20)
def test_density_to_first_order_is_near_that_of_the_pixels(
    mean: float, share: float, seed: int
) -> None:
    light = np.random.default_rng(seed).normal(mean, share * mean, 20_000).clip(1, None)
    density = -np.log10(light / 255)
    means, spreads = optical_density(np.array([light.mean()]), np.array([light.std()]))
    assert means[0] == pytest.approx(density.mean() - share**2 / 4.6, abs=0.006)
    assert spreads[0] == pytest.approx(density.std(), rel=0.2)


def test_what_is_not_known_stays_unknown() -> None:
    means, spreads = optical_density(np.array([np.nan, 0, 25.5]), np.array([1, 1, 0]))
    assert np.isnan(means[:2]).all()
    assert np.isnan(spreads[:2]).all()
    assert means[2] == pytest.approx(1)
