import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.references.drawn_tiles import drawn_overviews, pixels_sha256, tissue_sha256
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.tissue.segment import segment

REPOSITORY = Path(__file__).resolve().parents[3]
SLIDES = REPOSITORY.parent / "shared/slides"
REFERENCE = json.loads((REPOSITORY / "tests/fixtures/histoprep_2_0_5.json").read_text("utf-8"))
DRAWN = REFERENCE["drawn"]["overviews"]
REAL = {
    overview["slide"]: overview for overview in REFERENCE.get("slides", {}).get("overviews", [])
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_overview_has_the_pixels_that_histoprep_segmented(name: str) -> None:
    assert pixels_sha256(drawn_overviews()[name]) == DRAWN[name]["sha256"]


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_overviews_have_the_threshold_and_tissue_of_histoprep(name: str) -> None:
    assert_histoprep(drawn_overviews()[name], DRAWN[name])


@pytest.mark.parametrize("name", REAL)
def test_real_overviews_have_the_threshold_and_tissue_of_histoprep(name: str) -> None:
    assert_histoprep(real_overview(REAL[name]), REAL[name])


def real_overview(overview: dict[str, Any]) -> Rgb:
    """Return the overview that HistoPrep segmented, or skip where the slide is not here."""
    path = SLIDES / overview["slide"]
    if not path.is_file():
        pytest.skip(f"no {path}")
    x, y, width, height = overview["box0"]
    reader = open_slide(path)
    whole = reader.read(0, Box(x=x, y=y, width=width, height=height))
    reader.close()
    rgb = np.ascontiguousarray(whole[:: overview["step_px"], :: overview["step_px"]])
    assert pixels_sha256(rgb) == overview["sha256"], "not the pixels that HistoPrep segmented"
    return rgb


def assert_histoprep(rgb: Rgb, expected: dict[str, Any]) -> None:
    """Refuse a threshold or any mask pixel other than HistoPrep's."""
    found = segment(rgb, method="histoprep")
    assert not found.dark_field
    assert found.threshold == expected["threshold"]
    assert int(np.count_nonzero(found.tissue)) == expected["tissue_pixels"]
    assert tissue_sha256(found.tissue) == expected["tissue_sha256"]
