"""Graded changes of images: beside OpenCV's and exact arithmetic, and what is the same for all of them."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import noise, seeds
from wsi_pipeline.evaluate.sweep.shift_config import SHIFTS, sweep_of
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide
from wsi_pipeline.tiles.metrics import laplacian_variance

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.augment.drawn_images import any_picture, pictures, squares, tensor  # noqa: E402
from wsi_pipeline.evaluate.sweep import shifts  # noqa: E402
from wsi_pipeline.evaluate.sweep.shifts import CHANGES, filtered, sharpness, shifted  # noqa: E402

KERNEL = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]])
sides = st.integers(1, 24)


def changed(rgb: Rgb, shift: str, level: float, *, key: int = 0) -> Rgb:
    """Return one image changed."""
    made: Rgb = pictures(shifted(tensor([rgb]), shift, level, torch.tensor([key])))[0]
    return made


def mirrored(rgb: Rgb, by: int) -> NDArray[np.int64]:
    wide: Rgb = cv2.copyMakeBorder(rgb, by, by, by, by, cv2.BORDER_REFLECT_101)
    return wide.astype(np.int64)


def test_every_name_has_a_change() -> None:
    assert CHANGES.keys() == SHIFTS.keys()


@pytest.mark.parametrize("shift", SHIFTS)
@given(seed=seeds, side=sides)
@settings(max_examples=5)
def test_the_clean_level_is_the_image_to_the_bit(shift: str, seed: int, side: int) -> None:
    images = squares(seed, count=2, side=side)
    assert torch.equal(shifted(images, shift, SHIFTS[shift].clean, torch.arange(2)), images)


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_way_to_the_clean_level_ends_there(shift: str) -> None:
    """Asked for the clean level itself, nothing changes an image but JPEG's quality of 100."""
    images = squares(3, count=3, side=17)
    made = CHANGES[shift](images, SHIFTS[shift].clean, torch.arange(3))
    apart = (made.int() - images.int()).abs().float().mean()
    assert apart < 60 if shift == "jpeg" else apart == 0


@pytest.mark.parametrize("shift", SHIFTS)
@given(seed=seeds, side=sides)
@settings(max_examples=5)
def test_an_image_is_changed_as_if_it_were_alone(shift: str, seed: int, side: int) -> None:
    images, keys = squares(seed, count=3, side=side), torch.tensor([5, -7, 2**62])
    before = images.clone()
    for level in sweep_of(shift).levels[::3]:
        together = shifted(images, shift, level, keys)
        assert together.dtype == torch.uint8
        assert together.shape == images.shape
        alone = [shifted(images[at : at + 1], shift, level, keys[at : at + 1]) for at in range(3)]
        assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, before)


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images, keys = squares(1, count=5, side=16), torch.arange(5)
    whole = [shifted(images, shift, sweep_of(shift).levels[-1], keys) for shift in SHIFTS]
    variances = sharpness(images)
    monkeypatch.setattr(shifts, "CPU_BYTES", 2 * images[0].numel())
    for shift, expected in zip(SHIFTS, whole, strict=True):
        assert torch.equal(shifted(images, shift, sweep_of(shift).levels[-1], keys), expected)
    assert torch.equal(sharpness(images), variances)


def test_memory_laid_out_otherwise_makes_no_difference() -> None:
    images = squares(1, count=2, side=16)
    last = images.contiguous(memory_format=torch.channels_last)
    for shift in SHIFTS:
        level = sweep_of(shift).levels[0 if shift == "jpeg" else -1]
        made = [shifted(each, shift, level, torch.arange(2)) for each in (images, last)]
        assert torch.equal(*made)


@given(any_picture(), st.sampled_from(range(3, 22, 2)))
@settings(max_examples=40)
def test_odd_blurs_are_opencvs_to_the_bit(rgb: Rgb, n: int) -> None:
    expected = cv2.blur(rgb, (n, n), borderType=cv2.BORDER_REFLECT_101)
    for shift in ("box_blur", "box_blur_centred"):
        assert np.array_equal(changed(rgb, shift, n), expected)


@given(any_picture(), st.sampled_from(range(2, 21, 2)))
@settings(max_examples=40)
def test_even_blurs_of_opencv_are_within_a_rounding(rgb: Rgb, n: int) -> None:
    expected = cv2.blur(rgb, (n, n), borderType=cv2.BORDER_REFLECT_101)
    apart = np.abs(changed(rgb, "box_blur", n).astype(int) - expected)
    assert apart.max() <= 1
    assert apart.mean() < 0.5


@given(any_picture(), st.sampled_from(range(2, 12, 2)))
@settings(max_examples=30)
def test_an_even_blur_is_the_rounded_mean_with_half_of_both_ends(rgb: Rgb, n: int) -> None:
    half = n // 2
    row = np.array([1, *[2] * (n - 1), 1])
    wide = mirrored(rgb, half)
    sums = sum(
        weight * other * wide[y : y + len(rgb), x : x + rgb.shape[1]]
        for y, weight in enumerate(row)
        for x, other in enumerate(row)
    )
    assert np.array_equal(
        changed(rgb, "box_blur_centred", n), (2 * sums + 4 * n * n) // (8 * n * n)
    )


@given(seeds, st.integers(2, 20))
@settings(max_examples=30)
def test_a_centred_blur_leans_to_no_side(seed: int, n: int) -> None:
    rgb = noise(seed, height=24, width=24)
    turned = changed(rgb[::-1, ::-1], "box_blur_centred", n)[::-1, ::-1]
    assert np.array_equal(turned, changed(rgb, "box_blur_centred", n))


def test_an_image_smaller_than_the_kernel_is_blurred_too() -> None:
    rgb = noise(1, height=3, width=3)
    expected = cv2.blur(rgb, (19, 19), borderType=cv2.BORDER_REFLECT_101)
    assert np.array_equal(changed(rgb, "box_blur", 19), expected)
    assert changed(rgb[:1, :1], "box_blur", 20).tolist() == rgb[:1, :1].tolist()


@given(any_picture())
@settings(max_examples=30)
def test_the_sharpened_image_is_opencvs(rgb: Rgb) -> None:
    expected = cv2.filter2D(rgb, cv2.CV_16S, KERNEL, borderType=cv2.BORDER_REFLECT_101)
    assert np.array_equal(pictures(filtered(tensor([rgb])))[0], expected)
    for shift in ("sharpen", "sharpen_kernel"):
        assert np.array_equal(changed(rgb, shift, 1), expected.clip(0, 255))


@given(any_picture(), st.integers(0, 10))
@settings(max_examples=30)
def test_blends_are_the_nearest_grey_levels(rgb: Rgb, tenths: int) -> None:
    alpha = Fraction(tenths, 10)
    sharp = cv2.filter2D(rgb, cv2.CV_16S, KERNEL, borderType=cv2.BORDER_REFLECT_101).astype(int)
    x = rgb.astype(int)
    clipped_first = 10 * x + tenths * (sharp.clip(0, 255) - x)  # tenths of grey levels
    clipped_last = (10 * x + tenths * (sharp - x)).clip(0, 2550)
    for shift, tenfold in (("sharpen", clipped_first), ("sharpen_kernel", clipped_last)):
        apart = np.abs(10 * changed(rgb, shift, float(alpha)).astype(int) - tenfold)
        assert apart.max() <= 5


@given(any_picture())
@settings(max_examples=40)
def test_sharpness_is_that_of_the_manifest(rgb: Rgb) -> None:
    expected = laplacian_variance(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    assert float(sharpness(tensor([rgb]))[0]) == pytest.approx(expected, rel=1e-12, abs=1e-9)


def textured() -> Any:  # noqa: ANN401  a torch.Tensor
    slide = draw_slide(Size(width=256, height=256), seed=3).rgb
    noisy = slide + np.random.default_rng(0).normal(0, 12, slide.shape)
    whole = noisy.clip(0, 255).astype(np.uint8)
    return tensor([whole[y : y + 96, x : x + 96] for y in (32, 128) for x in (32, 128)])


@pytest.mark.parametrize(
    ("shift", "sharper"),
    [
        ("box_blur", False),
        ("sharpen", True),
        ("sharpen_kernel", True),
        ("resolution", False),
        ("noise", True),
    ],
)
def test_sharpness_goes_one_way_along_a_sweep(shift: str, *, sharper: bool) -> None:
    images = textured()
    levels = sweep_of(shift).levels
    means = [
        float(sharpness(shifted(images, shift, level, torch.arange(len(images)))).mean())
        for level in levels
    ]
    if not sharper:
        means.reverse()
    assert all(low < high for low, high in pairwise(means)), dict(zip(levels, means, strict=True))


def test_centred_even_blurs_leave_less_than_the_next_odd_ones() -> None:
    """Why they are not the default: a curve over n would go to and fro on the axis of sharpness."""
    images = textured()
    means = [
        float(sharpness(shifted(images, "box_blur_centred", n, torch.arange(4))).mean())
        for n in (4, 6, 7)
    ]
    assert means[0] > means[2] > means[1]


def test_a_centred_even_blur_moves_nothing_and_the_literal_one_half_a_pixel() -> None:
    ramp = (
        np.repeat(np.arange(0, 240, 10)[None, :, None], 24, axis=0)
        .astype(np.uint8)
        .repeat(3, axis=2)
    )
    inner = slice(6, -6)
    assert np.array_equal(changed(ramp, "box_blur_centred", 4)[inner, inner], ramp[inner, inner])
    moved = ramp[inner, inner].astype(int) - changed(ramp, "box_blur", 4)[inner, inner]
    assert (moved == 5).all()


def test_jpegs_are_those_of_the_store() -> None:
    from wsi_pipeline.store.codec import decode_tile, encode_tile  # noqa: PLC0415

    rgb = draw_slide(Size(width=64, height=64), seed=2).rgb
    expected = decode_tile(encode_tile(rgb, "jpeg:30"), "jpeg:30", tile_size=64)
    assert np.array_equal(changed(rgb, "jpeg", 30), expected)


@given(any_picture(), st.sampled_from((0.5, 2.0, 3.0)))
@settings(max_examples=10)
def test_gamma_is_a_power(rgb: Rgb, exponent: float) -> None:
    expected = 255 * (rgb / 255.0) ** exponent
    assert np.abs(changed(rgb, "gamma", exponent) - expected).max() <= 0.5 + 1e-9


def test_more_haematoxylin_takes_more_red_and_white_stays_white() -> None:
    rgb = np.full((4, 4, 3), (150, 120, 190), np.uint8)
    rgb[0] = 255
    more, less = (changed(rgb, "hed", level) for level in (0.3, -0.3))
    assert (more[1:, :, 0] < rgb[1:, :, 0]).all()
    assert (less[1:, :, 0] > rgb[1:, :, 0]).all()
    assert np.array_equal(more[0], rgb[0])


def test_noise_is_of_its_strength_and_of_the_tile_alone() -> None:
    rgb = np.full((64, 64, 3), 128, np.uint8)
    first, other = (changed(rgb, "noise", 10, key=key).astype(float) for key in (1, 2))
    assert first.std() == pytest.approx(10, rel=0.05)
    assert not np.array_equal(first, other)
    assert np.array_equal(changed(rgb, "noise", 10, key=1), first)
    stronger = changed(rgb, "noise", 20, key=1).astype(float)
    assert np.corrcoef((first - 128).ravel(), (stronger - 128).ravel())[0, 1] > 0.99


def test_tones_are_pillows() -> None:
    from PIL import Image, ImageEnhance  # noqa: PLC0415

    rgb = draw_slide(Size(width=64, height=64), seed=2).rgb
    kinds = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }
    for shift, kind in kinds.items():
        for level in (0.5, 1.25):
            expected = np.asarray(kind(Image.fromarray(rgb)).enhance(level))
            assert np.array_equal(changed(rgb, shift, level), expected)
