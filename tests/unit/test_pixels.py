import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import block_means, noise, seeds
from wsi_pipeline import pixels
from wsi_pipeline.pixels import on_white, resized_by_area, to_gray

sides = st.integers(1, 12)


@given(seeds, sides, sides)
def test_alpha_mixes_a_colour_with_white_in_proportion(seed: int, height: int, width: int) -> None:
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    share = rgba[..., 3:] / 255
    expected = rgba[..., :3] * share + 255 * (1 - share)
    assert np.abs(on_white(rgba) - expected).max() <= 0.51


@given(seeds)
def test_what_is_opaque_keeps_its_colour_and_what_is_transparent_is_white(seed: int) -> None:
    rgb = noise(seed, height=5, width=7)
    assert np.array_equal(on_white(with_alpha(rgb, 255)), rgb)
    assert (on_white(with_alpha(rgb, 0)) == 255).all()


def test_rows_are_laid_on_white_a_few_at_a_time_with_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rgba = np.dstack([noise(1, height=50, width=7), noise(2, height=50, width=7)[..., 0]])
    expected = on_white(rgba)
    for block_px in (1, 7, 20, 7 * 49):
        monkeypatch.setattr(pixels, "BLOCK_PX", block_px)
        np.testing.assert_array_equal(on_white(rgba), expected)


def test_laying_on_white_takes_little_more_memory_than_the_pictures() -> None:
    rgba = np.full((3000, 2000, 4), 128, np.uint8)
    tracemalloc.start()
    rgb = on_white(rgba)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rgb.nbytes + 32 * pixels.BLOCK_PX


@given(seeds, sides, sides, st.integers(1, 9))
def test_shrinking_by_whole_numbers_gives_means_of_blocks(
    seed: int, height: int, width: int, shrink: int
) -> None:
    rgb = noise(seed, height=height * shrink, width=width * shrink)
    found = resized_by_area(rgb, width=width, height=height)
    assert np.abs(found - block_means(rgb, shrink)).max() <= 1


@given(seeds)
def test_a_picture_of_the_right_size_is_not_changed(seed: int) -> None:
    rgb = noise(seed, height=6, width=4)
    assert np.array_equal(resized_by_area(rgb, width=4, height=6), rgb)


@given(st.integers(0, 255))
def test_the_luma_of_gray_is_its_value(value: int) -> None:
    assert (to_gray(np.full((2, 3, 3), value, np.uint8)) == value).all()


def with_alpha(rgb: NDArray[np.uint8], alpha: int) -> NDArray[np.uint8]:
    return np.dstack([rgb, np.full(rgb.shape[:2], alpha, np.uint8)])
