"""Hypothesis strategies and drawn arrays that several tests share."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from wsi_pipeline.geometry import Box, Mask, Rgb, Size
from wsi_pipeline.slides.reader import SlideInfo, level_of

seeds = st.integers(0, 1_000_000)
"""Of arrays: hypothesis chooses the shape and one number, numpy the pixels."""


def noise(seed: int, *, height: int, width: int) -> Rgb:
    """Return an image whose every value is independent."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def speckled(seed: int, *, height: int, width: int) -> Mask:
    """Return a mask of which every pixel is a coin's toss."""
    return np.random.default_rng(seed).random((height, width)) < 0.5


def smooth(seed: int, *, side: int) -> Rgb:
    """Return a square without edges, which lossy codecs keep nearly as it is."""
    waves = np.random.default_rng(seed).uniform(0.5, 2.0, (3, 2))
    rows, columns = np.mgrid[0:side, 0:side] / side
    planes = [128 + 90 * np.sin(3 * (along * rows + across * columns)) for along, across in waves]
    return np.dstack(planes).astype(np.uint8)


def block_means(rgb: Rgb, shrink: int) -> NDArray[np.float64]:
    """Return means over whole blocks; far pixels that fill no block repeat the last ones."""
    far = ((0, -rgb.shape[0] % shrink), (0, -rgb.shape[1] % shrink), (0, 0))
    whole = np.pad(rgb, far, mode="edge").astype(np.float64)
    rows, columns = whole.shape[0] // shrink, whole.shape[1] // shrink
    blocks = whole.reshape(rows, shrink, columns, shrink, 3)  # (row, inside, column, inside, rgb)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return means


@st.composite
def boxes(draw: DrawFn, *, corner: int = 40, side: int = 40) -> Box:
    """Draw a box that begins up to ``corner`` from 0 on either side of it."""
    x, y = draw(st.integers(-corner, corner)), draw(st.integers(-corner, corner))
    return Box(x=x, y=y, width=draw(st.integers(1, side)), height=draw(st.integers(1, side)))


@st.composite
def inner_boxes(draw: DrawFn, size: Size) -> Box:
    """Draw a box inside a canvas."""
    x, y = draw(st.integers(0, size.width - 1)), draw(st.integers(0, size.height - 1))
    return Box(
        x=x,
        y=y,
        width=draw(st.integers(1, size.width - x)),
        height=draw(st.integers(1, size.height - y)),
    )


@st.composite
def slide_infos(draw: DrawFn, *, longest: int = 20_000) -> SlideInfo:
    """Draw a slide with a pyramid whose sizes are rounded as scanners round them."""
    size0 = Size(
        width=draw(st.integers(200, longest)),
        height=draw(st.integers(200, longest)),
    )
    steps = draw(st.lists(st.sampled_from([2, 4]), max_size=3))
    sizes = [size0]
    for step in steps:
        sizes.append(Size(width=sizes[-1].width // step or 1, height=sizes[-1].height // step or 1))
    um_per_px = draw(st.floats(0.1, 1.0))
    return SlideInfo(
        backend="memory",
        backend_reason="drawn",
        format="memory",
        levels=tuple(level_of(size, size0) for size in sizes),
        bounds0=Box(x=0, y=0, width=size0.width, height=size0.height),
        mpp_x=um_per_px,
        mpp_y=um_per_px,
        mpp_note="drawn",
    )
