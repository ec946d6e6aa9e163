import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references.drawn_tiles import drawn_overviews
from tests.strategies import noise, seeds
from wsi_pipeline.config import TISSUE_METHODS, TissueMethod
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Gray, Rgb, Size
from wsi_pipeline.pixels import to_gray
from wsi_pipeline.slides.drawn import DrawnSlide, draw_slide
from wsi_pipeline.tissue.segment import (
    class_raster_reason,
    gray_threshold,
    is_dark_field,
    segment,
    tissue_pixels,
)

GLASS = 240

few_seeds = st.integers(0, 40)
methods = st.sampled_from(TISSUE_METHODS)


@settings(max_examples=12)
@given(few_seeds)
def test_tissue_on_glass_is_found_and_the_glass_is_not(seed: int) -> None:
    slide = drawn(seed)
    found = segment(slide.rgb, method="otsu")
    assert not found.dark_field
    assert found.tissue[slide.tissue].mean() > 0.97
    assert found.tissue[~slide.tissue].mean() < 0.03


@settings(max_examples=12)
@given(few_seeds)
def test_fluorescent_nuclei_are_tissue_and_the_dark_around_them_is_not(seed: int) -> None:
    slide = drawn(seed, dark_field=True)
    found = segment(slide.rgb, method="otsu")
    x, y = slide.nuclei.T
    assert found.dark_field
    assert found.tissue[y, x].mean() > 0.9
    assert found.tissue[~slide.tissue].mean() < 0.03


@settings(max_examples=8)
@given(few_seeds)
def test_an_inverted_slide_is_dark_and_has_the_same_tissue(seed: int) -> None:
    slide = drawn(seed)
    found = segment(255 - slide.rgb, method="otsu")
    assert found.dark_field
    assert found.tissue[slide.tissue].mean() > 0.97
    assert found.tissue[~slide.tissue].mean() < 0.03


@settings(max_examples=8)
@given(few_seeds)
def test_the_parts_of_a_dark_field_that_were_never_scanned_do_not_make_it_bright(seed: int) -> None:
    rgb = drawn(seed, dark_field=True).rgb.copy()
    rgb[:, :250] = 255
    assert is_dark_field(to_gray(rgb))


@settings(max_examples=8)
@given(few_seeds)
def test_saturation_finds_stain_on_glass(seed: int) -> None:
    slide = drawn(seed)
    tissue = segment(slide.rgb, method="hsv").tissue
    assert tissue[slide.tissue].mean() > 0.97
    assert tissue[~slide.tissue].mean() < 0.03


def test_saturation_is_refused_on_a_dark_field() -> None:
    with pytest.raises(SlideError, match=r"dark field; use --tissue otsu"):
        segment(drawn(1, dark_field=True).rgb, method="hsv")


@given(seeds, st.floats(0, 3))
def test_noise_of_empty_glass_is_no_tissue(seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    glass = np.clip(rng.normal(GLASS, sigma, (120, 160, 3)), 0, 254).astype(np.uint8)
    assert not segment(glass, method="otsu").tissue.any()


def test_drawn_glass_alone_is_no_tissue() -> None:
    assert not segment(drawn_overviews()["glass alone"], method="otsu").tissue.any()


@pytest.mark.parametrize("value", [255, 254, 0, 1, 128])
def test_a_picture_of_one_gray_is_no_tissue(value: int) -> None:
    flat = np.full((60, 80, 3), value, np.uint8)
    assert not segment(flat, method="otsu").tissue.any()


@pytest.mark.parametrize("method", ["otsu", "hsv", "histoprep"])
def test_what_was_never_scanned_is_no_tissue(method: TissueMethod) -> None:
    assert not segment(np.full((60, 80, 3), 255, np.uint8), method=method).tissue.any()


@settings(max_examples=12)
@given(few_seeds)
def test_a_view_without_glass_is_not_taken_for_a_dark_field_and_keeps_tissue(seed: int) -> None:
    slide = drawn(seed)
    rows, columns = np.nonzero(slide.tissue)
    row, column = int(np.median(rows)), int(np.median(columns))
    view = slide.rgb[row - 30 : row + 30, column - 30 : column + 30]
    found = segment(np.ascontiguousarray(view), method="otsu")
    assert not found.dark_field
    assert found.tissue.mean() > 0.25


@given(seeds, methods)
def test_a_mask_has_the_pixels_of_its_overview(seed: int, method: TissueMethod) -> None:
    found = segment(noise(seed, height=23, width=41), method=method)
    assert found.tissue.shape == (23, 41)
    assert found.tissue.dtype == np.bool_
    assert 0 <= found.threshold <= 255


@given(seeds)
def test_without_a_method_everything_is_tissue(seed: int) -> None:
    assert segment(noise(seed, height=9, width=7), method="none").tissue.all()


@settings(max_examples=12)
@given(few_seeds)
def test_the_default_is_histoprep_where_there_is_tissue_on_glass(seed: int) -> None:
    slide = drawn(seed)
    ours, theirs = (segment(slide.rgb, method=method) for method in ("otsu", "histoprep"))
    assert ours.threshold == theirs.threshold
    assert np.array_equal(ours.tissue, theirs.tissue)


@given(seeds, st.sampled_from([0, 255]), st.integers(4, 90), st.integers(4, 90))
def test_more_of_what_was_never_scanned_does_not_move_the_threshold(
    seed: int, never: int, first: int, second: int
) -> None:
    gray = to_gray(noise(seed, height=40, width=40))
    framed = [np.pad(gray, px, constant_values=never) for px in (first, second)]
    assert gray_threshold(framed[0]) == gray_threshold(framed[1])


@given(seeds, st.integers(0, 255))
def test_bright_and_dark_field_part_a_picture_in_two(seed: int, threshold: int) -> None:
    gray = to_gray(noise(seed, height=12, width=12))
    bright = tissue_pixels(gray, threshold=threshold)
    dark = tissue_pixels(gray, threshold=threshold, dark_field=True)
    assert np.array_equal(bright, ~dark)


@given(seeds, st.integers(2, 5), st.sampled_from([1, 3]))
def test_a_raster_of_classes_is_refused_with_its_values(
    seed: int, classes: int, channels: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, (40, 50), np.uint8)
    reason = class_raster_reason(as_rgb(labels), channels=channels)
    assert reason is not None
    assert "label mask" in reason
    assert ", ".join(map(str, range(classes))) in reason
    assert "--tissue DIR" in reason


def test_a_mask_of_0_and_255_in_one_channel_is_refused() -> None:
    checks = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (9, 9))
    assert class_raster_reason(as_rgb(checks), channels=1) is not None


@settings(max_examples=8)
@given(seed=few_seeds, dark_field=st.booleans())
def test_a_photograph_is_no_raster_of_classes(*, seed: int, dark_field: bool) -> None:
    rgb = drawn(seed, dark_field=dark_field).rgb
    assert class_raster_reason(rgb, channels=3) is None
    assert class_raster_reason(as_rgb(to_gray(rgb)), channels=1) is None


@given(st.integers(0, 255), st.sampled_from([1, 3]))
def test_a_picture_of_one_value_is_no_raster_of_classes(value: int, channels: int) -> None:
    flat = np.full((8, 8, 3), value, np.uint8)
    assert class_raster_reason(flat, channels=channels) is None


def drawn(seed: int, *, dark_field: bool = False) -> DrawnSlide:
    return draw_slide(Size(width=480, height=360), seed=seed, mpp=2.0, dark_field=dark_field)


def as_rgb(gray: Gray) -> Rgb:
    return np.repeat(gray[..., np.newaxis], 3, axis=2)
