"""Columns of what sweeps write."""

import pyarrow as pa

from wsi_pipeline.schema import columns_of

_SCORES = ("accuracy", "balanced_accuracy", "auroc", "log_loss", "brier", "ece")

SWEEP_COLUMNS = (
    *columns_of(
        ("shift", pa.string(), "Kind of change, such as box_blur"),
        (
            "apply_at",
            pa.string(),
            "What was changed: source, the stored tile, or input, the image of the network's size",
        ),
        ("level", pa.float64(), "How far, as the kind of change counts it"),
        ("is_clean", pa.bool_(), "Whether nothing was changed: the plain evaluation"),
        ("tiles", pa.int64(), "Tiles that count: they have a label and a weight above 0"),
        (
            "laplacian_var_mean",
            pa.float64(),
            "Mean over tiles of the variance of the Laplacian of what was changed",
        ),
        ("laplacian_var_q25", pa.float64(), "Its 25 % quantile"),
        ("laplacian_var_median", pa.float64(), "Its median"),
        ("laplacian_var_q75", pa.float64(), "Its 75 % quantile"),
    ),
    *columns_of(*((name, pa.float64(), "As in metrics.parquet") for name in _SCORES)),
)
"""One row per level, in models/NAME/sweeps/PART-SHIFT-PLACE.parquet; recall_CLASS of every class follows."""

CURVE_COLUMNS = columns_of(
    ("arm", pa.string(), "Name of the repeats without their number"),
    ("shift", pa.string(), "As in sweeps"),
    ("apply_at", pa.string(), "As in sweeps"),
    ("level", pa.float64(), "As in sweeps"),
    ("is_clean", pa.bool_(), "As in sweeps"),
    ("score", pa.string(), "Name of a column of sweeps"),
    ("repeats", pa.int64(), "Networks with that score"),
    ("mean", pa.float64(), "Of the score over repeats"),
    ("std", pa.float64(), "Its standard deviation, of n - 1; null of a single network"),
    ("laplacian_var", pa.float64(), "Mean over repeats of laplacian_var_median"),
)
"""One row per level and score of several networks' sweeps."""

DRAW_COLUMNS = columns_of(
    ("level", pa.float64(), "As in sweeps"),
    ("score", pa.string(), "As in tables of scores, of tiles"),
    ("cutoff", pa.string(), "As in tables of scores"),
    ("value", pa.float64(), "Of all tiles; NaN where it cannot be said"),
    ("patients", pa.int64(), "How many are drawn from"),
    ("effective", pa.float64(), "What those count for that the score rests on"),
    ("tiles", pa.string(), "Digest of the tiles, their labels and weights"),
    (
        "draws",
        pa.list_(pa.float32()),
        "The score of each draw of patients: the same patients at every level and for every network; NaN "
        "where it cannot be said",
    ),
)
"""One row per level and score, in models/NAME/sweeps/draws/PART-SHIFT-PLACE.parquet; made by studies."""
