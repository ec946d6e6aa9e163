"""The demo's results beside the truth that was drawn: ``wsi-pipeline demo``."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.config import TileConfig
from wsi_pipeline.geometry import Size
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.manifest import read_manifest
from wsi_pipeline.stages.demo_cohort import TUMOUR, DemoCohort, DemoTruth
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord

TILE_CONFIG = TileConfig(tile_size=256, overlap=0.2, mpp=0.5)
SPLIT_CONFIG = SplitConfig(test=1, validation=1)

SAME_TISSUE = 0.03
"""Share of the slide by which found and drawn tissue may differ."""

SAME_LABEL = 0.01
"""Share of a tile by which labelled and drawn tumour may differ."""

INKED = 0.25
"""Share of a tile's footprint under ink from which quality control has to mark it."""

_OUT_OF_FOCUS_PX = 2.0  # blur from which a slide of its scanner was not focused


def label_config(cohort: DemoCohort) -> LabelConfig:
    """Return how the demo's tiles are labelled: what is not annotated as tumour is benign."""
    return LabelConfig(annotations=str(cohort.annotations), unlabelled="benign")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRow:
    """What a run found on a slide, beside what was drawn."""

    truth: DemoTruth
    tiles: int
    tissue: float
    """Share of the slide that was found to be tissue."""
    label_error: float
    """Most by which a tile's labelled share differs from what was drawn."""
    tumour_tiles: int
    inked: int
    """Tiles of which ink covers a quarter or more."""
    inked_unmarked: int
    """Those of them that quality control let pass."""
    marked_without_ink: int
    """Tiles that it took for inked and that have none."""
    unfocused: bool
    """Whether the whole slide was taken for out of focus."""
    outliers: int
    split: str
    sharpness: float

    @property
    def wrong(self) -> tuple[str, ...]:
        """What does not agree with the truth."""
        return tuple(self._wrong())

    def _wrong(self) -> Iterator[str]:
        slide, truth = self.truth.slide, self.truth
        most = truth.tissue_share + truth.ink_share  # a pen's stroke over glass looks like tissue
        if not truth.tissue_share - SAME_TISSUE <= self.tissue <= most + SAME_TISSUE:
            yield f"tissue {self.tissue:.1%} found, {truth.tissue_share:.1%} drawn"
        if self.label_error > SAME_LABEL:
            yield f"a tile's share of {TUMOUR} is {self.label_error:.1%} off"
        if self.inked_unmarked or self.marked_without_ink:
            missed, invented = self.inked_unmarked, self.marked_without_ink
            yield f"{missed} tiles under ink not marked, {invented} marked without ink"
        if self.unfocused != (slide.blur_px > _OUT_OF_FOCUS_PX):
            yield "out of focus, and not found" if not self.unfocused else "taken for out of focus"

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        slide = self.truth.slide
        return (
            slide.slide_id,
            slide.patient_id,
            slide.scanner,
            str(self.tiles),
            f"{self.tissue:.1%}",
            f"{self.truth.tissue_share:.1%}",
            str(self.tumour_tiles),
            f"{self.label_error:.2%}",
            str(self.outliers),
            f"{self.sharpness:.0f}",
            self.split,
        )


COLUMNS = (
    "slide",
    "patient",
    "scanner",
    "tiles",
    "tissue found",
    "drawn",
    "tumour tiles",
    "label error",
    "outliers",
    "sharpness",
    "split",
)
"""Heads of ``DemoRow.cells``."""


def compare_with_truth(
    cohort: DemoCohort, run: RunDirectory, records: tuple[SlideRecord, ...]
) -> tuple[DemoRow, ...]:
    """Return what a run found on every drawn slide beside what was drawn.

    The run has been tiled, labelled, looked at by ``qc`` and split.
    """
    by_slide = {record.slide_id: record for record in records}
    rows = []
    for truth in cohort.truths:
        slide_id = truth.slide.slide_id
        tiles = read_manifest(run.path, slide_ids=[slide_id]).to_pandas()
        rows.append(_row(truth, by_slide[slide_id], tiles))
    return tuple(rows)


def _row(truth: DemoTruth, record: SlideRecord, tiles: pd.DataFrame) -> DemoRow:
    drawn = _shares(_painted(truth), tiles)
    labelled = tiles.get(f"label_share_{TUMOUR}", pd.Series(0.0, index=tiles.index))
    ink = np.zeros(len(tiles)) if truth.ink is None else _shares(truth.ink, tiles)
    pen = tiles["qc_pen"].to_numpy(dtype=bool)
    return DemoRow(
        truth=truth,
        tiles=len(tiles),
        tissue=float(record.values["tissue_share"]),
        label_error=float(np.abs(labelled.to_numpy() - drawn).max(initial=0)),
        tumour_tiles=int((tiles["label"] == TUMOUR).sum()),
        inked=int((ink >= INKED).sum()),
        inked_unmarked=int(((ink >= INKED) & ~pen).sum()),
        marked_without_ink=int((pen & (ink == 0)).sum()),
        unfocused=bool(tiles["qc_unfocused"].all()),
        outliers=int(tiles["outlier"].sum()),
        split=", ".join(map(str, sorted(tiles["split"].unique()))),
        sharpness=float(tiles["laplacian_var"].median()),
    )


def _painted(truth: DemoTruth) -> NDArray[np.uint8]:
    """Return 1 where tumour was drawn, level-0 pixels."""
    size: Size = truth.slide.size
    plane = np.zeros((size.height, size.width), np.uint8)
    for outline in truth.tumours:
        cv2.fillPoly(plane, [np.rint(outline).astype(np.int32)], (1,))
    return plane


def _shares(
    plane: NDArray[np.uint8] | NDArray[np.bool_], tiles: pd.DataFrame
) -> NDArray[np.float64]:
    """Return the share of every tile's footprint that is set; what reaches past the slide is not."""
    height, width = plane.shape
    sums = cv2.integral(plane.astype(np.uint8), sdepth=cv2.CV_64F)
    x, y = tiles["x"].to_numpy(), tiles["y"].to_numpy()
    x_end, y_end = x + tiles["width"].to_numpy(), y + tiles["height"].to_numpy()
    left, right = x.clip(0, width), x_end.clip(0, width)
    top, bottom = y.clip(0, height), y_end.clip(0, height)
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(inside / ((x_end - x) * (y_end - y)), np.float64)
