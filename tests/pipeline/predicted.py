"""Predictions that are invented: what a network would say of a run's tiles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from wsi_pipeline.manifest import read_manifest
from wsi_pipeline.tables import write_table

TWO = ("benign", "cancer")


def predict(  # noqa: PLR0913
    run: Path,
    logits_of: Callable[[pd.DataFrame], Any],
    *,
    classes: tuple[str, ...] = TWO,
    targets_of: Callable[[pd.DataFrame], Any] | None = None,
    name: str = "test",
    on: Path | None = None,
    places: bool = False,
) -> Path:
    """Write predictions of every tile of a run, as if a network of ``classes`` had been asked.

    ``logits_of`` takes the manifest and returns a number for each tile, or one for each class. Without
    ``targets_of`` no tile has a label. With ``places`` the table says where tiles lie.
    """
    box = ["x", "y", "width", "height"]
    tiles = read_manifest(on or run, columns=["slide_id", "tile", *box]).to_pandas()
    logits = np.asarray(logits_of(tiles), np.float32)
    known = targets_of is not None
    targets = np.asarray(targets_of(tiles) if targets_of else np.zeros(len(tiles)), np.int64)
    columns = {
        "slide_id": pa.array(tiles["slide_id"].astype(str)).dictionary_encode(),
        "tile": pa.array(tiles["tile"].to_numpy(np.int32)),
        "target": pa.array(targets, mask=np.full(len(tiles), not known)),
        "weight": pa.array(np.ones(len(tiles), np.float32)),
        "logit": pa.array(logits if logits.ndim == 1 else list(logits)),
        "probability": pa.nulls(len(tiles), pa.float32()),
    }
    if places:
        columns |= {each: pa.array(tiles[each].to_numpy(np.int32)) for each in box}
    path = run / "models" / "net" / "predictions" / f"{name}.parquet"
    write_table(path, pa.table(columns), metadata={"classes": json.dumps(classes)})
    return path
