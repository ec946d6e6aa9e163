"""Words in pictures: letters that are there, and lines that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_pipeline.report.lettering import font, write_line

ROOM_PX = 120
UNKNOWN = "\uffff"


def written(text: str, *, width: int = ROOM_PX, size_px: int = 18) -> NDArray[np.uint8]:
    """Return a strip, white but for the line."""
    image = Image.new("L", (4 * ROOM_PX, 40), 255)
    write_line(ImageDraw.Draw(image), (0, 4), text, width=width, size_px=size_px)
    return np.asarray(image)


@pytest.mark.parametrize("letter", [*"µμäöüßéñøåżćЖя±·²°…—→≤"])
def test_units_and_names_of_europe_have_letters(letter: str) -> None:
    assert bytes(font(20).getmask(letter)) != bytes(font(20).getmask(UNKNOWN))


@given(st.text(st.characters(max_codepoint=0x17F, categories=["L", "N", "P", "Z"]), max_size=80))
def test_a_line_keeps_to_its_room(text: str) -> None:
    assert (written(text)[:, ROOM_PX + 2 :] == 255).all()  # a letter may lean out of its own box


@pytest.mark.parametrize("length", range(1, 30))
def test_what_fits_is_written_whole(length: int) -> None:
    short = font(8).getlength("m" * length) <= ROOM_PX
    longer = np.array_equal(written("m" * length), written("m" * 200))
    assert longer != short


def test_small_letters_come_before_dots() -> None:
    heights = [np.flatnonzero((written("H" * count) < 200).any(axis=1)) for count in (3, 12, 60)]
    first, second, third = (rows[-1] - rows[0] for rows in heights)
    assert first > second > 0
    assert third <= second


def test_line_breaks_are_blanks_and_what_is_no_text_is_a_mark() -> None:
    assert np.array_equal(written("a\n\t b"), written("a b"))
    assert np.array_equal(written("a\udcff"), written("a?"))
    assert (written("") == 255).all()


def test_without_room_there_is_at_most_one_mark() -> None:
    assert np.array_equal(written("slide", width=0), written("other", width=0))
