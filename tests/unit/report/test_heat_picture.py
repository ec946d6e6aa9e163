"""Maps laid over slides: one scale from 0 to 1 on every picture, and nothing where no tile lies."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import noise, seeds
from wsi_pipeline.geometry import Mask, Rgb
from wsi_pipeline.pixels import png_bytes, to_gray
from wsi_pipeline.report.heat_picture import (
    LEGEND_PX,
    HeatPicture,
    draw_heat_picture,
    laid_over,
)
from wsi_pipeline.report.overlay import CAPTION_PX

COLOURS: Rgb = np.stack([np.arange(256), np.full(256, 90), np.arange(256)[::-1]], axis=1)[
    None
].astype(np.uint8)
"""From blue at 0 to red at 1; green says that it is one of these."""

sizes = st.integers(1, 60)
opacities = st.sampled_from([0.0, 0.3, 0.55, 1.0])


def values_of(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Return values from 0 to 1, a third of them missing."""
    random = np.random.default_rng(seed)
    values = random.random((height, width)).astype(np.float32)
    values[random.random((height, width)) < 1 / 3] = np.nan
    return values


def drawn(  # noqa: PLR0913
    rgb: Rgb,
    values: NDArray[np.float32],
    *,
    truth: Mask | None = None,
    opacity: float = 0.5,
    says: str = "probability of tumour",
    truth_says: str = "",
    caption: str = "slide 7",
    um_per_px: float | None = None,
) -> Rgb:
    picture = HeatPicture(
        rgb=rgb,
        values=values,
        truth=truth,
        scale_says=says,
        truth_says=truth_says,
        caption=caption,
        um_per_px=um_per_px,
    )
    return draw_heat_picture(picture, colours=COLOURS, opacity=opacity)


@settings(max_examples=30)
@given(seeds, sizes, sizes, opacities)
def test_each_pixel_follows_from_its_own_value_alone(
    seed: int, height: int, width: int, opacity: float
) -> None:
    rgb, values = noise(seed, height=height, width=width), values_of(seed, height, width)
    found = laid_over(rgb, values, COLOURS, opacity)
    known = np.isfinite(values)
    assert np.array_equal(found[~known], rgb[~known])
    place = np.rint(255 * values[known]).astype(int)
    gray = to_gray(rgb)[known][:, None]
    expected = (1 - opacity) * gray + opacity * COLOURS[0][place].astype(float)
    assert np.abs(found[known] - expected).max(initial=0) <= 0.5 + 1e-6
    half = np.s_[: height // 2 + 1, : width // 2 + 1]
    part = laid_over(np.ascontiguousarray(rgb[half]), values[half], COLOURS, opacity)
    assert np.array_equal(found[half], part)


@given(seeds, st.floats(-5, 0, width=32), st.floats(1, 5, width=32))
def test_what_lies_beyond_the_scale_has_the_colour_of_its_end(
    seed: int, low: float, high: float
) -> None:
    rgb = noise(seed, height=2, width=3)
    beyond = np.array([[low, high, low], [high, low, high]], np.float32)
    ends = np.clip(beyond, 0, 1)
    assert np.array_equal(laid_over(rgb, beyond, COLOURS, 0.7), laid_over(rgb, ends, COLOURS, 0.7))


def test_at_full_opacity_the_map_hides_the_slide_and_at_none_it_is_gray() -> None:
    rgb = noise(3, height=8, width=9)
    values = np.full((8, 9), 0.2, np.float32)
    assert (laid_over(rgb, values, COLOURS, 1.0) == COLOURS[0, 51]).all()
    bare = laid_over(rgb, values, COLOURS, 0.0)
    assert np.array_equal(bare, np.repeat(to_gray(rgb)[:, :, None], 3, axis=2))


def test_what_is_given_is_not_changed() -> None:
    rgb, values = noise(1, height=30, width=40), values_of(1, 30, 40)
    before = rgb.copy(), values.copy()
    drawn(rgb, values, truth=np.eye(30, 40, dtype=np.bool_))
    assert np.array_equal(rgb, before[0])
    assert np.array_equal(values, before[1], equal_nan=True)


@settings(max_examples=15)
@given(seeds, st.integers(1, 700), st.integers(1, 40), opacities, st.sampled_from([None, 2.0]))
def test_a_picture_is_the_slide_under_its_map_then_caption_then_scale(
    seed: int, width: int, height: int, opacity: float, um_per_px: float | None
) -> None:
    rgb, values = noise(seed, height=height, width=width), values_of(seed, height, width)
    found = drawn(rgb, values, opacity=opacity, um_per_px=um_per_px)
    assert found.dtype == np.uint8
    assert found.shape == (height + CAPTION_PX + LEGEND_PX, width, 3)
    assert np.array_equal(found[:height], laid_over(rgb, values, COLOURS, opacity))


@settings(max_examples=15)
@given(seeds, opacities)
def test_the_scale_is_the_same_whatever_the_slide_holds(seed: int, opacity: float) -> None:
    rgb, values = noise(seed, height=20, width=600), values_of(seed, 20, 600)
    every = drawn(rgb, values, opacity=opacity)[20:]
    faint = drawn(rgb, values * np.float32(0.1), opacity=opacity)[20:]
    nothing = drawn(rgb, np.full_like(values, np.nan), opacity=opacity)[20:]
    assert np.array_equal(every, faint)
    assert np.array_equal(every, nothing)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_a_colour_on_glass_is_found_at_its_place_on_the_scale(value: float) -> None:
    white = np.full((4, 900, 3), 255, np.uint8)
    found = drawn(white, np.full((4, 900), value, np.float32))
    legend = found[4 + CAPTION_PX :]
    scale = legend[9, 11:309].astype(int)  # within its frame
    place = int(np.abs(scale - found[0, 0]).sum(axis=1).argmin())
    assert place == pytest.approx(value * 299 - 1, abs=2)
    assert np.abs(scale[place] - found[0, 0]).max() <= 2


def test_the_scale_is_shown_over_glass_and_over_tissue() -> None:
    legend = drawn(np.full((4, 900, 3), 255, np.uint8), np.ones((4, 900), np.float32))[
        4 + CAPTION_PX :
    ].astype(int)
    assert (legend[8, 12:300].sum(axis=1) > legend[18, 12:300].sum(axis=1)).all()
    solid = drawn(np.full((4, 900, 3), 255, np.uint8), np.ones((4, 900), np.float32), opacity=1.0)
    strip = solid[4 + CAPTION_PX :]
    assert np.array_equal(strip[8, 12:300], strip[18, 12:300])


def test_what_the_scale_and_the_outline_are_is_said_beside_them() -> None:
    rgb, values = noise(0, height=4, width=900), np.ones((4, 900), np.float32)
    legend = np.s_[4 + CAPTION_PX :, 320:]
    upper, lower = np.s_[: LEGEND_PX // 2], np.s_[LEGEND_PX // 2 :]
    bare = drawn(rgb, values, says="")[legend]
    assert (bare == 255).all()
    scaled = drawn(rgb, values)[legend]
    assert (scaled[upper] < 100).any()
    assert (scaled[lower] == 255).all()
    outlined = drawn(rgb, values, says="", truth_says="outlined: tumour")[legend]
    assert (outlined[lower] < 100).any()


@settings(max_examples=20)
@given(seeds, st.floats(0, 1))
def test_the_label_is_outlined_where_it_ends_and_left_alone_elsewhere(
    seed: int, share: float
) -> None:
    rgb, values = noise(seed, height=60, width=80), values_of(seed, 60, 80)
    truth = np.zeros((60, 80), np.bool_)
    truth[10:40, 15 : 16 + round(share * 60)] = True
    found, plain = drawn(rgb, values, truth=truth)[:60], laid_over(rgb, values, COLOURS, 0.5)
    core = np.ones((3, 3), np.uint8)
    rim = truth & ~cv2.erode(truth.astype(np.uint8), core, borderValue=0).astype(np.bool_)
    assert (found[rim] == 0).all()
    near = cv2.dilate(rim.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(np.bool_)
    assert np.array_equal(found[~near], plain[~near])


def test_no_label_and_a_label_of_nothing_are_drawn_alike() -> None:
    rgb, values = noise(5, height=30, width=40), values_of(5, 30, 40)
    nothing = np.zeros((30, 40), np.bool_)
    assert np.array_equal(drawn(rgb, values), drawn(rgb, values, truth=nothing))


@pytest.mark.parametrize("name", ["Präparat µ Ж " + "0" * 400, "", "a\nb", "\udcff", "絵"])
def test_names_of_any_length_stay_on_the_picture(name: str) -> None:
    rgb, values = noise(2, height=4, width=300), values_of(2, 4, 300)
    found = drawn(rgb, values, caption=name, says=name, truth_says=name, um_per_px=1.0)
    assert found.shape == (4 + CAPTION_PX + LEGEND_PX, 300, 3)
    assert (found[4:, -1] == 255).all()


def test_the_same_picture_has_the_same_bytes() -> None:
    def made(seed: int) -> bytes:
        rgb, values = noise(seed, height=50, width=400), values_of(seed, 50, 400)
        truth = values > 0.5
        return png_bytes(drawn(rgb, values, truth=truth, truth_says="x", um_per_px=0.5))

    first = made(7)
    assert made(8) != first
    assert made(7) == first
