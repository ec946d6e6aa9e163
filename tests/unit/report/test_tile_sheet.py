"""Sheets of tiles: where pictures and words lie, whatever their number, size and length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.geometry import Rgb
from wsi_pipeline.pixels import png_bytes
from wsi_pipeline.report.tile_sheet import SHEET_SIDE_PX, SheetRow, SheetTile, draw_tile_sheet

LONG = "Präparat-" + "0123456789" * 40


def plain(number: int, *, width: int = SHEET_SIDE_PX, height: int = SHEET_SIDE_PX) -> Rgb:
    """Return a picture of one colour, another one for each number; words are gray, never of these."""
    color = np.array([255, number % 100, 100 + number // 100], np.uint8)
    return np.broadcast_to(color, (height, width, 3)).copy()


def sheet_of(pictures: list[list[Rgb]], *, lines: tuple[str, ...] = ()) -> Rgb:
    rows = [
        SheetRow(
            heading=f"row {number}", tiles=tuple(SheetTile(rgb=rgb, lines=lines) for rgb in each)
        )
        for number, each in enumerate(pictures)
    ]
    return draw_tile_sheet("a title", rows)


def box_of(sheet: Rgb, picture: Rgb) -> tuple[int, int, int, int]:
    """Return x, y, width and height of what has a picture's colour, which is all of that box."""
    mask = (sheet == picture[0, 0]).all(axis=2)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    width, height = int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
    assert mask.sum() == width * height
    return x, y, width, height


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 7), max_size=3),
    st.integers(1, 400),
    st.integers(1, 60),
    st.integers(0, 5),
)
def test_every_picture_is_there_whole_and_they_are_read_like_a_page(
    counts: list[int], width: int, height: int, lines: int
) -> None:
    numbers = iter(range(sum(counts)))
    pictures = [
        [plain(next(numbers), width=width, height=height) for _ in range(count)] for count in counts
    ]
    sheet = sheet_of(pictures, lines=("words",) * lines)
    boxes = [box_of(sheet, rgb) for row in pictures for rgb in row]
    assert all(box[2:] == (width, height) for box in boxes)
    places = [(y, x) for x, y, _, _ in boxes]
    assert places == sorted(set(places))
    for x, y, _, _ in boxes:
        assert 0 < x <= sheet.shape[1] - width
        assert 0 < y <= sheet.shape[0] - height - 15 * lines
    starts = {boxes[sum(counts[:number])][:2] for number, count in enumerate(counts) if count}
    assert len({x for x, _ in starts}) <= 1  # each heading begins a line of its own
    assert len({y for _, y in starts}) == len(starts)


@pytest.mark.parametrize(("width", "columns"), [(160, 6), (320, 3), (80, 12), (500, 1), (1100, 1)])
def test_a_line_is_about_six_pictures_long(width: int, columns: int) -> None:
    pictures = [plain(number, width=width, height=9) for number in range(13)]
    sheet = sheet_of([pictures])
    tops = [box_of(sheet, rgb)[1] for rgb in pictures]
    assert tops.count(tops[0]) == columns


def test_pictures_of_several_sizes_have_room_for_the_largest() -> None:
    pictures = [plain(0, width=40, height=30), plain(1), plain(2, width=320, height=200)]
    sheet = sheet_of([pictures, [plain(3)]], lines=("a", "b"))
    boxes = [box_of(sheet, rgb) for rgb in (*pictures, plain(3))]
    assert [box[2:] for box in boxes] == [(40, 30), (160, 160), (320, 200), (160, 160)]
    assert boxes[1][0] - boxes[0][0] == boxes[2][0] - boxes[1][0] == 328
    assert boxes[3][1] > boxes[2][1] + 200 + 2 * 15


def test_without_tiles_there_are_words_alone() -> None:
    nothing, empty = draw_tile_sheet("a title", []), sheet_of([[], []])
    assert nothing.shape[1] == empty.shape[1] == sheet_of([[plain(0)]]).shape[1]
    assert empty.shape[0] > nothing.shape[0]
    assert is_written(nothing)
    assert is_written(empty[nothing.shape[0] :])


def is_written(strip: Rgb) -> bool:
    """Whether there is something dark on it."""
    return bool((strip < 100).any())


def test_what_is_said_of_a_tile_is_below_it_a_line_each() -> None:
    words = ("one", "two", "three")
    sheet = sheet_of([[plain(0)]], lines=words)
    x, y, width, height = box_of(sheet, plain(0))
    bands: list[NDArray[np.uint8]] = [
        sheet[y + height + 1 + 15 * line : y + height + 16 + 15 * line, x : x + width]
        for line in range(4)
    ]
    assert [is_written(band) for band in bands[:3]] == [True] * 3
    assert (bands[3] == 255).all()
    fewer = sheet_of([[plain(0)]], lines=words[:1])
    assert fewer.shape[0] == sheet.shape[0] - 2 * 15


def test_a_long_name_stays_below_its_own_tile_and_ends_with_dots() -> None:
    pictures = [plain(number) for number in range(6)]
    sheet = sheet_of([pictures], lines=(LONG, "tile 3"))
    for rgb in pictures:
        x, y, width, height = box_of(sheet, rgb)
        assert is_written(sheet[y + height :, x : x + width])
        assert (sheet[y + height :, x + width : x + width + 8] == 255).all()
    assert np.array_equal(sheet, sheet_of([pictures], lines=(LONG + "and more", "tile 3")))
    assert not np.array_equal(sheet, sheet_of([pictures], lines=(LONG[:20], "tile 3")))


def test_long_titles_and_headings_stay_on_the_sheet() -> None:
    row = SheetRow(heading=LONG, tiles=(SheetTile(rgb=plain(0), lines=()),))
    sheet = draw_tile_sheet(LONG, [row])
    assert sheet.shape == sheet_of([[plain(0)]]).shape
    assert (sheet[:, -3:] == 255).all()


@settings(max_examples=25)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_words_leave_pictures_where_they_are(heading: str, line: str) -> None:
    rows = [SheetRow(heading=heading, tiles=(SheetTile(rgb=plain(0), lines=(line,)),))]
    found = draw_tile_sheet(line, rows)
    assert box_of(found, plain(0)) == box_of(sheet_of([[plain(0)]], lines=("x",)), plain(0))


def test_the_same_sheet_has_the_same_bytes() -> None:
    def made() -> bytes:
        return png_bytes(sheet_of([[plain(0), plain(1)], [plain(2)]], lines=("näyte", LONG)))

    first = made()
    sheet_of([[plain(9)]], lines=("something else",))
    assert made() == first
