"""Averaging on a device: every pixel counts as much, and the result is OpenCV's."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")

from wsi_pipeline.loader.averaging import area_weights, averaged  # noqa: E402


@given(st.integers(1, 60), st.data())
def test_every_pixel_counts_as_much_and_every_mean_is_whole(size: int, data: st.DataObject) -> None:
    side = data.draw(st.integers(1, size))
    weights = area_weights(size, side)
    assert weights.shape == (side, size)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights.sum(axis=0), side / size)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 48), st.integers(0, 1 << 30), st.data())
def test_it_is_opencvs_averaging_within_a_grey_level(
    size: int, seed: int, data: st.DataObject
) -> None:
    side = data.draw(st.integers(1, size))
    rgb = np.random.default_rng(seed).integers(0, 256, (2, size, size, 3), np.uint8)
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2)
    given = averaged(images, torch.from_numpy(area_weights(size, side))).permute(0, 2, 3, 1)
    expected = [cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in rgb]
    difference = given.numpy().astype(int) - np.stack(expected)
    assert np.abs(difference).max() <= 1
    if size == side:
        assert not difference.any()
