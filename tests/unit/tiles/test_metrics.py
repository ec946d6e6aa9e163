import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.references.drawn_tiles import drawn_tiles, pixels_sha256
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.pixels import to_gray
from wsi_pipeline.schema import CHANNELS, QUANTILES
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.tiles.metrics import laplacian_variance, tile_metrics

REPOSITORY = Path(__file__).resolve().parents[3]
SLIDES = REPOSITORY.parent / "shared/slides"
REFERENCE = json.loads((REPOSITORY / "tests/fixtures/histoprep_2_0_5.json").read_text("utf-8"))
DRAWN = REFERENCE["drawn"]["tiles"]
REAL = {
    f"{tile['slide']} {tile['box0']}": tile for tile in REFERENCE.get("slides", {}).get("tiles", [])
}

thresholds = st.integers(0, 255)
tiles = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 80), st.integers(1, 80), st.just(3)),
    elements=st.integers(0, 255),
)


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_tile_has_the_pixels_that_histoprep_measured(name: str) -> None:
    assert pixels_sha256(drawn_tiles()[name]) == DRAWN[name]["sha256"]


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_tiles_have_the_metrics_of_histoprep(name: str) -> None:
    rgb = drawn_tiles()[name]
    for threshold, expected in DRAWN[name]["metrics"].items():
        assert_histoprep(tile_metrics(rgb, threshold=int(threshold)), expected)


@pytest.mark.parametrize("name", REAL)
def test_real_tiles_have_the_metrics_of_histoprep(name: str) -> None:
    rgb = real_tile(REAL[name])
    for threshold, expected in REAL[name]["metrics"].items():
        assert_histoprep(tile_metrics(rgb, threshold=int(threshold)), expected)


def test_with_fewer_than_ten_tissue_samples_quantiles_are_of_the_whole_sample() -> None:
    drawn = drawn_tiles()
    nine = tile_metrics(drawn["9 tissue pixels in the sample 512x512"], threshold=120)
    ten = tile_metrics(drawn["10 tissue pixels in the sample 512x512"], threshold=120)
    assert nine["red_q95"] > 200
    assert ten["red_q95"] < 130


@given(rgb=tiles, threshold=thresholds, dark_field=st.booleans())
def test_every_tile_has_the_same_finite_columns(
    *, rgb: Rgb, threshold: int, dark_field: bool
) -> None:
    metrics = tile_metrics(rgb, threshold=threshold, dark_field=dark_field)
    statistics = ["mean", "std", *(f"q{percent}" for percent in QUANTILES)]
    expected = {"laplacian_var", "background", "black_pixels", "white_pixels"}
    expected |= {f"{channel}_{statistic}" for channel in CHANNELS for statistic in statistics}
    assert set(metrics) == expected
    assert all(math.isfinite(value) for value in metrics.values())


@given(tiles, thresholds)
def test_shares_are_from_0_to_1_and_no_pixel_is_black_and_white(rgb: Rgb, threshold: int) -> None:
    metrics = tile_metrics(rgb, threshold=threshold)
    assert 0.0 <= metrics["background"] <= 1.0
    assert metrics["black_pixels"] >= 0.0
    assert metrics["white_pixels"] >= 0.0
    assert metrics["black_pixels"] + metrics["white_pixels"] <= 1.0


@given(tiles)
def test_sharpness_is_the_variance_of_the_laplacian(rgb: Rgb) -> None:
    gray = to_gray(rgb)
    expected = cv2.Laplacian(gray, cv2.CV_64F, ksize=1).var()
    assert laplacian_variance(gray) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_sharpness_is_exact_where_it_is_largest() -> None:
    rows, columns = np.ogrid[:2048, :2048]
    checkered = np.asarray((rows + columns) % 2 * 255, dtype=np.uint8)
    assert laplacian_variance(checkered) == pytest.approx(1020**2, rel=1e-12)


@given(tiles, thresholds)
def test_quantiles_do_not_fall(rgb: Rgb, threshold: int) -> None:
    metrics = tile_metrics(rgb, threshold=threshold)
    for channel in CHANNELS:
        values = [metrics[f"{channel}_q{percent}"] for percent in QUANTILES]
        assert values == sorted(values)


@given(tiles)
def test_a_higher_threshold_never_makes_more_background(rgb: Rgb) -> None:
    shares = [
        tile_metrics(rgb, threshold=threshold)["background"] for threshold in (0, 90, 180, 255)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.0


@given(tiles, thresholds)
def test_what_is_tissue_on_a_bright_field_is_background_on_a_dark_one(
    rgb: Rgb, threshold: int
) -> None:
    bright = tile_metrics(rgb, threshold=threshold)["background"]
    dark = tile_metrics(rgb, threshold=threshold, dark_field=True)["background"]
    assert bright + dark == pytest.approx(1.0)


@given(tiles, thresholds)
def test_only_background_and_quantiles_know_the_threshold(rgb: Rgb, threshold: int) -> None:
    first, second = tile_metrics(rgb, threshold=threshold), tile_metrics(rgb, threshold=0)
    for name in first:
        if name != "background" and "_q" not in name:
            assert first[name] == second[name]


@given(tiles, thresholds)
def test_a_tile_turned_over_its_diagonal_has_the_same_metrics(rgb: Rgb, threshold: int) -> None:
    turned = np.ascontiguousarray(rgb.transpose(1, 0, 2))
    expected = pytest.approx(tile_metrics(rgb, threshold=threshold))
    assert tile_metrics(turned, threshold=threshold) == expected


@given(
    st.tuples(thresholds, thresholds, thresholds),
    st.integers(1, 80),
    st.integers(1, 80),
    thresholds,
)
def test_a_tile_of_one_colour_is_flat_and_every_quantile_is_its_mean(
    colour: tuple[int, int, int], height: int, width: int, threshold: int
) -> None:
    rgb = np.full((height, width, 3), colour, dtype=np.uint8)
    metrics = tile_metrics(rgb, threshold=threshold)
    assert metrics["laplacian_var"] == 0.0
    assert [metrics[f"{channel}_mean"] for channel in ("red", "green", "blue")] == list(colour)
    assert metrics["background"] == float(metrics["gray_mean"] > threshold)
    for channel in CHANNELS:
        assert metrics[f"{channel}_std"] == 0.0
        assert {metrics[f"{channel}_q{percent}"] for percent in QUANTILES} == {
            metrics[f"{channel}_mean"]
        }


def real_tile(tile: dict[str, Any]) -> Rgb:
    """Return the box of the slide that HistoPrep measured, or skip where the slide is not here."""
    path = SLIDES / tile["slide"]
    if not path.is_file():
        pytest.skip(f"no {path}")
    x, y, width, height = tile["box0"]
    reader = open_slide(path)
    rgb = reader.read(0, Box(x=x, y=y, width=width, height=height))
    reader.close()
    assert pixels_sha256(rgb) == tile["sha256"], "not the pixels that HistoPrep measured"
    return rgb


def assert_histoprep(found: dict[str, float], expected: dict[str, float]) -> None:
    """Refuse metrics that differ from HistoPrep's by more than its own rounding."""
    found = dict(found)
    found["laplacian_std"] = math.sqrt(found.pop("laplacian_var"))
    assert set(found) == set(expected)
    wrong = {
        name: (found[name], value)
        for name, value in expected.items()
        if abs(found[name] - value) > tolerance(name, value)
    }
    assert wrong == {}


def tolerance(name: str, value: float) -> float:
    """Return how far from HistoPrep's value ours may be."""
    if name == "laplacian_std":
        return 1e-4 * value  # HistoPrep sums in float32
    if name.endswith(("_mean", "_std", "background")):
        return 0.0006  # HistoPrep rounds to three decimals
    if name in {"black_pixels", "white_pixels"}:
        return 1e-7
    return 0.0
