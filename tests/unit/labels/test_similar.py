"""Slides that are copies are found, turned and changed too; slides that are not are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.geometry import Boxes
from wsi_pipeline.labels.similar import ALIKE, LEAST_TILES, Picture, alike, picture_of

ACROSS, DOWN = 40, 30


def tissue(seed: int) -> tuple[Boxes, NDArray[np.float32]]:
    """Return tiles of a slide whose colours change smoothly, inside an outline of its own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(np.arange(ACROSS * DOWN), ACROSS)
    at = np.column_stack([columns / ACROSS, rows / DOWN])
    field = np.zeros((len(at), 3))
    for _ in range(40):
        wave = rng.normal(0, 12, 2)
        field += rng.normal(0, 1, 3) * np.sin(at @ wave + rng.uniform(0, 6))[:, None]
    radius = 0.45 * (1 + 0.15 * np.sin(rng.integers(2, 5) * np.arctan2(*(at - 0.5).T)))
    inside = np.linalg.norm(at - 0.5, axis=1) < radius
    boxes0 = np.column_stack([columns * 205, rows * 205, np.full((len(at), 2), 256)])
    return boxes0[inside].astype(np.int32), (150 + 10 * field[inside]).astype(np.float32)


def picture(boxes0: Boxes, colours: NDArray[np.float32]) -> Picture:
    made = picture_of(boxes0, colours)
    assert made is not None
    return made


def turned(boxes0: Boxes) -> Boxes:
    """Return tiles of the slide turned by a quarter."""
    x, y, width, height = boxes0.T
    return np.column_stack([-y - height, x, height, width]).astype(np.int32)


def mirrored(boxes0: Boxes) -> Boxes:
    x, y, width, height = boxes0.T
    return np.column_stack([-x - width, y, width, height]).astype(np.int32)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_a_turned_or_mirrored_copy_is_found(turns: int, mirror: bool) -> None:  # noqa: FBT001
    boxes0, colours = tissue(1)
    copy0 = mirrored(boxes0) if mirror else boxes0
    for _ in range(turns):
        copy0 = turned(copy0)
    found = alike([picture(boxes0, colours), picture(copy0, colours)])
    assert [(each.one, each.other) for each in found] == [(0, 1)]
    assert found[0].correlation > 0.99


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_with_other_colours_moved_and_noisy_is_found(seed: int) -> None:
    boxes0, colours = tissue(seed)
    rng = np.random.default_rng(seed)
    copy0 = boxes0 + np.array([1000, -300, 0, 0], dtype=np.int32)
    other = (colours * 0.8 + 20 + rng.normal(0, 3, colours.shape)).astype(np.float32)
    kept = rng.uniform(size=len(copy0)) > 0.02
    found = alike([picture(boxes0, colours), picture(copy0[kept], other[kept])])
    assert len(found) == 1


def test_other_slides_are_not_called_alike() -> None:
    pictures = [picture(*tissue(seed)) for seed in range(60)]
    assert alike(pictures) == []
    closest = max(each.correlation for each in alike(pictures, least=-1))
    assert closest < ALIKE - 0.1


def few_tiles(seed: int) -> tuple[Boxes, NDArray[np.float32]]:
    """Return 63 tiles of a slide with a dark spot, whose colours say nearly the same as stains do."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(np.arange(63), 9)
    spot = rng.uniform(0, [9, 7])
    away = np.hypot(columns - spot[0], rows - spot[1])
    dark = np.exp(-((away / 2.5) ** 2)) + rng.normal(0, 0.15, 63)
    own = rng.normal(0, 0.05, (63, 3))
    boxes0 = np.column_stack([columns * 205, rows * 205, np.full((63, 2), 256)])
    mixed = dark[:, None] * np.array([-60, 40, -50]) + 60 * own + np.array([190, 60, 200])
    return boxes0.astype(np.int32), mixed.astype(np.float32)


def test_spots_in_the_same_place_do_not_make_slides_alike_and_copies_still_are() -> None:
    slides = [few_tiles(seed) for seed in range(40)]
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 0.5, (63, 3)).astype(np.float32) for _ in slides]
    noisy = [(slide[0], slide[1] + own) for slide, own in zip(slides, noise, strict=True)]
    pictures = [picture(*slide) for slide in (*slides, *noisy)]
    found = {(each.one, each.other) for each in alike(pictures)}
    assert found == {(number, number + 40) for number in range(40)}


@given(seed=st.integers(0, 1000), gains=st.tuples(*[st.floats(0.3, 3)] * 3))
def test_brightness_and_contrast_of_each_colour_do_not_matter(
    seed: int, gains: tuple[float, ...]
) -> None:
    boxes0, colours = few_tiles(seed)
    other = picture(boxes0, (colours * np.array(gains) + 7).astype(np.float32))
    np.testing.assert_allclose(picture(boxes0, colours).cells, other.cells, atol=1e-3)


def test_colours_that_say_the_same_count_once() -> None:
    boxes0, colours = tissue(5)
    gray = np.repeat(colours[:, :1], 3, axis=1)
    plane = picture(boxes0, gray).cells
    np.testing.assert_allclose(plane[0], plane[1], atol=1e-6)
    assert alike([picture(boxes0, gray), picture(boxes0, gray)])[0].correlation > 0.999


def test_the_order_of_tiles_does_not_matter() -> None:
    boxes0, colours = tissue(3)
    order = np.random.default_rng(1).permutation(len(boxes0))
    same = picture(boxes0[order], colours[order])
    np.testing.assert_allclose(picture(boxes0, colours).cells, same.cells, atol=1e-5)


def test_what_shows_nothing_has_no_picture() -> None:
    boxes0, colours = tissue(1)
    assert picture_of(boxes0[: LEAST_TILES - 1], colours[: LEAST_TILES - 1]) is None
    assert picture_of(boxes0, np.full_like(colours, np.nan)) is None
    assert picture_of(boxes0, np.full_like(colours, 200)) is None
    in_a_row = boxes0 * np.array([1, 0, 1, 1], dtype=np.int32)
    assert picture_of(in_a_row, colours) is None
    assert alike([]) == []
