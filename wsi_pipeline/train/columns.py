"""Columns of metrics.parquet, which a training writes."""

import pyarrow as pa

from wsi_pipeline.schema import columns_of

TRAINING_COLUMNS = columns_of(
    (
        "kind",
        pa.string(),
        "step: a step of the optimiser; epoch: a pass over a part at an epoch's end",
    ),
    ("part", pa.string(), "train, of epochs the probe of it; validation"),
    ("epoch", pa.int32(), "From 0"),
    ("step", pa.int64(), "Steps of the optimiser so far, this one too"),
    ("tiles", pa.int64(), "Tiles of weight above 0"),
    ("loss", pa.float64(), "What is minimised: the sum of the terms"),
    ("learning_rate", pa.float64(), "Of this step"),
    ("gradient_norm", pa.float64(), "L2 norm of all gradients before they are clipped"),
    ("seconds", pa.float64(), "Wall time of the step or pass"),
    ("tiles_per_s", pa.float64(), "Tiles a second, of all ranks"),
    ("stall_share", pa.float64(), "Share of the time that was spent waiting for tiles"),
    ("log_loss", pa.float64(), "Mean of -log(probability of the true class), nats"),
    ("accuracy", pa.float64(), "Share of tiles whose likeliest class is theirs"),
    ("balanced_accuracy", pa.float64(), "Mean recall of the classes that have tiles"),
    (
        "auroc",
        pa.float64(),
        "Area under the ROC curve, exact; of more than two classes the mean over one "
        "against the rest; null where a class has no tiles",
    ),
    (
        "brier",
        pa.float64(),
        "Mean squared error of the probability; of more than two classes the sum over them",
    ),
    ("ece", pa.float64(), "Expected calibration error over the bins of calibration_*"),
)
"""One row per step, and per epoch and part, in models/NAME/metrics.parquet; CLASS_COLUMNS follow."""

TIMED_COLUMNS = ("seconds", "tiles_per_s", "stall_share")
"""What differs between two trainings that are the same."""

_LIST = pa.list_(pa.float64())

CLASS_COLUMNS = columns_of(
    ("loss_TERM", pa.float64(), "A term of the loss"),
    ("recall_CLASS", pa.float64(), "Share of the class's tiles that are found"),
    (
        "auroc_worst",
        pa.float64(),
        "Only with a shortcut: the lowest of four AUROCs, of the second class's tiles with it or without "
        "against the first's; null where one of these groups is empty",
    ),
    (
        "calibration_weight",
        _LIST,
        "Weight of the tiles in each of 15 bins of probability: of the second of two "
        "classes, or of the likeliest of more",
    ),
    ("calibration_forecast", _LIST, "Their mean probability; null in an empty bin"),
    ("calibration_share", _LIST, "How much of the weight it came true of"),
    (
        "logit_mean_CLASS",
        pa.float64(),
        "Mean over the class's tiles of the logit, or of the second less the "
        "first; of more than two classes of the own less the largest other",
    ),
    ("logit_std_CLASS", pa.float64(), "Its standard deviation"),
    ("logit_qNN_CLASS", pa.float64(), "Its quantiles at 5, 25, 50, 75 and 95 %"),
    (
        "logit_counts_CLASS",
        _LIST,
        "Weight in 96 bins from -24 to 24; what lies beyond is in the outer ones",
    ),
    ("logit_shift_CLASS", pa.float64(), "logit_mean_CLASS less that of train in the same epoch"),
)
"""Columns of metrics.parquet that there are for each term or class, in order of name."""
