"""Crops and sizes, mirrored and turned images, elastic changes, blur."""

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import noise, seeds, smooth

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.augment.drawn_images import pictures, squares, tensor  # noqa: E402
from wsi_pipeline.augment.draws import Draws  # noqa: E402
from wsi_pipeline.augment.policy import resized  # noqa: E402
from wsi_pipeline.augment.resample import BLOCK, Boxes, resampled, taps_of  # noqa: E402
from wsi_pipeline.augment.spatial import blurred, crop_boxes, elastic, turned  # noqa: E402


def boxes(*each: tuple[float, float, float, float]) -> Boxes:
    top, left, height, width = np.array(each, np.float64).T
    return Boxes(top=top, left=left, height=height, width=width)


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.5, 70)), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_shares_of_a_new_pixel_add_up_to_1_and_lie_around_its_middle(
    parts: list[tuple[float, float]], new: int
) -> None:
    start, length = np.array(parts).T
    taps = taps_of(start, length, size=100, new=new)
    assert np.allclose(taps.shares.sum(axis=2), 1, atol=1e-5)
    assert taps.shares.min() >= 0
    middle = (taps.places + 0.5).astype(float) * taps.shares
    expected = start[:, None] + (np.arange(new) + 0.5) * (length / new)[:, None]
    inside = (expected > 1) & (expected + length[:, None] / new < 99)
    assert np.allclose(middle.sum(axis=2)[inside], expected[inside], atol=0.5)


@pytest.mark.parametrize("image_px", [1, 7, 20, 31, 32, 60])
@given(seed=seeds, side=st.sampled_from([20, 32, 60, 61]))
@settings(max_examples=8)
def test_a_smaller_image_is_opencvs_mean_over_areas(image_px: int, seed: int, side: int) -> None:
    image = noise(seed, height=side, width=side)
    if image_px <= side:
        expected = cv2.resize(image, (image_px, image_px), interpolation=cv2.INTER_AREA)
        made = pictures(resized(tensor([image]), image_px))[0]
        assert np.abs(made.astype(int) - expected).max() <= 1


@given(seeds, st.integers(1, 40))
@settings(max_examples=20)
def test_an_image_at_its_size_is_left_as_it_is(seed: int, side: int) -> None:
    images = squares(seed, count=2, side=side)
    assert torch.equal(resized(images, side), images)
    whole = (0.0, 0.0, float(side), float(side))
    assert torch.equal(resampled(images, boxes(whole, whole), side), images)


def test_a_larger_image_is_linear_between_pixels() -> None:
    image = smooth(3, side=40)
    expected = cv2.resize(image, (100, 100), interpolation=cv2.INTER_LINEAR)
    made = pictures(resized(tensor([image]), 100))[0]
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_a_part_between_whole_pixels_is_that_part() -> None:
    images = squares(4, count=2, side=30)
    made = resampled(images, boxes((3, 5, 20, 20), (10, 0, 20, 20)), 20)
    assert torch.equal(made[0], images[0, :, 3:23, 5:25])
    assert torch.equal(made[1], images[1, :, 10:30, 0:20])


@given(seeds, st.lists(st.floats(5, 30), min_size=2, max_size=BLOCK + 3), st.integers(1, 25))
@settings(max_examples=20)
def test_a_part_does_not_depend_on_the_other_images(
    seed: int, sides: list[float], image_px: int
) -> None:
    images = squares(seed, count=len(sides), side=30)
    each = [(30 - side, (30 - side) / 2, side, side) for side in sides]
    together = resampled(images, boxes(*each), image_px)
    for at, box in enumerate(each):
        assert torch.equal(resampled(images[at : at + 1], boxes(box), image_px)[0], together[at])


@given(
    st.integers(0, 2**40),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.floats(0.2, 1),
    st.floats(1, 5),
)
def test_what_is_cut_out_lies_within_the_image_and_the_limits(
    key: int, least: float, most: float, narrow: float, wide: float
) -> None:
    area = (min(least, most), max(least, most))
    drawn = crop_boxes(Draws(torch.tensor([key])), side=97, area=area, ratio=(narrow, wide))
    assert drawn.top >= 0
    assert drawn.left >= 0
    assert drawn.top + drawn.height <= 97 + 1e-9
    assert drawn.left + drawn.width <= 97 + 1e-9
    assert area[0] - 1e-6 <= drawn.height * drawn.width / 97**2 <= area[1] + 1e-6
    assert narrow - 1e-6 <= drawn.width / drawn.height <= wide + 1e-6


def test_areas_are_uniform_and_ratios_as_often_wide_as_high() -> None:
    drawn = crop_boxes(Draws(torch.arange(20_000)), side=100, area=(0.4, 0.8), ratio=(0.75, 4 / 3))
    share = drawn.height * drawn.width / 100**2
    assert np.abs(np.quantile(share, [0, 0.25, 0.5, 0.75]) - [0.4, 0.5, 0.6, 0.7]).max() < 0.01
    assert abs(np.mean(drawn.width > drawn.height) - 0.5) < 0.02
    free = drawn.top / (100 - drawn.height)
    assert np.abs(np.quantile(free, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.02


def test_all_eight_ways_of_laying_a_square_down_are_alike_and_lose_nothing() -> None:
    image = squares(1, count=1, side=9)[0]
    ways = [
        torch.rot90(each, turns, (1, 2)) for each in (image, image.flip(2)) for turns in range(4)
    ]
    made = turned([image] * 4000, Draws(torch.arange(4000)), flip=True, quarter_turns=True)
    found = Counter(
        next(at for at, way in enumerate(ways) if torch.equal(way, each)) for each in made
    )
    assert sorted(found) == list(range(8))
    assert max(abs(count / 4000 - 1 / 8) for count in found.values()) < 0.025


def test_only_mirrored_or_only_turned() -> None:
    image = squares(1, count=1, side=9)[0]
    draws = Draws(torch.arange(200))
    for settings_, ways in (
        ({"flip": True, "quarter_turns": False}, [image, image.flip(2)]),
        (
            {"flip": False, "quarter_turns": True},
            [torch.rot90(image, at, (1, 2)) for at in range(4)],
        ),
        ({"flip": False, "quarter_turns": False}, [image]),
    ):
        made = turned([image] * 200, draws, **settings_)
        assert {sum(torch.equal(way, each) for way in ways) for each in made} == {1}
        assert all(any(torch.equal(way, each) for each in made) for way in ways)


def test_elastic_moves_pixels_about_as_far_as_asked() -> None:
    """A ramp shows how far: one gray level a pixel."""
    ramp = torch.arange(128, dtype=torch.uint8).expand(64, 3, 128, 128).contiguous() + 60
    made = elastic(ramp, Draws(torch.arange(64)), px=5.0)
    moved = (made.int() - ramp.int())[:, :, 30:98, 30:98].float()
    assert 2.5 < moved.std() < 5  # cubic interpolation of independent nodes lowers it
    assert abs(moved.mean()) < 1
    assert torch.equal(elastic(ramp, Draws(torch.arange(64)), px=0.0), ramp)
    assert torch.equal(made, elastic(ramp, Draws(torch.arange(64)), px=5.0))


@pytest.mark.parametrize("sigma", [0.0, 0.6, 1.7, 3.0])
def test_a_blur_is_opencvs(sigma: float) -> None:
    image = noise(3, height=50, width=50)
    made = pictures(blurred(tensor([image, image]), np.array([3.0, sigma]), most=3.0))[1]
    exact = cv2.GaussianBlur(image.astype(np.float32), (19, 19), sigma) if sigma else image
    expected = np.rint(exact).astype(int)
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_a_blur_of_an_image_smaller_than_its_reach_stays_within_it() -> None:
    images = squares(2, count=1, side=3)
    made = blurred(images, np.array([16.0]), most=16.0)
    assert made.shape == images.shape
    assert made.float().std() < images.float().std()
