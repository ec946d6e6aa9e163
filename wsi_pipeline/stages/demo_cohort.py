"""The demo's cohort, drawn: six patients, two scanners, two centres, and what is true of every slide."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.files import publish_bytes, published
from wsi_pipeline.geometry import Mask, Size
from wsi_pipeline.slides.drawn import DrawnSlide, draw_slide, with_pen, write_pyramid

SIDE_UM = 1200
"""Width of every drawn slide; its height is three quarters of it."""

TUMOUR = "tumour"
"""Class of the annotations; tissue outside of them is benign."""

_RED = (200, 0, 0)  # of the annotations in QuPath


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSlide:
    """One slide to be drawn."""

    slide_id: str
    patient_id: str
    scanner: str
    centre: str
    mpp: float
    blur_px: float
    tumours: int
    pen: bool = False

    @property
    def size(self) -> Size:
        """Level-0 pixels."""
        side = round(SIDE_UM / self.mpp)
        return Size(width=side, height=side * 3 // 4)

    def row(self) -> dict[str, str]:
        """Return the slide's row of the slide table."""
        names = ("slide_id", "patient_id", "scanner", "centre")
        own = {name: str(getattr(self, name)) for name in names}
        return {"path": f"slides/{self.slide_id}.tif", **own}


def _slide(name: str, *, tumours: int, pen: bool = False, missed_px: float = 0.0) -> DemoSlide:
    """Return a slide of CENTRE_NUMBER and a letter: a is from the sharp scanner, b from the soft one."""
    sharp = name.endswith("a")
    return DemoSlide(
        slide_id=name,
        patient_id=f"P{name[-2]}",
        scanner="sharp" if sharp else "soft",
        centre=name.partition("_")[0],
        mpp=0.25 if sharp else 0.5,
        blur_px=0.0 if sharp else 1.2 + missed_px,
        tumours=tumours,
        pen=pen,
    )


SLIDES = (
    _slide("north_1a", tumours=2),
    _slide("north_1b", tumours=1),
    _slide("north_2a", tumours=1),
    _slide("north_2b", tumours=2),
    _slide("north_3a", tumours=1),
    _slide("north_3b", tumours=0),
    _slide("south_4a", tumours=1),
    _slide("south_4b", tumours=2),
    _slide("south_5a", tumours=2),
    _slide("south_5b", tumours=1, missed_px=2.8),  # the focus was missed
    _slide("south_6a", tumours=0),
    _slide("south_6b", tumours=2, pen=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTruth:
    """What was drawn on a slide."""

    slide: DemoSlide
    tissue_share: float
    """Of the whole slide, 0 to 1."""
    tumours: NDArray[np.float32] = field(repr=False)
    """Outlines in level-0 pixels, ``(count, corners, 2)``: x, y."""
    ink: Mask | None = field(repr=False)
    """Where the pen went, level-0 pixels; None where it was not used."""

    @property
    def ink_share(self) -> float:
        """Share of the whole slide that the pen went over."""
        return 0.0 if self.ink is None else float(np.mean(self.ink))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoCohort:
    """Slides that were drawn, the table that names them, and their annotations."""

    table: Path
    annotations: Path
    truths: tuple[DemoTruth, ...]


def draw_cohort(folder: Path) -> DemoCohort:
    """Draw every slide of the demo into a folder, with table and annotations; slides that are there stay."""
    annotations = folder / "annotations"
    truths = []
    for number, slide in enumerate(SLIDES):
        drawn, ink = _drawn(slide, number)
        tissue_share = float(np.mean(drawn.tissue))
        truths.append(
            DemoTruth(slide=slide, tissue_share=tissue_share, tumours=drawn.tumours, ink=ink)
        )
        path = folder / "slides" / f"{slide.slide_id}.tif"
        if not path.exists():
            with published(path) as temporary:
                write_pyramid(temporary, drawn.rgb, mpp=slide.mpp)
        text = json.dumps(annotations_of(drawn.tumours)) + "\n"
        publish_bytes(annotations / f"{slide.slide_id}.geojson", text.encode())
    table = folder / "slides.csv"
    publish_bytes(table, _table_text(SLIDES).encode())
    return DemoCohort(table=table, annotations=annotations, truths=tuple(truths))


def _drawn(slide: DemoSlide, number: int) -> tuple[DrawnSlide, Mask | None]:
    drawn = draw_slide(
        slide.size,
        seed=[2026, number],
        mpp=slide.mpp,
        blur_px=slide.blur_px,
        tumours=slide.tumours,
    )
    if not slide.pen:
        return drawn, None
    rgb, ink = with_pen(drawn.rgb, seed=number, mpp=slide.mpp)
    tissue, nuclei, tumours = drawn.tissue, drawn.nuclei, drawn.tumours
    inked = DrawnSlide(rgb=rgb, tissue=tissue, nuclei=nuclei, mpp=slide.mpp, tumours=tumours)
    return inked, ink


def annotations_of(outlines: NDArray[np.float32]) -> dict[str, Any]:
    """Return outlines of tumours as QuPath writes annotations: closed rings in level-0 pixels."""
    features = []
    for outline in np.round(outlines.astype(np.float64), 2).tolist():
        geometry = {"type": "Polygon", "coordinates": [[*outline, outline[0]]]}
        classification = {"name": TUMOUR, "color": list(_RED)}
        properties = {"objectType": "annotation", "classification": classification}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _table_text(slides: Sequence[DemoSlide]) -> str:
    text = io.StringIO()
    rows = [slide.row() for slide in slides]
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
