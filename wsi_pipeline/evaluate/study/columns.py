"""Columns of the tables that a study writes."""

import pyarrow as pa

from wsi_pipeline.schema import Column

_RANGES = "the mean over its levels but the clean one"

_PLACE = (
    ("experiment", pa.string(), "Name in the study's file"),
    (
        "tiles",
        pa.string(),
        "Which tiles: test; reversed, where they carry the shortcut of the test; clean; the name of a shift, "
        f"{_RANGES}; or the name of another run",
    ),
    ("arm", pa.string(), "Name in the study's file"),
)
_SCORE = ("score", pa.string(), "What is measured")


def _columns(*rows: tuple[str, pa.DataType, str]) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=kind, meaning=meaning) for name, kind, meaning in rows)


STUDY_SCORE_COLUMNS = _columns(
    *_PLACE,
    ("model", pa.string(), "Of RUN/models"),
    ("seed", pa.int64(), "Of its training"),
    _SCORE,
    ("value", pa.float64(), "Null where it cannot be said"),
)
"""One row per network, tiles and score, in repeats.parquet."""

STUDY_COLUMNS = _columns(
    *_PLACE,
    _SCORE,
    ("repeats", pa.int64(), "Networks that have the score"),
    ("mean", pa.float64(), "Over repeats"),
    ("std", pa.float64(), "Standard deviation with n - 1; null of one repeat"),
    ("low", pa.float64(), "Lower end of the 95 % interval of the mean: Student's t over repeats"),
    ("high", pa.float64(), "Upper end"),
    (
        "nested_low",
        pa.float64(),
        "Lower end of the 95 % interval of the mean over seeds and patients: both are drawn; null of scores "
        "after temperature, and of one patient",
    ),
    ("nested_high", pa.float64(), "Upper end"),
    ("pairs", pa.int64(), "Seeds that the arm and the reference share; null of the reference"),
    ("difference", pa.float64(), "Mean over these of the arm's score less the reference's"),
    ("difference_low", pa.float64(), "Lower end of its 95 % interval: paired t"),
    ("difference_high", pa.float64(), "Upper end"),
    (
        "difference_nested_low",
        pa.float64(),
        "Lower end of its 95 % interval over seeds and patients, as nested_low",
    ),
    ("difference_nested_high", pa.float64(), "Upper end"),
    ("p", pa.float64(), "Of the paired t test, two-sided"),
    ("p_signs", pa.float64(), "Of the test that tries every pattern of signs of the differences"),
    ("least_p", pa.float64(), "Below which the latter cannot come with so many pairs"),
    ("paper_mean", pa.float64(), "What the paper gives"),
    ("paper_std", pa.float64(), "Its standard deviation"),
)
"""One row per experiment, tiles, arm and score, in table2.parquet and table2.csv."""
