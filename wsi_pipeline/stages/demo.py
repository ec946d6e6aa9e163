"""A cohort that is drawn, so that every number of a run on it can be checked: ``wsi-pipeline demo``."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from wsi_pipeline.config import TileConfig
from wsi_pipeline.files import publish_bytes, published
from wsi_pipeline.geometry import Size
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid
from wsi_pipeline.stages.tile import TileOutcome

DEMO_CONFIG = TileConfig(tile_size=256, overlap=0.2, mpp=0.5)

SAME_TISSUE = 0.03
"""Share of the slide by which found and drawn tissue may differ."""

SAME_TISSUE_DARK = 0.2
"""The same where the stroma between nuclei is as dark as the glass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSlide:
    """One slide to be drawn."""

    slide_id: str
    patient_id: str
    scanner: str
    mpp: float
    blur_px: float
    dark_field: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoCohort:
    """Slides that were drawn, and the table that names them."""

    table: Path
    slides: tuple[DemoSlide, ...]
    tissue_shares: tuple[float, ...]
    """Drawn tissue of each slide, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRow:
    """What a run found on a slide, beside what was drawn."""

    slide: DemoSlide
    tiles: int
    found: float
    drawn: float
    sharpness: float

    @property
    def right(self) -> bool:
        """Whether found and drawn tissue agree; in the dark only where nuclei stand is found."""
        allowed = SAME_TISSUE_DARK if self.slide.dark_field else SAME_TISSUE
        return self.tiles > 0 and abs(self.found - self.drawn) <= allowed

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        return (
            self.slide.slide_id,
            self.slide.scanner,
            str(self.tiles),
            f"{self.found:.1%}",
            f"{self.drawn:.1%}",
            f"{self.sharpness:.0f}",
        )


SIDE_UM = 1400
"""Width of every drawn slide; its height is three quarters of it."""

SLIDES = (
    DemoSlide(slide_id="north_1", patient_id="P1", scanner="sharp", mpp=0.25, blur_px=0.0),
    DemoSlide(slide_id="north_2", patient_id="P2", scanner="sharp", mpp=0.25, blur_px=0.0),
    DemoSlide(slide_id="south_1", patient_id="P3", scanner="soft", mpp=0.5, blur_px=1.2),
    DemoSlide(slide_id="south_2", patient_id="P4", scanner="soft", mpp=0.5, blur_px=1.2),
    DemoSlide(
        slide_id="dark_1", patient_id="P4", scanner="dapi", mpp=0.5, blur_px=0.0, dark_field=True
    ),
)


def draw_cohort(folder: Path) -> DemoCohort:
    """Draw every slide of the demo into a folder, with its slide table; slides that are there stay."""
    shares = []
    for number, slide in enumerate(SLIDES):
        side = round(SIDE_UM / slide.mpp)
        size = Size(width=side, height=side * 3 // 4)
        drawn = draw_slide(
            size,
            seed=[2026, number],
            mpp=slide.mpp,
            dark_field=slide.dark_field,
            blur_px=slide.blur_px,
        )
        shares.append(float(np.mean(drawn.tissue)))
        path = folder / "slides" / f"{slide.slide_id}.tif"
        if not path.exists():
            with published(path) as temporary:
                write_pyramid(temporary, drawn.rgb, mpp=slide.mpp)
    table = folder / "slides.csv"
    publish_bytes(table, _table_text().encode())
    return DemoCohort(table=table, slides=SLIDES, tissue_shares=tuple(shares))


def compare_with_truth(cohort: DemoCohort, outcome: TileOutcome) -> tuple[DemoRow, ...]:
    """Return what a run found on every drawn slide beside what was drawn."""
    records = {record.slide_id: record for record in outcome.records}
    rows = []
    for slide, drawn in zip(cohort.slides, cohort.tissue_shares, strict=True):
        record = records[slide.slide_id]
        manifest = pq.read_table(
            outcome.run.manifest(slide.slide_id), columns=["laplacian_var"], partitioning=None
        )
        sharpness = manifest.column("laplacian_var").to_numpy()
        rows.append(
            DemoRow(
                slide=slide,
                tiles=record.tiles,
                found=float(record.values["tissue_share"]),
                drawn=drawn,
                sharpness=float(np.median(sharpness)) if sharpness.size else 0.0,
            )
        )
    return tuple(rows)


def _table_text() -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "slide_id", "patient_id", "scanner", "centre"])
    for slide in SLIDES:
        centre = slide.slide_id.partition("_")[0]
        writer.writerow(
            [
                f"slides/{slide.slide_id}.tif",
                slide.slide_id,
                slide.patient_id,
                slide.scanner,
                centre,
            ]
        )
    return text.getvalue()
