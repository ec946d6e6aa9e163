"""The table that rules look at, put together from a run, and what they say, ready for the manifest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.labels.quality import NEEDED, RULES
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.manifest import read_manifest
from wsi_pipeline.stages.columns import Columns
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord

_FOOTPRINT = ("x", "y", "width", "height")
_STATUSES = ("ok", "unreadable", "outlier")
_NUMBERS = (
    "qc_sharpness",
    "qc_blur_slide_z",
    "qc_blur_scanner_z",
    "qc_unfocused_z",
    "qc_white_excess",
    "qc_fold_z",
)


def read_tiles(run: RunDirectory, records: Sequence[SlideRecord], config: QcConfig) -> pd.DataFrame:
    """Return every tile of done slides, slides in order of name, with what rules and clusters look at."""
    names = dict.fromkeys([*NEEDED, *config.cluster_metrics, *_FOOTPRINT, "status", "reason"])
    ids = [record.slide_id for record in records]
    tiles = read_manifest(run.path, columns=list(names), slide_ids=ids).to_pandas()
    tiles["slide_id"] = tiles["slide_id"].astype(pd.CategoricalDtype(ids))
    places = tiles["slide_id"].cat.codes.to_numpy()
    tiles["padded"] = _padded(tiles, records, places)
    scanners = pd.Categorical([scanner_of(record) for record in records])
    tiles["scanner"] = scanners.take(places) if len(records) else None
    dark = np.array([bool(record.values.get("dark_field")) for record in records], np.bool_)
    tiles["dark_field"] = dark[places]
    return tiles.drop(columns=list(_FOOTPRINT))


def scanner_of(record: SlideRecord) -> str | None:
    """Return a slide's scanner as text, whatever the user's table calls it, or None where nobody knows."""
    scanner = record.values.get("scanner")
    return None if scanner is None or pd.isna(scanner) else str(scanner)


def is_readable(tiles: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether every tile has pixels."""
    return np.asarray((tiles["status"] != "unreadable").to_numpy(), np.bool_)


def with_status(tiles: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Return what was judged with ``status`` and ``reason`` as the manifest is to have them."""
    readable = is_readable(tiles)
    outlier = judged["outlier"].to_numpy()
    codes = np.where(readable, np.where(outlier, 2, 0), 1)
    status = pd.Categorical.from_codes(codes, categories=list(_STATUSES))  # type: ignore[call-overload]
    reason = judged["outlier_reason"]
    kept = tiles.loc[~readable, "reason"].astype(object)
    if len(kept):
        new = sorted(set(kept.dropna()) - set(reason.cat.categories))
        reason = reason.cat.add_categories(new)
        reason[~readable] = kept
    return judged.assign(status=status, reason=reason)


def manifest_columns(judged: pd.DataFrame) -> Columns:
    """Return one slide's rows as columns of its manifest."""
    words = ("status", "reason", "outlier_reason", "qc_ink")
    flags = ["outlier", *(f"qc_{rule.name}" for rule in RULES)]
    cluster = judged["cluster"].to_numpy(np.int16)
    columns: dict[str, pa.Array[Any]] = {
        **{name: _words(judged[name]) for name in ("status", "reason")},
        "outlier": pa.array(judged["outlier"].to_numpy(np.bool_)),
        "outlier_reason": _words(judged["outlier_reason"]),
        "cluster": pa.array(cluster, mask=cluster < 0),
    }
    for name in _NUMBERS:
        values = judged[name].to_numpy(np.float32)
        columns[name] = pa.array(values, mask=np.isnan(values))
    columns.update({name: _words(judged[name]) for name in words if name not in columns})
    columns.update(
        {name: pa.array(judged[name].to_numpy(np.bool_)) for name in flags if name not in columns}
    )
    return columns


def _words(column: "pd.Series[Any]") -> "pa.Array[Any]":
    """Return a categorical column as the manifest keeps words: only those that occur, in order of name."""
    used = column.cat.remove_unused_categories()
    ordered = used.cat.reorder_categories(sorted(used.cat.categories.astype(str)))
    codes = ordered.cat.codes.to_numpy(np.int32)
    texts = pa.array(ordered.cat.categories.astype(str).tolist(), type=pa.string())
    places: pa.Array[Any] = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(places, texts)


def _padded(
    tiles: pd.DataFrame, records: Sequence[SlideRecord], places: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the share of every footprint that lies past its slide's level-0 canvas.

    Of a slide whose size is not known, as of imported tiles, nothing does.
    """
    inside = np.ones(len(tiles))
    for start, length, side in (("x", "width", "width"), ("y", "height", "height")):
        sides0 = [record.values.get(side) or np.inf for record in records]
        canvas = np.array(sides0, np.float64)[places]
        first = tiles[start].to_numpy(np.float64)
        covered = tiles[length].to_numpy(np.float64)
        seen = np.minimum(first + covered, canvas) - np.maximum(first, 0)
        inside *= np.clip(seen / covered, 0, 1)
    return np.asarray(1 - inside, np.float32)
