from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import block_means, inner_boxes, noise, seeds, slide_infos
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.slides import overview as overview_module
from wsi_pipeline.slides.memory_backend import MemoryReader
from wsi_pipeline.slides.overview import (
    Overview,
    histoprep_level,
    overview_level,
    read_overview,
)
from wsi_pipeline.slides.reader import SlideInfo, level_of

sides = st.integers(1, 90)
shrinks = st.integers(1, 9)
strips = st.integers(1, 2000)


@given(seeds, sides, sides, shrinks)
def test_an_overview_is_the_mean_of_every_block(
    seed: int, height: int, width: int, shrink: int
) -> None:
    level = noise(seed, height=height, width=width)
    found = read_overview(MemoryReader([level]), level=0, shrink=shrink)
    assert found.rgb.shape == (-(-height // shrink), -(-width // shrink), 3)
    assert np.abs(found.rgb - block_means(level, shrink)).max() <= 1
    assert not found.unreadable.any()


@given(seeds, sides, sides, shrinks, strips)
def test_strips_do_not_change_an_overview(
    seed: int, height: int, width: int, shrink: int, strip_px: int
) -> None:
    reader = MemoryReader([noise(seed, height=height, width=width)])
    at_once = read_overview(reader, level=0, shrink=shrink)
    with small(STRIP_PX=strip_px):
        in_strips = read_overview(reader, level=0, shrink=shrink)
    assert np.array_equal(in_strips.rgb, at_once.rgb)


@given(seeds, inner_boxes(Size(width=80, height=60)), shrinks)
def test_only_the_scanned_part_is_in_the_overview(seed: int, bounds: Box, shrink: int) -> None:
    level = noise(seed, height=60, width=80)
    found = read_overview(MemoryReader([level], bounds0=bounds), level=0, shrink=shrink)
    scanned = level[bounds.y : bounds.y_end, bounds.x : bounds.x_end]
    assert (found.x0, found.y0) == (bounds.x, bounds.y)
    assert (found.downsample_x, found.downsample_y) == (shrink, shrink)
    assert np.abs(found.rgb - block_means(scanned, shrink)).max() <= 1


@given(seeds, shrinks, st.lists(inner_boxes(Size(width=80, height=60)), max_size=3), strips)
def test_what_cannot_be_read_is_marked_and_the_rest_is_as_without_damage(
    seed: int, shrink: int, bad: list[Box], strip_px: int
) -> None:
    level = noise(seed, height=60, width=80)
    whole = read_overview(MemoryReader([level]), level=0, shrink=shrink)
    with small(STRIP_PX=strip_px, _SMALLEST_PX=1):
        reader = MemoryReader([level], unreadable_px=bad)
        found = read_overview(reader, level=0, shrink=shrink)
    expected = touched(bad, whole, shrink=shrink)
    assert np.array_equal(found.unreadable, expected)
    assert np.array_equal(found.rgb[~expected], whole.rgb[~expected])
    assert (found.rgb[expected] == 255).all()


@given(seeds, st.integers(1, 4), inner_boxes(Size(width=900, height=700)))
def test_no_more_than_a_stored_tile_around_damage_is_given_up(
    seed: int, shrink: int, bad: Box
) -> None:
    level = noise(seed, height=700, width=900)
    whole = read_overview(MemoryReader([level]), level=0, shrink=shrink)
    reader = MemoryReader([level], unreadable_px=[bad])
    found = read_overview(reader, level=0, shrink=shrink)
    rows, columns = np.nonzero(found.unreadable)
    assert found.unreadable[touched([bad], whole, shrink=shrink)].all()
    assert columns.min() * shrink > bad.x - 256
    assert columns.max() * shrink < bad.x_end + 256
    assert rows.min() * shrink > bad.y - 256
    assert rows.max() * shrink < bad.y_end + 256
    assert np.array_equal(found.rgb[~found.unreadable], whole.rgb[~found.unreadable])


@given(slide_infos(longest=100_000), st.integers(256, 5000))
def test_an_overview_fits_and_has_half_the_detail_that_would(
    info: SlideInfo, max_side_px: int
) -> None:
    level, shrink = overview_level(info, max_side_px=max_side_px)
    box = info.bounds_px(level)
    longest = max(-(-box.width // shrink), -(-box.height // shrink))
    finest = max(info.size0.width, info.size0.height)
    assert longest <= max_side_px
    assert longest >= min(max_side_px, finest) / 4


@given(st.lists(slide_infos(longest=50_000), min_size=2, max_size=4))
def test_the_choice_depends_on_the_slide_alone(infos: list[SlideInfo]) -> None:
    alone = [overview_level(info, max_side_px=1024) for info in infos]
    again = [overview_level(info, max_side_px=1024) for info in reversed(infos)]
    assert alone == again[::-1]


@given(slide_infos(longest=100_000))
def test_histoprep_takes_the_finest_level_with_both_sides_up_to_4096_else_the_last(
    info: SlideInfo,
) -> None:
    level, shrink = histoprep_level(info, max_side_px=4096)
    fits = [max(at.size_px.width, at.size_px.height) <= 4096 for at in info.levels]
    assert level == (fits.index(True) if any(fits) else len(fits) - 1)
    assert (shrink == 1) == any(fits)


def test_a_single_large_level_is_shrunk_to_fit() -> None:
    size = Size(width=100_000, height=40_000)
    info = replace(
        MemoryReader([np.zeros((1, 1, 3), np.uint8)]).info,
        levels=(level_of(size, size),),
        bounds0=Box(x=0, y=0, width=100_000, height=40_000),
    )
    assert overview_level(info, max_side_px=4096) == (0, 25)
    assert histoprep_level(info, max_side_px=4096) == (0, 25)


def test_no_more_than_a_strip_is_read_at_once() -> None:
    seen: list[int] = []

    class Watched(MemoryReader):
        def read(self, level: int, window_px: Box) -> Rgb:
            seen.append(window_px.width * window_px.height)
            return super().read(level, window_px)

    with small(STRIP_PX=1 << 12):
        read_overview(Watched([noise(0, height=300, width=200)]), level=0, shrink=4)
    assert sum(seen) == 300 * 200
    assert max(seen) <= 1 << 12


def touched(
    bad: list[Box], whole: Overview, *, shrink: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which overview pixels any bad pixel goes into."""
    found = np.zeros(whole.unreadable.shape, np.bool_)
    for box in bad:
        rows = slice(box.y // shrink, (box.y_end - 1) // shrink + 1)
        found[rows, box.x // shrink : (box.x_end - 1) // shrink + 1] = True
    return found


@contextmanager
def small(**limits: int) -> Iterator[None]:
    """Have the overview read in small parts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in limits.items():
            patch.setattr(overview_module, name, limit)
        yield
