import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import boxes
from wsi_pipeline.geometry import Box, Size

nothing = st.integers(-3, 0)
some = st.integers(1, 3)


@given(boxes(), boxes())
def test_an_intersection_is_the_pixels_that_both_boxes_have(first: Box, second: Box) -> None:
    common = first.intersection(second)
    assert (pixels(common) if common else set()) == pixels(first) & pixels(second)


@given(boxes(), boxes())
def test_an_intersection_does_not_depend_on_the_order(first: Box, second: Box) -> None:
    assert first.intersection(second) == second.intersection(first)


@given(boxes(), boxes(), boxes())
def test_three_boxes_meet_in_the_same_pixels_in_any_order(a: Box, b: Box, c: Box) -> None:
    ab, bc = a.intersection(b), b.intersection(c)
    assert (ab and ab.intersection(c)) == (bc and a.intersection(bc))


@given(boxes(), boxes())
def test_a_box_contains_what_adds_no_pixel_to_it(outer: Box, inner: Box) -> None:
    assert outer.contains(inner) == (pixels(inner) <= pixels(outer))


@given(boxes())
def test_a_box_contains_itself_and_ends_behind_its_last_pixel(box: Box) -> None:
    assert box.contains(box)
    assert box.x_end - 1 == max(x for x, _ in pixels(box))
    assert box.y_end - 1 == max(y for _, y in pixels(box))


def test_boxes_that_only_touch_do_not_meet() -> None:
    left = Box(x=0, y=0, width=4, height=4)
    assert left.intersection(Box(x=4, y=0, width=4, height=4)) is None
    assert left.intersection(Box(x=0, y=4, width=4, height=4)) is None


@given(nothing, some)
def test_a_box_or_size_without_pixels_is_refused(none: int, side: int) -> None:
    for width, height in ((none, side), (side, none), (none, none)):
        with pytest.raises(ValueError, match=f"at least 1 x 1, got {width} x {height}"):
            Box(x=0, y=0, width=width, height=height)
        with pytest.raises(ValueError, match=f"at least 1 x 1, got {width} x {height}"):
            Size(width=width, height=height)


def pixels(box: Box) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box.x, box.x_end) for y in range(box.y, box.y_end)}
