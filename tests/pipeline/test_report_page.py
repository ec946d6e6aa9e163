"""The report in a browser: it can be sorted, filtered, paged and coloured, by mouse and by keyboard."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests import chromium
from tests.invented import write_run
from tests.invented_models import write_model
from tests.invented_predictions import Asked, Invented, write_evaluation, write_sweep
from tests.pipeline.runs import REPOSITORY
from wsi_pipeline.stages.report import report_run
from wsi_pipeline.stages.run_directory import RunDirectory

PROGRAM = chromium.found()
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b 'c' \"d\"")
SLIDES = 60

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of sixty slides, three of which have patients with hostile names, and evaluated models."""
    run = write_run(tmp_path_factory.mktemp("paged") / "RUN & <b>", slides=SLIDES, tiles=200)
    rename_patients(run)
    write_model(run, "sd-0", losses=[0.5, 0.3, 0.4])
    for name in ("sd-0", "wd-0"):
        write_evaluation(
            run.path, Invented(logits=2), Asked(model=name, learnt=Invented(seed=5, logits=2))
        )
        write_sweep(run.path, name, lost=0.2)
    return report_run(run.path, made="2026-01-01T00:00:00+00:00").path


def rename_patients(run: RunDirectory) -> None:
    table = pq.read_table(run.slides_table)
    names = [*HOSTILE, *table.column("patient_id").to_pylist()[len(HOSTILE) :]]
    at = table.column_names.index("patient_id")
    pq.write_table(table.set_column(at, "patient_id", pa.array(names)), run.slides_table)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    assert PROGRAM is not None
    with chromium.opened(PROGRAM, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: chromium.Tab, page: Path) -> Iterator[chromium.Tab]:
    """The page, opened anew; afterwards nothing was complained of and nothing was asked of a network."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.ask(
        "Emulation.setDeviceMetricsOverride",
        width=1280,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    browser.open(page)
    browser.wait_for(PAINTED)
    yield browser
    assert browser.complaints == []
    assert set(browser.requests) == {page.as_uri()}


PAINTED = (
    "[...document.querySelectorAll('.maps canvas')].every(each => each.getAttribute('aria-label'))"
)


def column(tab: chromium.Tab, name: str, table: str = "cohort") -> list[str]:
    """Return what the rows that are shown have in a column."""
    script = f"""(() => {{
      const table = document.querySelector('#{table} table');
      const at = [...table.tHead.rows[0].cells].findIndex(each => each.textContent === {json.dumps(name)});
      return [...table.tBodies[0].rows].map(row => row.cells[at].textContent);
    }})()"""
    found: list[str] = tab.run(script)
    return found


def head(name: str, table: str = "cohort") -> str:
    heads = f"[...document.querySelectorAll('#{table} th')]"
    return f"{heads}.find(each => each.textContent === {json.dumps(name)})"


def status(tab: chromium.Tab, where: str) -> str:
    text: str = tab.run(f"document.querySelector('{where} .status').textContent")
    return text


def write(tab: chromium.Tab, selector: str, text: str) -> None:
    tab.run(f"document.querySelector({json.dumps(selector)}).focus()")
    tab.run(f"document.querySelector({json.dumps(selector)}).select()")
    tab.type(text)


def test_it_opens_from_the_disk_and_shows_every_part(tab: chromium.Tab) -> None:
    titles = tab.run("[...document.querySelectorAll('h2')].map(each => each.textContent)")
    assert titles == [
        "Summary",
        "Failures and reasons",
        "Slides",
        "Tiles on slides",
        "Tiles at the extremes",
        "Sharpness and colour",
        "Labels and split",
        "Quality",
        "Leakage audit",
        "Models",
        "Evaluations",
        "Settings and versions",
    ]
    assert tab.run("document.title") == "RUN & <b>: whole-slide run"
    figures = {"#spread": 8, "#models": 4, "#evaluations": 1 + 2 * 3 + 2}  # beside, of each, swept
    for where, count in figures.items():
        assert tab.run(f"document.querySelectorAll('{where} svg.curves').length") == count


def test_names_are_text_whatever_they_hold(tab: chromium.Tab) -> None:
    assert column(tab, "patient")[:3] == list(HOSTILE)
    abouts = tab.run("[...document.querySelectorAll('.maps .quiet')].map(each => each.textContent)")
    assert abouts[0].startswith(HOSTILE[0])
    assert tab.run("document.querySelectorAll('td img, td script, td b, h1 b').length") == 0


def test_a_click_sorts_and_a_third_gives_the_order_back(tab: chromium.Tab) -> None:
    before = column(tab, "slide")
    way = f"{head('median sharpness')}.getAttribute('aria-sort')"
    for expected, descending in (("ascending", False), ("descending", True)):
        tab.run(f"{head('median sharpness')}.querySelector('button').click()")
        values = [float(text.replace("\u202f", "")) for text in column(tab, "median sharpness")]
        assert values == sorted(values, reverse=descending)
        assert tab.run(way) == expected
    tab.run(f"{head('median sharpness')}.querySelector('button').click()")
    assert tab.run(way) == "none"
    assert column(tab, "slide") == before


def test_the_keyboard_sorts(tab: chromium.Tab) -> None:
    tab.run(f"{head('scanner')}.querySelector('button').focus()")
    tab.key("Enter", text="\r")
    assert tab.run(f"{head('scanner')}.getAttribute('aria-sort')") == "ascending"
    tab.key(" ", text=" ")
    assert tab.run(f"{head('scanner')}.getAttribute('aria-sort')") == "descending"
    scanners = column(tab, "scanner")
    assert scanners == sorted(scanners, reverse=True)
    assert scanners[0] == "S360"
    assert tab.run("document.querySelectorAll('#cohort th[aria-sort=descending]').length") == 1


def test_numbers_in_names_are_sorted_as_numbers(tab: chromium.Tab) -> None:
    tab.run(f"{head('outliers', 'outliers')}.querySelector('button').click()")
    values = list(map(int, column(tab, "outliers", "outliers")))
    assert values == sorted(values)
    assert len(set(map(len, map(str, values)))) > 1


def test_a_table_has_pages(tab: chromium.Tab) -> None:
    assert status(tab, "#cohort") == "1 to 25 of 60 rows"
    buttons = "[...document.querySelectorAll('#cohort .pager button')].map(each => each.disabled)"
    assert tab.run(buttons) == [True, False]
    seen = column(tab, "slide")
    for _ in range(2):
        tab.run("document.querySelector('#cohort .pager').lastChild.click()")
        seen += column(tab, "slide")
    assert seen == [f"slide_{number:04d}" for number in range(SLIDES)]
    assert status(tab, "#cohort") == "51 to 60 of 60 rows"
    assert tab.run(buttons) == [False, True]
    tab.run(
        "(size => { size.value = 100; size.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#cohort select'))"
    )
    assert len(column(tab, "slide")) == SLIDES


def test_a_table_is_filtered_by_words_of_any_column(tab: chromium.Tab) -> None:
    write(tab, "#cohort input", "at2 NORTH")
    scanners, centres = set(column(tab, "scanner")), set(column(tab, "centre"))
    assert (scanners, centres) == ({"AT2"}, {"north"})
    count = len(column(tab, "slide"))
    assert status(tab, "#cohort") == f"1 to {count} of {count} that fit, of 60 rows"
    write(tab, "#cohort input", "nowhere")
    assert column(tab, "slide") == []
    assert status(tab, "#cohort") == "No rows fit, of 60"


COPIED = """canvas => {
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d', {willReadFrequently: true});
  context.drawImage(canvas, 0, 0);
  return context;
}"""


def pixels(tab: chromium.Tab, place: int = 0) -> list[list[int]]:
    """Return what a map shows at a row of points."""
    script = f"""(() => {{
      const canvas = document.querySelectorAll('.maps canvas')[{place}];
      const context = ({COPIED})(canvas);
      return Array.from({{length: 24}}, (_, at) => [...context.getImageData(
        Math.floor(canvas.width * (at + 3) / 30), Math.floor(canvas.height / 2), 1, 1).data]);
    }})()"""
    found: list[list[int]] = tab.run(script)
    return found


BUTTONS = "[...document.querySelectorAll('.legend button')]"


def choose(tab: chromium.Tab, name: str) -> None:
    script = f"""(select => {{
      select.value = [...select.options].find(each => each.textContent === {json.dumps(name)}).value;
      select.dispatchEvent(new Event('change'));
    }})(document.getElementById('map-column'))"""
    tab.run(script)


def test_slides_are_coloured_by_the_column_that_is_chosen(tab: chromium.Tab) -> None:
    names = tab.run(
        "[...document.getElementById('map-column').options].map(each => each.textContent)"
    )
    assert names == ["tissue", "laplacian_var", "label", "split", "outlier", "cluster"]
    seen = set()
    for name in names:
        choose(tab, name)
        seen.add(json.dumps(pixels(tab)))
        said = tab.run("document.querySelector('.maps canvas').getAttribute('aria-label')")
        assert said.startswith(f"slide_0000, 200 tiles. {name}: ")
    assert len(seen) == len(names)


def test_colours_on_a_map_are_those_of_its_key(tab: chromium.Tab, page: Path) -> None:
    tab.run(
        "(strength => { strength.value = 100; strength.dispatchEvent(new Event('input')); })"
        "(document.getElementById('map-strength'))"
    )
    choose(tab, "label")
    script = """Object.fromEntries([...document.querySelectorAll('.legend button')].map(each =>
      [each.textContent, getComputedStyle(each.firstChild).backgroundColor]))"""
    key: dict[str, str] = tab.run(script)
    assert list(key) == ["benign", "stroma", "tumour"]
    colours = {tuple(map(int, text[4:-1].split(", "))): word for word, text in key.items()}
    tiles = pq.read_table(
        page.parent / "manifest" / "slide_0000.parquet", partitioning=None
    ).to_pandas()
    found = []
    for row in tiles.itertuples():
        point = (
            f"({row.x} + {row.width} / 2) / frame[2] * canvas.width | 0, "
            f"({row.y} + {row.height} / 2) / frame[3] * canvas.height | 0"
        )
        found.append(f"[...context.getImageData({point}, 1, 1).data].slice(0, 3)")
    script = f"""(() => {{
      const frame = JSON.parse(document.getElementById('maps-data').textContent).slides[0].frame;
      const canvas = document.querySelector('.maps canvas'), context = ({COPIED})(canvas);
      return [{", ".join(found)}];
    }})()"""
    drawn = [colours.get(tuple(pixel)) for pixel in tab.run(script)]
    assert drawn == tiles["label"].tolist()


def test_a_click_on_the_key_leaves_those_tiles_alone(tab: chromium.Tab) -> None:
    choose(tab, "outlier")
    everything = pixels(tab)
    tab.run("document.querySelectorAll('.legend button')[1].click()")
    pressed = f"{BUTTONS}.map(each => each.getAttribute('aria-pressed'))"
    assert tab.run(pressed) == ["false", "true"]
    assert pixels(tab) != everything
    assert tab.run("document.activeElement.textContent") == "yes"
    tab.run("document.querySelectorAll('.legend button')[1].click()")
    assert tab.run(pressed) == ["true", "true"]
    assert pixels(tab) == everything


def test_slides_have_pages_and_a_filter_of_their_own(tab: chromium.Tab) -> None:
    assert status(tab, "#maps") == "1 to 12 of 60 slides"
    tab.run("document.querySelector('#maps .pager').lastChild.click()")
    names = "[...document.querySelectorAll('.maps .name')].map(each => each.firstChild.textContent)"
    assert tab.run(names)[0] == "slide_0012"
    write(tab, "#map-filter", "pannoramic")
    assert status(tab, "#maps") == "1 to 12 of 20 that fit, of 60 slides"
    assert tab.run(names)[:2] == ["slide_0002", "slide_0005"]


def test_a_slide_of_the_table_leads_to_its_tiles(tab: chromium.Tab) -> None:
    tab.run("document.querySelector('#cohort .pager').lastChild.click()")
    tab.run("document.querySelector('#cohort tbody a').click()")
    tab.wait_for("document.activeElement.className.includes('enlarge')")
    assert tab.run("document.activeElement.getAttribute('aria-label')") == "Enlarge slide_0025"
    tab.key("Enter", text="\r")
    assert tab.run("document.querySelector('dialog').open") is True
    assert tab.run("document.querySelector('dialog canvas').width") == 1600
    tab.key("Escape")
    tab.wait_for("!document.querySelector('dialog').open")
    assert tab.run("document.activeElement.getAttribute('aria-label')") == "Enlarge slide_0025"


def test_pointing_at_a_tile_says_its_value(tab: chromium.Tab) -> None:
    box = tab.run(
        "(canvas => { canvas.scrollIntoView({block: 'center', behavior: 'instant'});"
        " const box = canvas.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })(document.querySelector('.maps canvas'))"
    )
    tab.ask("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    text = tab.run("document.querySelector('.readout').textContent")
    assert text.startswith("tile ")
    assert ": tissue " in text


CHECKS = (REPOSITORY / "tests" / "accessibility.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_an_order_and_contrast(tab: chromium.Tab, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    tab.ask("Emulation.setEmulatedMedia", media="screen", features=[feature])
    tab.settle()
    expected = "rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 28)"
    assert tab.run("getComputedStyle(document.body).backgroundColor") == expected
    assert tab.run(CHECKS) == []
    choose(tab, "label")
    assert tab.run(CHECKS) == []


def test_the_keyboard_reaches_the_report_past_its_contents(tab: chromium.Tab) -> None:
    tab.key("Tab")
    assert tab.run("document.activeElement.textContent") == "Skip to the report"
    tab.key("Enter", text="\r")
    tab.key("Tab")
    assert tab.run("document.getElementById('main').contains(document.activeElement)") is True
    outline = tab.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_is_wider_than_the_window(tab: chromium.Tab, width: int) -> None:
    tab.ask(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    tab.settle()
    assert tab.run("document.documentElement.scrollWidth") <= width


def test_paper_has_every_row_and_no_controls(tab: chromium.Tab, tmp_path: Path) -> None:
    tab.run("window.dispatchEvent(new Event('beforeprint'))")
    assert len(column(tab, "slide")) == SLIDES
    tab.ask("Emulation.setEmulatedMedia", media="print", features=[])
    controls = "document.querySelectorAll('nav, input, select, .pager, .enlarge')"
    shown = f"[...{controls}].some(each => each.checkVisibility())"
    assert tab.run(shown) is False
    tab.ask("Emulation.setEmulatedMedia", media="", features=[])
    tab.run("window.dispatchEvent(new Event('afterprint'))")
    assert len(column(tab, "slide")) == 25
    tab.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_a_policy_keeps_foreign_scripts_from_running(
    browser: chromium.Tab, page: Path, tmp_path: Path
) -> None:
    injected = page.read_text(encoding="utf-8").replace(
        "</main>",
        "<script>window.stolen = 1</script><img src='http://localhost:9/x' alt='x'></main>",
    )
    (tmp_path / "page.html").write_text(injected, encoding="utf-8")
    browser.complaints.clear()
    browser.open(tmp_path / "page.html")
    assert browser.run("window.stolen") is None
    assert len(browser.complaints) >= 2
    assert all("Content Security Policy" in each for each in browser.complaints)


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [("light", 1280, False), ("dark", 1280, True), ("narrow", 420, False)],
)
def test_a_picture_of_the_page_is_kept(
    tab: chromium.Tab, tmp_path: Path, name: str, width: int, *, dark: bool
) -> None:
    path = tmp_path / f"{name}.png"
    tab.look(path, width=width, height=900, dark=dark)
    with Image.open(path) as image:
        picture: Any = np.asarray(image.convert("L"))
    assert picture.shape[1] == width
    assert (np.median(picture) < 64) == dark
    assert picture.std() > 10
