"""Calibration, and how far it depends on who the patients are. Pure, no torch."""

from dataclasses import dataclass

import numpy as np

from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.bootstrap import LEVEL, REPLICATES, interval_of
from wsi_pipeline.evaluate.score.patient_sums import (
    drawn_means,
    effective_of_each,
    seed_of,
    summed_in_cells,
)
from wsi_pipeline.train.metrics import Calibration, Floats, bins_of, calibration, forecasts


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBand:
    """How often what is said comes true, and how far that depends on who the patients are."""

    bins: Calibration
    low: Floats
    """Of the share in each bin, ``(15,)``; NaN where fewer than two patients are in it."""
    high: Floats


def calibration_band(
    predictions: Predictions, *, replicates: int = REPLICATES, level: float = LEVEL, seed: int = 0
) -> CalibrationBand:
    """Return calibration with intervals over resampled patients; see ``metrics.calibration``.

    Raises
    ------
    PipelineError
        A logit is no finite number.
    """
    kept = predictions.labelled()
    tiles = kept.judged()
    bins = calibration(tiles)
    patients = kept.groups("patient_id")
    forecast, true = forecasts(tiles)
    shape = (len(patients.names), len(bins.weight))
    cells = patients.codes * shape[1] + bins_of(forecast)
    came = summed_in_cells(cells, tiles.weights * true, shape)
    weight = summed_in_cells(cells, tiles.weights, shape)
    drawn = drawn_means(came, weight, replicates=replicates, seed=seed_of(seed, "calibration"))
    held = (weight > 0).sum(axis=0)
    worth = effective_of_each(weight)
    found = [
        interval_of(drawn[:, at], int(there), effective=worth[at], level=level)
        for at, there in enumerate(held)
    ]
    low, high = (np.array([getattr(each, end) for each in found], float) for end in ("low", "high"))
    return CalibrationBand(bins=bins, low=low, high=high)
