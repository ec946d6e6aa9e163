"""Text stays text, tiles come back as they were packed, figures stay inside their frame."""

import base64
import json
import re
import tomllib
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.geometry import Box
from wsi_pipeline.report.figures import HEIGHT, WIDTH, curves_svg
from wsi_pipeline.report.html import data_script, element, escaped, plain_cell, shown
from wsi_pipeline.report.maps import data_url, packed
from wsi_pipeline.report.parts import Curves, Field, Notice, Page, Section, SlideMap, Table
from wsi_pipeline.report.render import FIRST_ROWS, render

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&amp;",
    "$title",
    "\x00\ud800",
)


class Texts(HTMLParser):
    """Collects what a browser takes for elements and for text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Texts:
    texts = Texts()
    texts.feed(html)
    texts.close()
    return texts


@given(text=st.text() | st.sampled_from(HOSTILE))
def test_text_is_text_whatever_it_holds(text: str) -> None:
    found = parsed(element("p", escaped(text), title=text))
    assert found.elements == ["p"]
    allowed = "".join(
        each if each == "\n" or each == "\t" or each.isprintable() else "" for each in text
    )
    kept = "".join(each if each in "\n\t" or each.isprintable() else "" for each in found.text)
    assert kept.replace("\ufffd", "") == allowed.replace("\ufffd", "")


@given(value=st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_data_of_the_script_come_back_and_cannot_end_their_element(value: object) -> None:
    element_ = data_script("a", value)
    inside = element_.removeprefix('<script type="application/json" id="a">').removesuffix(
        "</script>"
    )
    assert "<" not in inside
    assert json.loads(inside) == value


@pytest.mark.parametrize(
    ("value", "field", "text"),
    [
        (4_700_000, Field(label="", kind="number"), "4\u202f700\u202f000"),
        (-1234.56, Field(label="", kind="number", digits=1), "-1\u202f234.6"),
        (0.1234, Field(label="", kind="share"), "12.3 %"),
        (2.5e9, Field(label="", kind="bytes"), "2.5 GB"),
        (None, Field(label="", kind="number"), "\u2013"),
        (float("nan"), Field(label="", kind="number"), "\u2013"),
        (True, Field(label=""), "yes"),
        ("a", Field(label="", kind="number"), "a"),
    ],
)
def test_a_cell_is_written_as_people_read_it(
    value: str | float | None, field: Field, text: str
) -> None:
    assert shown(value, field) == text


def test_what_is_no_number_is_nothing_to_the_script() -> None:
    assert plain_cell(float("inf")) is None
    assert plain_cell(1 / 3) == 0.333333


@given(
    boxes=st.lists(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4), max_size=30),
    columns=st.integers(0, 3),
)
def test_packed_tiles_come_back(boxes: list[tuple[int, int, int, int]], columns: int) -> None:
    boxes0 = np.array(boxes, dtype=np.int32).reshape(-1, 4)
    codes = [np.arange(len(boxes), dtype=np.uint8) + column for column in range(columns)]
    slide = SlideMap(
        slide_id="a",
        about="",
        frame0=Box(x=0, y=0, width=1, height=1),
        boxes0=boxes0,
        codes=codes,
        picture=None,
    )
    data = zlib.decompress(base64.b64decode(packed(slide)["tiles"]))
    count = len(boxes)
    steps = np.frombuffer(data[: 16 * count], dtype="<i4").reshape(4, count)
    assert np.array_equal(np.cumsum(steps, axis=1, dtype=np.int32).T, boxes0)
    assert data[16 * count :] == b"".join(each.tobytes() for each in codes)


def test_a_regular_grid_takes_no_room() -> None:
    places = np.mgrid[0:90, 0:90].reshape(2, -1).T * 819
    boxes0 = np.hstack([places[:, ::-1], np.full_like(places, 1024)]).astype(np.int32)
    frame0 = Box(x=0, y=0, width=75_000, height=75_000)
    slide = SlideMap(slide_id="a", about="", frame0=frame0, boxes0=boxes0, codes=[], picture=None)
    assert len(packed(slide)["tiles"]) < len(boxes0) / 10


@pytest.mark.parametrize(
    ("image", "kind"), [(b"\xff\xd8\xff", "jpeg"), (b"RIFF\0\0\0\0WEBPVP8 ", "webp")]
)
def test_a_picture_says_its_kind(image: bytes, kind: str) -> None:
    assert data_url(image).startswith(f"data:image/{kind};base64,")


@given(
    curves=st.lists(st.lists(st.floats(0, 1e6), min_size=5, max_size=5), min_size=1, max_size=10),
    log=st.booleans(),
)
def test_curves_stay_in_their_frame(curves: list[list[float]], *, log: bool) -> None:
    grid = np.array([1.0, 10.0, 100.0, 1000.0, 10_000.0])
    by_group = {f"group {place}": np.array(curve) for place, curve in enumerate(curves)}
    svg = curves_svg(Curves(title="t", unit="u", grid=grid, by_group=by_group, log=log))
    points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", " ".join(re.findall(r' d="M([^"]*)"', svg)))
    assert points
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in points)


def test_a_group_has_the_same_line_in_every_figure() -> None:
    grid = np.array([0.0, 1.0])
    svg = curves_svg(
        Curves(title="t", unit="u", grid=grid, by_group={"b": grid}, log=False, groups=("a", "b"))
    )
    assert set(re.findall(r"curve-\d", svg)) == {"curve-1"}
    assert "</svg>b</li>" in svg


def test_a_curve_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a: expected \(3,\) values, got \(2,\)"):
        Curves(title="", unit="", grid=np.ones(3), by_group={"a": np.ones(2)}, log=False)


def page(*parts: Notice | Table, made: str = "2026-01-01T00:00:00+00:00") -> Page:
    section = Section(name="all", title="All", parts=parts)
    return Page(title="RUN", made=made, version="1", sections=(section,))


def test_the_same_page_gives_the_same_bytes_but_for_its_time() -> None:
    one, again, later = (
        render(page(Notice(text="a"), made=made)).decode() for made in ("T1", "T1", "T2")
    )
    assert one == again
    assert one.replace("T1", "T2") == later


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_is_shown_and_does_nothing(text: str) -> None:
    rows = [(text, 1)] * 3
    fields = (Field(label=text), Field(label="n", kind="number"))
    html = render(page(Table(name="t", caption=text, fields=fields, rows=rows), Notice(text=text)))
    found = parsed(html.decode())
    assert "img" not in found.elements
    assert found.elements.count("script") == 2  # the data and the page's own
    assert "alert(1)</p>" not in found.text


def test_without_its_script_a_table_has_its_first_rows() -> None:
    rows = [(f"row {number}",) for number in range(FIRST_ROWS + 5)]
    html = render(
        page(Table(name="t", caption="c", fields=(Field(label="a"),), rows=rows))
    ).decode()
    assert f">row {FIRST_ROWS - 1}</th>" in html
    assert f">row {FIRST_ROWS}</th>" not in html
    assert f'"row {FIRST_ROWS + 4}"' in html


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"c: expected 1 cells, got \('a', 'b'\)"):
        Table(caption="c", fields=(Field(label="a"),), rows=[("a", "b")])


def test_the_files_of_the_page_are_in_the_package() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = about["tool"]["setuptools"]["package-data"]["wsi_pipeline"]
    package = ROOT / "wsi_pipeline"
    given_ = {path for pattern in patterns for path in package.glob(pattern)}
    assert set((package / "report" / "page").iterdir()) <= given_


def test_the_page_fetches_nothing() -> None:
    html = render(page(Notice(text="a"))).decode()
    assert "default-src 'none'" in html
    assert (
        re.findall(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|\bsrc=\"(?!data:)", html) == []
    )
