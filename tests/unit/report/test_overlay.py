import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import noise, seeds, speckled
from wsi_pipeline.geometry import Boxes, Rgb
from wsi_pipeline.report.overlay import BAD_TILE_RGB, TILE_RGB, TISSUE_RGB, draw_overlay

NO_BOXES = np.empty((0, 4), np.int32)
SQUARES = np.array([[10, 10, 40, 40], [50, 10, 40, 40], [90, 10, 40, 40]], np.int32)
WHITE = np.full((100, 200, 3), 255, np.uint8)


@settings(max_examples=25)
@given(seeds, st.integers(1, 300), st.integers(1, 200), st.sampled_from([None, 0.25, 8.0, 500.0]))
def test_an_overlay_is_the_picture_with_a_caption_below(
    seed: int, width: int, height: int, um_per_px: float | None
) -> None:
    rgb = noise(seed, height=height, width=width)
    drawn = overlay(rgb, um_per_px=um_per_px)
    assert drawn.shape[1:] == (width, 3)
    assert drawn.shape[0] > height
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn[:height], rgb)


@settings(max_examples=40)
@given(st.text(max_size=300))
def test_any_name_can_stand_in_the_caption(caption: str) -> None:
    assert overlay(WHITE, caption=caption).shape[1] == 200


@pytest.mark.parametrize("caption", ["näyte 😐 絵", "", " ", "two\nlines", "x" * 5000, "\udcff"])
def test_names_of_any_script_and_length_stand_in_the_caption(caption: str) -> None:
    assert overlay(WHITE, caption=caption).shape[1] == 200


def test_a_caption_is_black_on_white_and_empty_without_words() -> None:
    with_words, without = (overlay(WHITE, caption=text)[100:] for text in ("case 7", ""))
    assert (without == 255).all()
    assert with_words.min() < 100


def test_a_scale_bar_is_drawn_only_where_um_per_px_are_known() -> None:
    assert (overlay(WHITE, um_per_px=8.0)[100:] == 0).any()
    assert (overlay(WHITE, um_per_px=None)[100:] == 255).all()


def test_tiles_are_drawn_where_they_lie_and_bad_ones_red() -> None:
    drawn = overlay(WHITE, boxes=SQUARES, bad=[1])
    assert near(drawn[30, 10], TILE_RGB)
    assert near(drawn[30, 130], TILE_RGB)
    assert near(drawn[10, 70], BAD_TILE_RGB)
    assert near(drawn[30, 70], BAD_TILE_RGB)  # its diagonal
    assert near(drawn[30, 30], (255, 255, 255))


def test_a_bad_tile_is_red_on_all_its_sides_though_its_neighbours_are_good() -> None:
    drawn = overlay(WHITE, boxes=SQUARES, bad=[1])
    assert near(drawn[20, 50], BAD_TILE_RGB)
    assert near(drawn[20, 90], BAD_TILE_RGB)


def test_without_bad_tiles_nothing_is_red() -> None:
    drawn = overlay(WHITE, boxes=SQUARES).reshape(-1, 3)
    assert not (np.abs(drawn.astype(int) - BAD_TILE_RGB).max(axis=1) < 40).any()


def test_tiles_may_reach_past_the_picture() -> None:
    around = np.array([[-50, -50, 400, 400], [190, 90, 40, 40], [500, 500, 9, 9]], np.int32)
    assert overlay(WHITE, boxes=around, bad=[0, 1, 2]).shape[1] == 200


def test_tissue_is_outlined_and_its_inside_left_as_it_is() -> None:
    tissue = np.zeros((100, 200), np.bool_)
    tissue[20:80, 40:160] = True
    drawn = overlay(WHITE, tissue=tissue)
    assert near(drawn[50, 40], TISSUE_RGB)
    assert near(drawn[20, 100], TISSUE_RGB)
    assert (drawn[50, 60:140] == 255).all()
    assert (drawn[:15, :] == 255).all()


@settings(max_examples=10)
@given(seeds)
def test_the_picture_that_was_given_is_not_drawn_on(seed: int) -> None:
    rgb = noise(seed, height=60, width=90)
    before = rgb.copy()
    overlay(rgb, tissue=speckled(seed, height=60, width=90), boxes=SQUARES, bad=[0])
    assert np.array_equal(rgb, before)


def overlay(
    rgb: Rgb,
    *,
    tissue: np.ndarray[tuple[int, int], np.dtype[np.bool_]] | None = None,
    boxes: Boxes = NO_BOXES,
    bad: list[int] | None = None,
    caption: str = "",
    um_per_px: float | None = None,
) -> Rgb:
    return draw_overlay(
        rgb,
        tissue=np.zeros(rgb.shape[:2], np.bool_) if tissue is None else tissue,
        boxes=boxes,
        bad=bad or [],
        caption=caption,
        um_per_px=um_per_px,
    )


def near(pixel: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colour: tuple[int, ...]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= 60)
