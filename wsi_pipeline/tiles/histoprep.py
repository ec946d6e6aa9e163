"""Folders that HistoPrep 2 has written: SLIDE/tiles/x0_y0_w512_h512.jpeg beside SLIDE/metadata.parquet.

Format from HistoPrep 2.0.5, ``SlideReader.save_regions``: coordinates ``x, y, w, h`` are level-0 pixels,
``path`` is absolute as of the day it was written, ``properties.json`` names the level.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.tiles.image_table import read_rows

_METADATA = ("metadata.parquet", "metadata.csv")
_PICTURES = ("tiles", "spots")
_LEVEL0 = {"x": "x", "y": "y", "w": "width", "h": "height"}


def histoprep_slides(path: Path) -> list[Path]:
    """Return the folders of slides, by name: the folder itself, or those in it; none where it is another."""
    if _is_slide(path):
        return [path]
    return [each for each in sorted(path.iterdir()) if each.is_dir() and _is_slide(each)]


def histoprep_table(path: Path, slides: list[Path]) -> pa.Table:
    """Return one row per tile of several slides: ``source_path`` relative to ``path``, and its columns.

    Raises
    ------
    ConfigError
        A slide's table cannot be read, or names no coordinates.
    """
    tables = [_slide_table(path, slide) for slide in slides]
    return pa.concat_tables(tables, promote_options="permissive")


def _is_slide(folder: Path) -> bool:
    return _metadata(folder) is not None and _pictures(folder) is not None


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _pictures(folder: Path) -> str | None:
    return next((name for name in _PICTURES if (folder / name).is_dir()), None)


def _slide_table(path: Path, slide: Path) -> pa.Table:
    metadata = _metadata(slide) or slide / _METADATA[0]
    table = read_rows(metadata)
    if lacking := sorted({*_LEVEL0, "path"} - set(table.column_names)):
        raise ConfigError(
            f"{metadata}: expected HistoPrep's columns x, y, w, h and path, got none called "
            f"{', '.join(lacking)}"
        )
    above = slide.relative_to(path).as_posix()
    below = f"{'' if above == '.' else above + '/'}{_pictures(slide)}"
    # The files are where the folder is today, not where it was when HistoPrep wrote their paths.
    names = [f"{below}/{_file_name(text)}" for text in table.column("path").to_pylist()]
    table = table.drop_columns(["path"]).rename_columns(
        [_LEVEL0.get(name, name) for name in table.column_names if name != "path"]
    )
    columns: dict[str, Any] = {
        "source_path": pa.array(names, type=pa.string()),
        "slide_id": pa.array([slide.name] * len(table), type=pa.string()),
        **{name: table.column(name) for name in table.column_names},
    }
    if (level := _level(slide)) is not None:
        columns["level"] = pa.array(np.full(len(table), level, dtype=np.int8))
    return pa.table(columns)


def _file_name(text: object) -> str:
    return str(text).replace("\\", "/").rpartition("/")[2]


def _level(slide: Path) -> int | None:
    """Return the pyramid level that HistoPrep read, or None where it does not say."""
    try:
        level = json.loads((slide / "properties.json").read_bytes())["level"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return level if isinstance(level, int) else None
