from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import slide_infos
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Mask, Size
from wsi_pipeline.slides.reader import SlideInfo, level_of
from wsi_pipeline.tiles.grid import Edge, stride_px
from wsi_pipeline.tiles.window import (
    SAME_RESOLUTION,
    Resolution,
    Sampling,
    footprints0,
    sampling_at_level,
    sampling_at_mpp,
    sampling_of_whole,
    windows_px,
)

coarser = st.floats(1.0, 40.0)
"""Wanted µm/px as a multiple of the scan's."""
tile_sizes = st.integers(224, 2048)
overlaps = st.floats(0, 0.9)
edges = st.sampled_from(["pad", "drop", "shift"])


@given(slide_infos(), coarser, tile_sizes)
def test_a_tile_covers_what_was_asked_for_to_a_thousandth_or_half_a_pixel(
    info: SlideInfo, times: float, tile_size: int
) -> None:
    sampling = wanted(info, times, tile_size=tile_size)
    at, mpp = info.levels[sampling.level], info.mpp or 0.0
    for side_px, downsample in (
        (sampling.side_x_px, at.downsample_x),
        (sampling.side_y_px, at.downsample_y),
    ):
        footprint_um = side_px * downsample * mpp
        asked_um = tile_size * times * mpp
        half_a_pixel_um = 0.5 * downsample * mpp
        assert abs(footprint_um - asked_um) <= max(1.001e-3 * asked_um, half_a_pixel_um + 1e-9)


@given(slide_infos(), coarser, st.integers(500, 2048))
def test_tiles_of_500_px_and_more_are_right_to_a_thousandth(
    info: SlideInfo, times: float, tile_size: int
) -> None:
    sampling = wanted(info, times, tile_size=tile_size)
    at, asked0 = info.levels[sampling.level], tile_size * times
    assert sampling.side_x_px * at.downsample_x == pytest.approx(asked0, rel=1.001e-3)
    assert sampling.side_y_px * at.downsample_y == pytest.approx(asked0, rel=1.001e-3)


@given(slide_infos(), coarser)
def test_the_coarsest_level_that_is_fine_enough_is_read(info: SlideInfo, times: float) -> None:
    level = wanted(info, times).level
    fine_enough = [
        index
        for index, at in enumerate(info.levels)
        if max(at.downsample_x, at.downsample_y) <= times * (1 + SAME_RESOLUTION)
    ]
    assert level == max(fine_enough, default=0)


@given(slide_infos(), coarser)
def test_pixels_are_never_made_up(info: SlideInfo, times: float) -> None:
    sampling = wanted(info, times, tile_size=256)
    assert sampling.side_x_px >= 256
    assert sampling.side_y_px >= 256


@given(
    slide_infos(),
    st.integers(0, 3),
    st.floats(-0.9 * SAME_RESOLUTION, 0.9 * SAME_RESOLUTION),
)
def test_a_level_within_a_thousandth_is_not_resampled(
    info: SlideInfo, index: int, off: float
) -> None:
    square = replace(
        info,
        levels=tuple(
            replace(at, downsample_x=at.downsample, downsample_y=at.downsample)
            for at in info.levels
        ),
    )
    level = min(index, len(info.levels) - 1)
    sampling = wanted(square, square.levels[level].downsample * (1 + off), tile_size=512)
    assert sampling.level == level
    assert (sampling.side_x_px, sampling.side_y_px) == (512, 512)
    assert (sampling.stride_x, sampling.stride_y) == (410, 410)


@given(slide_infos(), st.floats(0.01, 1 - 1.1 * SAME_RESOLUTION))
def test_a_resolution_finer_than_the_scan_is_refused(info: SlideInfo, times: float) -> None:
    with pytest.raises(SlideError, match=r"slide 7: --mpp .* is finer than the scan"):
        wanted(info, times)


@given(slide_infos(longest=2000), st.floats(0.2, 0.99), st.integers(224, 1024), overlaps)
def test_where_it_is_allowed_the_scan_is_enlarged_and_every_pixel_is_in_some_tile(
    info: SlideInfo, times: float, tile_size: int, overlap: float
) -> None:
    sampling = wanted(info, times, tile_size=tile_size, overlap=overlap, allow_upsample=True)
    assert sampling.level == 0
    assert abs(sampling.side_x_px - tile_size * times) <= 0.5
    assert covered(info, sampling, edge="pad").all()


@given(slide_infos(), st.integers(1, 2048))
def test_a_whole_slide_is_one_tile_that_is_never_enlarged(info: SlideInfo, tile_size: int) -> None:
    sampling = sampling_of_whole(info, tile_size=tile_size)
    assert len(windows_px(info, sampling, edge="pad")) == 1
    assert covered(info, sampling, edge="pad").all()
    assert sampling.side_x_px == sampling.side_y_px >= tile_size


def test_without_um_per_px_the_error_names_slide_flag_and_column() -> None:
    info = an_info(mpp=None)
    with pytest.raises(SlideError) as caught:
        sampling_at_mpp(
            info, resolution=Resolution(mpp=0.5), tile_size=256, stride=256, slide="case 12"
        )
    assert "case 12" in str(caught.value)
    assert "--slide-mpp" in str(caught.value)
    assert "column 'mpp'" in str(caught.value)


@given(slide_infos(), st.integers(0, 9), st.integers(1, 2048))
def test_a_level_is_read_as_it_is_and_one_beyond_the_pyramid_is_refused(
    info: SlideInfo, level: int, tile_size: int
) -> None:
    if level >= len(info.levels):
        with pytest.raises(SlideError, match=f"level {level}: the slide has {len(info.levels)}"):
            sampling_at_level(info, level=level, tile_size=tile_size, stride=tile_size)
        return
    sampling = sampling_at_level(info, level=level, tile_size=tile_size, stride=tile_size)
    assert sampling.level == level
    assert {sampling.side_x_px, sampling.side_y_px, sampling.tile_size} == {tile_size}
    assert sampling.mpp == pytest.approx((info.mpp or 0) * info.levels[level].downsample)


def test_a_level_of_a_slide_without_um_per_px_is_cut_and_says_so() -> None:
    info = an_info(mpp=None)
    assert sampling_at_level(info, level=0, tile_size=64, stride=64).mpp is None


@given(slide_infos(longest=3000), coarser, tile_sizes, overlaps)
def test_at_any_resolution_every_pixel_is_inside_some_tile(
    info: SlideInfo, times: float, tile_size: int, overlap: float
) -> None:
    sampling = wanted(info, times, tile_size=tile_size, overlap=overlap)
    for edge in ("pad", "shift"):
        assert covered(info, sampling, edge=edge).all()


@given(slide_infos(longest=6000), st.floats(1.0, 4.0), st.integers(224, 512))
def test_tiles_without_overlap_leave_no_gap_at_any_resolution(
    info: SlideInfo, times: float, tile_size: int
) -> None:
    sampling = wanted(info, times, tile_size=tile_size, overlap=0)
    assert covered(info, sampling, edge="pad").all()


@given(slide_infos(), coarser, tile_sizes, overlaps)
def test_at_any_resolution_kept_tiles_lie_inside(
    info: SlideInfo, times: float, tile_size: int, overlap: float
) -> None:
    sampling = wanted(info, times, tile_size=tile_size, overlap=overlap)
    windows = windows_px(info, sampling, edge="drop")
    inside = info.bounds_px(sampling.level)
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 0] + windows[:, 2] <= inside.x_end).all()
    assert (windows[:, 1] + windows[:, 3] <= inside.y_end).all()


@given(slide_infos(), coarser, edges)
def test_footprints_are_windows_in_level_0_pixels(
    info: SlideInfo, times: float, edge: Edge
) -> None:
    sampling = wanted(info, times)
    at = info.levels[sampling.level]
    windows = windows_px(info, sampling, edge=edge)
    boxes0 = footprints0(info, sampling.level, windows)
    scale = [at.downsample_x, at.downsample_y] * 2
    assert boxes0.dtype == np.int32
    assert np.abs(boxes0 - windows * scale).max(initial=0) <= 0.5
    if sampling.level == 0:
        assert np.array_equal(boxes0, windows)


def test_only_the_scanned_part_gets_tiles() -> None:
    info = replace(an_info(mpp=0.25), bounds0=Box(x=1000, y=3000, width=1500, height=700))
    sampling = sampling_at_level(info, level=0, tile_size=512, stride=512)
    assert windows_px(info, sampling, edge="pad")[:, :2].tolist() == [
        [1000, 3000], [1512, 3000], [2024, 3000], [1000, 3512], [1512, 3512], [2024, 3512],
    ]  # fmt: skip


def test_pixels_that_are_not_square_become_square() -> None:
    info = replace(an_info(mpp=0.25), mpp_y=0.5)
    resolution = Resolution(mpp=0.5)
    sampling = sampling_at_mpp(info, resolution=resolution, tile_size=300, stride=240, slide="s")
    assert (sampling.side_x_px, sampling.side_y_px) == (600, 300)
    assert (sampling.stride_x, sampling.stride_y) == (480, 240)


def wanted(
    info: SlideInfo,
    times: float,
    *,
    tile_size: int = 512,
    overlap: float = 0.2,
    allow_upsample: bool = False,
) -> Sampling:
    """Return how tiles of a multiple of the scan's µm/px are cut."""
    stride = stride_px(tile_size, overlap)
    assume(stride >= 1)
    resolution = Resolution(mpp=times * (info.mpp or 0.0), allow_upsample=allow_upsample)
    return sampling_at_mpp(
        info, resolution=resolution, tile_size=tile_size, stride=stride, slide="slide 7"
    )


def covered(info: SlideInfo, sampling: Sampling, *, edge: Edge) -> Mask:
    """Return which pixels of the sampled level are inside some tile."""
    size = info.levels[sampling.level].size_px
    found = np.zeros((size.height, size.width), dtype=np.bool_)
    for x, y, width, height in windows_px(info, sampling, edge=edge).tolist():
        found[max(y, 0) : y + height, max(x, 0) : x + width] = True
    return found


def an_info(*, mpp: float | None) -> SlideInfo:
    size0 = Size(width=8000, height=6000)
    return SlideInfo(
        backend="memory",
        backend_reason="drawn",
        format="memory",
        levels=(level_of(size0, size0),),
        bounds0=Box(x=0, y=0, width=8000, height=6000),
        mpp_x=mpp,
        mpp_y=mpp,
    )
