import io

import numpy as np
import pytest
from PIL import Image

from tests.strategies import noise
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.labels.density import densities
from wsi_pipeline.report.contact_sheet import SHEET_TILE_PX, draw_contact_sheet, quality_page
from wsi_pipeline.report.group_figures import density_figure, stain_figure

STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))


def opened(png: bytes) -> Rgb:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("name", ["_hidden", "a$b^{", "$", "<b>&amp;"])
def test_any_name_of_a_group_can_be_drawn(name: str) -> None:
    found = densities(np.arange(1.0, 9.0), [name] * 4 + ["b"] * 4, log=True)
    assert opened(density_figure(found, title=f"by {name}", axis="value")).std() > 0
    assert opened(stain_figure({"red": found}, title=name, stains={name: STAINS})).std() > 0


def test_a_curve_is_drawn_for_every_group() -> None:
    values = np.random.default_rng(1).normal(0, 1, 300)
    one = densities(values, ["a"] * 300, log=False)
    three = densities(values, ["a", "b", "c"] * 100, log=False)
    colours = [
        len(np.unique(opened(density_figure(each, title="", axis="")).reshape(-1, 3), axis=0))
        for each in (one, three)
    ]
    assert colours[1] > colours[0]


def test_nothing_to_draw_is_an_empty_figure() -> None:
    empty = densities(np.zeros(0), [], log=True)
    assert opened(density_figure(empty, title="none", axis="value")).shape[2] == 3
    assert opened(stain_figure({"red": empty}, title="none", stains={})).shape[2] == 3


@pytest.mark.parametrize("count", [0, 1, 5, 36, 37])
def test_every_tile_of_a_sheet_is_shown_once(count: int) -> None:
    tiles = [noise(number, height=40, width=40) for number in range(count)]
    sheet = draw_contact_sheet(tiles, caption="cluster 3: 5 tiles")
    found = [
        (tile == sheet[y : y + 40, x : x + 40]).all()
        for place, tile in enumerate(tiles)
        for y, x in [place_of(place, sheet.shape[1], 40)]
    ]
    assert all(found)
    assert sheet.dtype == np.uint8


def place_of(place: int, width: int, side: int) -> tuple[int, int]:
    columns = (width - 3) // (side + 3)
    return 30 + place // columns * (side + 3) + 3, place % columns * (side + 3) + 3


def test_a_long_caption_fits_and_tiles_of_full_size_do_too() -> None:
    tile = noise(1, height=SHEET_TILE_PX, width=SHEET_TILE_PX)
    sheet = draw_contact_sheet([tile] * 36, caption="a very long caption " * 20)
    assert sheet.shape[1] == 6 * (SHEET_TILE_PX + 3) + 3


def test_the_page_escapes_what_it_says_and_shows_what_there_is() -> None:
    page = quality_page([("cluster_00", "<script>"), (None, "not drawn")])
    assert '<img src="cluster_00.jpg" alt="Tiles of &lt;script&gt;"' in page
    assert "<script>" not in page
    assert page.count("<img") == 1
    assert "Nothing to show" in quality_page([])
