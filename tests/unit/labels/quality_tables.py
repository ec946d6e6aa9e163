"""Tables of metrics that no pixels were needed for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.labels.quality import NEEDED
from wsi_pipeline.labels.quality_config import CLUSTER_METRICS

STAINED = {"red": 210, "green": 130, "blue": 180, "hue": 160, "saturation": 95, "gray": 165}
"""Grey levels of ordinary H&E."""


def tiles_of(
    seed: int, *, slides: int = 3, tiles: int = 40, scanners: tuple[str, ...] = ("A",)
) -> pd.DataFrame:
    """Return ordinary tiles: stained tissue, some glass, nothing lost; slides take turns with scanners."""
    rng = np.random.default_rng(seed)
    rows = slides * tiles
    slide = np.repeat(np.arange(slides), tiles)
    table: dict[str, Any] = {
        "slide_id": pd.Categorical([f"s{number}" for number in slide]),
        "scanner": pd.Categorical([scanners[number % len(scanners)] for number in slide]),
        "tile": np.tile(np.arange(tiles, dtype=np.int32), slides),
        "tissue": rng.uniform(0.3, 1, rows),
        "background": rng.uniform(0, 0.6, rows),
        "black_pixels": np.zeros(rows),
        "white_pixels": np.zeros(rows),
    }
    level = rng.normal(0, 0.1, rows) + 1.5 * (slide % len(scanners))  # decades; scanners differ
    table["laplacian_var"] = 10 ** (2 + level) * (1 - table["background"])
    shift = rng.normal(0, 4, rows)
    for name in NEEDED:
        channel, _, quantile = name.partition("_q")
        if quantile:
            offset = (int(quantile) - 50) / (30 if channel == "hue" else 3)
            table[name] = (STAINED[channel] + offset + shift).round()
    for name in CLUSTER_METRICS:
        table.setdefault(name, rng.normal(100, 10, rows))
    frame = pd.DataFrame(table)
    metrics = [name for name in frame if name not in ("slide_id", "scanner", "tile")]
    return frame.astype(dict.fromkeys(metrics, np.float32))


def change(tiles: pd.DataFrame, row: int, values: Mapping[str, float]) -> None:
    """Set metrics of one tile."""
    for name, value in values.items():
        tiles.loc[row, name] = value


def dim(tiles: pd.DataFrame, rows: NDArray[np.bool_], factor: float) -> None:
    """Take sharpness from some tiles."""
    sharpness = tiles["laplacian_var"].to_numpy(copy=True)
    sharpness[rows] *= factor
    tiles["laplacian_var"] = sharpness
