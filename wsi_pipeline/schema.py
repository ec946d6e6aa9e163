"""Columns, types and meanings of every table that a run writes."""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = "1"

CHANNELS = ("gray", "red", "green", "blue", "hue", "saturation", "brightness")
"""Of every tile, in this order."""

QUANTILES = (5, 10, 25, 50, 75, 90, 95)
"""In percent, over tissue pixels."""

_WORD = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type: pa.DataType
    meaning: str


def columns_of(*rows: tuple[str, pa.DataType, str]) -> tuple[Column, ...]:
    """Return columns of name, type and meaning."""
    return tuple(Column(name=name, type=kind, meaning=meaning) for name, kind, meaning in rows)


def _channel_columns() -> tuple[Column, ...]:
    ranges = dict.fromkeys(CHANNELS, "0 to 255") | {"hue": "0 to 179"}
    spreads = [
        (
            f"{name}_{what}",
            pa.float32(),
            f"{words} of {name} over the tile's 64 x 64 sample, {ranges[name]}",
        )
        for name in CHANNELS
        for what, words in (("mean", "Mean"), ("std", "Standard deviation"))
    ]
    quantiles = [
        (
            f"{name}_q{percent}",
            pa.uint8(),
            f"{percent} % quantile of {name} over the tissue pixels of the sample",
        )
        for name in CHANNELS
        for percent in QUANTILES
    ]
    return columns_of(*spreads, *quantiles)


METRIC_COLUMNS = (
    *columns_of(
        (
            "laplacian_var",
            pa.float32(),
            "Variance of the Laplacian (3 x 3, ksize 1) of the uncompressed gray tile: the paper's "
            "sharpness; its root is HistoPrep's laplacian_std",
        ),
        (
            "background",
            pa.float32(),
            "Share of pixels whose blurred gray is on the background's side of the slide's tissue threshold",
        ),
        ("black_pixels", pa.float32(), "Share of pixels with gray 0"),
        ("white_pixels", pa.float32(), "Share of pixels with gray 255"),
    ),
    *_channel_columns(),
)
"""Null where the tile could not be read."""

TILE_COLUMNS = (
    *columns_of(
        ("slide_id", _WORD, "The slide; unique in the run"),
        (
            "tile",
            pa.int32(),
            "Index in the slide's Zarr array; row-major order of the grid",
        ),
        (
            "x",
            pa.int32(),
            "Left edge in level-0 pixels of the whole canvas, as OpenSlide counts",
        ),
        ("y", pa.int32(), "Top edge in level-0 pixels"),
        ("width", pa.int32(), "Level-0 pixels covered; may reach past the slide at the edge"),
        ("height", pa.int32(), "Level-0 pixels covered"),
        ("level", pa.int8(), "Pyramid level that was read"),
        ("mpp", pa.float32(), "µm per stored pixel; null where the slide does not say"),
        ("tissue", pa.float32(), "Share of the footprint that is tissue in the slide's mask"),
        ("status", _WORD, "ok or unreadable; later stages add outlier"),
        ("reason", _WORD, "Why the status is not ok"),
        (
            "crc32c",
            pa.uint32(),
            "Checksum of the stored bytes, compared by verify; null where nothing is stored",
        ),
    ),
    *METRIC_COLUMNS,
)
"""One row per tile, in manifest/SLIDE.parquet."""

SLIDE_COLUMNS = columns_of(
    (
        "slide_id",
        pa.string(),
        "Unique in the run; the name of the slide's array, manifest and overlay",
    ),
    ("path", pa.string(), "Where the slide was read"),
    ("status", pa.string(), "done, failed or skipped"),
    ("reason", pa.string(), "Why it failed or was skipped, or what is to be known of a done slide"),
    ("tiles", pa.int32(), "Tiles stored: rows of the manifest, length of the array"),
    ("tiles_unreadable", pa.int32(), "Tiles among them that could not be read"),
    (
        "tiles_grid",
        pa.int32(),
        "Tiles of the whole grid, before those with little tissue were left out",
    ),
    ("backend", pa.string(), "What read the file"),
    ("format", pa.string(), "File format or vendor"),
    ("width", pa.int32(), "Level-0 pixels of the whole canvas"),
    ("height", pa.int32(), "Level-0 pixels of the whole canvas"),
    ("levels", pa.int8(), "Pyramid levels"),
    ("mpp_x", pa.float32(), "µm per level-0 pixel; null where unknown"),
    ("mpp_y", pa.float32(), "µm per level-0 pixel; null where unknown"),
    ("mpp_note", pa.string(), "Where µm per pixel comes from, or why there is none"),
    ("bounds_x", pa.int32(), "Scanned part in level-0 pixels: left edge"),
    ("bounds_y", pa.int32(), "Scanned part: top edge"),
    ("bounds_width", pa.int32(), "Scanned part: width"),
    ("bounds_height", pa.int32(), "Scanned part: height"),
    ("objective_power", pa.float32(), "As the file states it; never used to guess µm per pixel"),
    ("scanner", pa.string(), "From the slide table, else the file's scanner name or serial"),
    ("level", pa.int8(), "Pyramid level that was read"),
    ("mpp", pa.float32(), "µm per stored pixel"),
    ("tissue_threshold", pa.int16(), "Grey level between tissue and background"),
    ("dark_field", pa.bool_(), "Tissue is bright on black (fluorescence)"),
    ("tissue_share", pa.float32(), "Share of the scanned part that is tissue"),
    ("stored_bytes", pa.int64(), "Size of the slide's shards"),
    ("size_bytes", pa.int64(), "Size of the slide file"),
    ("mtime_ns", pa.int64(), "Modification time of the slide file"),
    ("fingerprint", pa.string(), "SHA-256 over size and 17 samples of the slide's files"),
    ("source_crc32c", pa.int64(), "CRC-32C of every byte of the slide's files"),
    ("config_digest", pa.string(), "Digest of the settings that made it"),
    ("seconds", pa.float32(), "Work, summed over workers"),
    ("seconds_open", pa.float32(), "of which opening the file"),
    ("seconds_mask", pa.float32(), "of which overview, mask and grid"),
    ("seconds_decode", pa.float32(), "of which reading and decoding pixels"),
    ("seconds_metrics", pa.float32(), "of which metrics"),
    ("seconds_encode", pa.float32(), "of which encoding"),
    ("seconds_write", pa.float32(), "of which writing"),
    ("icc_profile", pa.binary(), "The file's colour profile; never applied"),
)
"""One row per slide, in slides.parquet; the columns of the user's slide table follow."""


IMPORTED = "import"
"""``backend`` of a slide whose tiles existed already: there is no overview of it, so no overlay."""

IMPORT_COLUMNS = columns_of(
    (
        "source_path",
        pa.string(),
        "The image's file, relative to the source, or the name that stood beside it in a Parquet file",
    ),
)
"""Of a run that was imported: in the manifest, with the other columns of the source."""

IMPORT_SLIDE_COLUMNS = columns_of(
    ("tiles_kept", pa.int64(), "Tiles whose bytes are those of the JPEG file that was imported"),
    ("tiles_encoded", pa.int64(), "Tiles that were encoded anew: no JPEG, or one of four inks"),
)
"""Of a run that was imported: in slides.parquet, where a row is an array."""

SLIDE_WORDS = ("patient_id", "scanner", "centre")
"""Columns of slides.parquet that every later stage copies into the manifest, where it is queried."""

STAGE_COLUMNS = {
    "label": ("label", "label_value", "label_share_*"),
    "qc": ("outlier", "outlier_reason", "cluster", "qc_*"),
    "split": ("split", "split_*", "fold", "fold_*"),
}
"""Columns of the manifest by the stage that writes them, as patterns; they follow tiling's in this order."""

STAGE_CHANGES = {"qc": ("status", "reason")}
"""Columns of tiling that a later stage writes anew, in their place."""

QC_COLUMNS = columns_of(
    ("outlier", pa.bool_(), "A rule or a marked cluster says so; status is then outlier"),
    (
        "outlier_reason",
        _WORD,
        'Names of the rules and the marked cluster, joined by "; "; null where there is none',
    ),
    (
        "cluster",
        pa.int16(),
        "Cluster of tiles with alike metrics, 0 the least sharp; null without metrics or clusters",
    ),
    (
        "qc_sharpness",
        pa.float32(),
        "log10 of laplacian_var / (1 - background): sharpness over tissue; null with too little tissue",
    ),
    (
        "qc_blur_slide_z",
        pa.float32(),
        "Spreads of qc_sharpness above the median of the slide's tiles",
    ),
    ("qc_blur_scanner_z", pa.float32(), "The same against all tiles of the scanner"),
    (
        "qc_unfocused_z",
        pa.float32(),
        "The slide's median of qc_sharpness against those of the scanner's slides; null with too few slides",
    ),
    ("qc_white_excess", pa.float32(), "Share of white pixels beyond padding and glass"),
    (
        "qc_fold_z",
        pa.float32(),
        "The smaller of spreads darker (gray_q50) and more saturated (saturation_q50) than the slide, less "
        "those bluer (hue_q50)",
    ),
    ("qc_ink", _WORD, "green, blue, black or red; null where nothing is written"),
    ("qc_blur", pa.bool_(), "Less sharp than slide and scanner, or far less than the scanner"),
    ("qc_unfocused", pa.bool_(), "All of the slide is out of focus against its scanner's"),
    ("qc_black", pa.bool_(), "Black pixels: data were lost"),
    ("qc_white", pa.bool_(), "White pixels that are neither glass nor padding"),
    ("qc_pen", pa.bool_(), "Ink covers tissue"),
    ("qc_background", pa.bool_(), "Nearly all glass"),
    (
        "qc_fold",
        pa.bool_(),
        "Darker and more saturated than the slide at the same hue: tissue lies double",
    ),
    ("qc_gray", pa.bool_(), "Without colour"),
)
"""What ``qc`` adds to manifest/SLIDE.parquet."""
SPLIT_COLUMNS = columns_of(
    ("split", _WORD, "train, validation or test; split_2 and so on of further repeats"),
    (
        "fold",
        pa.int8(),
        "Fold in which the tile is the validation part, from 0; null in the test part; fold_2 and so on",
    ),
)
"""What split adds to the manifest."""

SPLIT_TABLE_COLUMNS = columns_of(
    ("slide_id", pa.string(), "The slide"),
    ("patient_id", pa.string(), "Its patient; null where unknown"),
    ("group", pa.string(), "What was not divided: names of patients, slides or centres"),
    ("repeat", pa.int16(), "Number of the draw, from 1"),
    ("split", pa.string(), "train, validation or test"),
    ("fold", pa.int8(), "Fold from 0; null without folds and in the test part"),
    ("scanner", pa.string(), "As in slides.parquet"),
    ("centre", pa.string(), "As in slides.parquet"),
    ("tiles", pa.int32(), "Tiles of the slide"),
)
"""One row per slide and repeat, in splits.parquet and splits.csv."""


LABEL_COLUMNS = columns_of(
    (
        "label",
        _WORD,
        "The tile's class by the rule, or the slide's label; null where there is none",
    ),
    (
        "label_value",
        pa.float64(),
        "The slide's label where it is a number; only with slide_label",
    ),
    (
        "label_share_CLASS",
        pa.float32(),
        "Share of the footprint that the class covers, 0 to 1, a column for each class; null where the slide "
        "has no annotation that could be read",
    ),
)
"""What label adds to the manifest."""


PREDICTION_COLUMNS = columns_of(
    ("slide_id", _WORD, "As in the manifest"),
    ("tile", pa.int32(), "As in the manifest"),
    ("target", pa.int64(), "Number of the tile's class; null without a label"),
    (
        "weight",
        pa.float32(),
        "What the tile counts for in scores; 1 if no column of weights was given",
    ),
    (
        "logit",
        pa.float32(),
        "What the network says: of the second of two classes, or a list with one of each class",
    ),
    (
        "probability",
        pa.float32(),
        "The same as a probability: of the second of two classes, or a list",
    ),
)
"""One row per tile, in models/NAME/predictions/WHAT.parquet; columns of the manifest follow."""

SCORE_COLUMNS = columns_of(
    ("unit", _WORD, "What is scored: tile, slide or patient"),
    (
        "aggregate",
        _WORD,
        "How tiles become a slide: mean, max or top_k (mean of the ten largest) of the probability, or share "
        "of positive tiles; none of tiles. A patient is the mean of the slides, of max the largest",
    ),
    (
        "by",
        _WORD,
        "all, scanner, centre, patient_id or slide_id: what the units have in common",
    ),
    ("group", _WORD, "Which scanner, centre, patient or slide; all"),
    (
        "cutoff",
        _WORD,
        "0.5, or validation: where balanced accuracy on validation tiles is largest; none of scores without "
        "one, and of more than two classes, whose likeliest is taken",
    ),
    (
        "score",
        _WORD,
        "Name of the score; of two classes recall, specificity, precision, f1, auroc and auprc are those of "
        "the second, of more there is NAME_macro, the mean over classes, and NAME_CLASS",
    ),
    ("value", pa.float64(), "The score; null where it cannot be said"),
    (
        "low",
        pa.float64(),
        "Lower end of its interval by drawing whole patients; null where there is none",
    ),
    ("high", pa.float64(), "Upper end"),
    ("level", pa.float64(), "Probability that the interval is made to hold the truth with"),
    ("tiles", pa.int64(), "Labelled tiles of the group"),
    ("slides", pa.int64(), "Their slides"),
    ("patients", pa.int64(), "Their patients"),
    ("note", pa.string(), "What a reader of the row has to know; empty where there is nothing"),
)
"""One row per score, in models/NAME/predictions/WHAT.scores.parquet."""


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of a table."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])
