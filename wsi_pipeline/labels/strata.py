"""What slides hold that every part of a split is to have its share of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError

SHARE, COUNT = "label_share_", "label_tiles_"
"""Columns of a table of slides: mean share of a class over the tiles; tiles with that label."""

MOST_VALUES = 50
"""Of a column to stratify by; a number measured on every slide is no class."""


def stratum_features(
    slides: pd.DataFrame, names: Sequence[str]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return how much of everything each slide holds, ``(slides, features)``, and names not found.

    Classes are counted in tiles' worth of them (share times tiles), values of other columns in slides. The
    number of tiles itself is always a feature.

    Raises
    ------
    ConfigError
        A column has so many values that it is no class.
    """
    features = [tiles_of(slides)[:, None]]
    lacking = []
    for name in names:
        found = _classes(slides) if name == "label" else _values(slides, name)
        if found.shape[1]:
            features.append(found)
        else:
            lacking.append(name)
    return np.hstack(features), lacking


def tiles_of(slides: pd.DataFrame) -> NDArray[np.float64]:
    """Return tiles per slide; 1 where they were not counted."""
    if "tiles" not in slides.columns:
        return np.ones(len(slides))
    return np.asarray(slides["tiles"].to_numpy(dtype=np.float64, na_value=0))


def _classes(slides: pd.DataFrame) -> NDArray[np.float64]:
    """Return tiles' worth of each class, ``(slides, classes)``."""
    for prefix, scale in ((SHARE, tiles_of(slides)), (COUNT, np.ones(len(slides)))):
        names = sorted(str(name) for name in slides.columns if str(name).startswith(prefix))
        if names:
            values = slides[names].to_numpy(dtype=np.float64, na_value=0)
            return np.asarray(np.nan_to_num(values) * scale[:, None])
    return _values(slides, "label") * tiles_of(slides)[:, None]


def _values(slides: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return 1 for the value that each slide has in a column, ``(slides, values)``."""
    if name not in slides.columns:
        return np.empty((len(slides), 0))
    codes, values = pd.factorize(slides[name].map(str, na_action="ignore"), sort=True)
    if len(values) > MOST_VALUES:
        raise ConfigError(
            f"stratify: {name} has {len(values)} values, expected {MOST_VALUES} at most; make classes of it"
        )
    return np.asarray(codes[:, None] == np.arange(len(values)), dtype=np.float64)
