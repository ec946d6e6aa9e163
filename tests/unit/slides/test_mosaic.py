from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides import mosaic
from wsi_pipeline.slides.mosaic import Piece, read_mosaic

SIDE, ACROSS, DOWN = 8, 20, 12
WINDOWS = [
    Box(x=x, y=y, width=32, height=32)
    for y in range(0, DOWN * SIDE - 31, 26)
    for x in range(0, ACROSS * SIDE - 31, 26)
]


class Squares:
    """Pictures of 8 px side by side, each of one colour; counts how often each is decoded."""

    has_gaps = False
    picture_bytes = SIDE * SIDE * 3

    def __init__(self) -> None:
        self.times = Counter[int]()

    def pictures(self, window_px: Box) -> Sequence[int]:
        rows = range(window_px.y // SIDE, (window_px.y_end - 1) // SIDE + 1)
        columns = range(window_px.x // SIDE, (window_px.x_end - 1) // SIDE + 1)
        return [row * ACROSS + column for row in rows for column in columns]

    def pieces(self, window_px: Box) -> Iterator[Piece]:
        for picture in self.pictures(window_px):
            row, column = divmod(picture, ACROSS)
            box_px = Box(x=column * SIDE, y=row * SIDE, width=SIDE, height=SIDE)
            yield Piece(picture=picture, box_px=box_px)

    def decoded(self, picture: int) -> Rgb:
        self.times[picture] += 1
        return np.full((SIDE, SIDE, 3), picture % 251, dtype=np.uint8)


def pixels_of(squares: Squares) -> list[Rgb]:
    read = list(read_mosaic(squares, 0, WINDOWS))
    return [each for each in read if not isinstance(each, TileError)]


def test_every_picture_is_decoded_once_where_memory_allows() -> None:
    squares = Squares()
    assert len(pixels_of(squares)) == len(WINDOWS)
    assert set(squares.times.values()) == {1}


@pytest.mark.parametrize(("too_few", "again"), [(8, 0), (20, 5), (25, 11), (30, 21)])
def test_a_little_too_little_memory_costs_a_little_more_decoding(
    too_few: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that are needed last go first: were it the oldest, 14, 28 and 38 would be decoded again."""
    whole = Squares()
    expected = pixels_of(whole)
    needed = 2 * ACROSS + 5 * 2  # what the next row shares with this one, and the next window
    monkeypatch.setattr(mosaic, "KEPT_BYTES", (needed - too_few) * Squares.picture_bytes)
    squares = Squares()
    assert all(map(np.array_equal, pixels_of(squares), expected))
    assert sum(squares.times.values()) <= len(whole.times) + again
