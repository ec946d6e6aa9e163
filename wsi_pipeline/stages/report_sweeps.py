"""Scores under graded changes of the images, on the page: curves of arms beside how sharp tiles still are."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.evaluate.sweep.shift_config import SHIFTS
from wsi_pipeline.evaluate.sweep.table import curves
from wsi_pipeline.files import exists, names_below
from wsi_pipeline.report.parts import Cell, Field, Lines, Notice, Part, Table
from wsi_pipeline.stages.evaluated import UNREADABLE, Row
from wsi_pipeline.tables import read_table

MOST_DRAWN = 12
"""Sweeps with figures; of further ones the page has the names."""

_MOST_ARMS = 7  # one look is left for the sharpness
_SCORES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}


def sweeps(folders: Sequence[Path]) -> list[Part]:
    """Return figures and a table of every sweep, the models of a run together.

    Parameters
    ----------
    folders
        Of models.
    """
    found: dict[str, dict[str, list[pa.Table]]] = defaultdict(dict)
    parts: list[Part] = []
    for model in folders:
        try:
            for what, table in _sweeps_of(model):
                found[what][model.name] = [table]
        except UNREADABLE as error:
            text = f"Sweeps of model {model.name} cannot be read: {error}"
            parts.append(Notice(text=text, kind="warning"))
    for what in sorted(found)[:MOST_DRAWN]:
        parts += _shown(what, curves(found[what]).to_pylist())
    if left := sorted(found)[MOST_DRAWN:]:
        parts.append(Notice(text=f"Not drawn: {len(left)} more sweeps, {', '.join(left)}."))
    return parts


def _sweeps_of(model: Path) -> Iterator[tuple[str, pa.Table]]:
    folder = model / "sweeps"
    for name in sorted(names_below(folder)) if exists(folder) else ():
        if name.endswith(".parquet") and not name.startswith("."):
            yield name.removesuffix(".parquet"), read_table(folder / name)


def _shown(what: str, rows: Sequence[Row]) -> Iterator[Part]:
    arms = sorted({row["arm"] for row in rows})
    if not rows:
        return
    for score in _SCORES:
        own = [row for row in rows if row["score"] == score and row["mean"] is not None]
        if own:
            yield _curves(what, score, own, arms)
    yield _table(what, rows, arms)


def _curves(what: str, score: str, rows: Sequence[Row], arms: Sequence[str]) -> Lines:
    """Return a curve of each arm, a standard deviation of its repeats around it, and the sharpness."""
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in arms[:_MOST_ARMS]}
    spread = {arm: _column(own, "std") for arm, own in by_arm.items()}
    means = {arm: _column(own, "mean") for arm, own in by_arm.items()}
    longest = max(by_arm.values(), key=len)
    sharp = _column(longest, "laplacian_var")
    right = {"sharpness": (_column(longest, "level"), sharp)} if np.isfinite(sharp).any() else {}
    return Lines(
        title=f"{what}: {_SCORES[score]}",
        x_label=_level_of(rows[0]),
        y_label=_SCORES[score],
        series={arm: (_column(own, "level"), means[arm]) for arm, own in by_arm.items()},
        bands={
            arm: (means[arm] - std, means[arm] + std)
            for arm, std in spread.items()
            if np.isfinite(std).any()
        },
        right=right,
        right_label="median variance of the Laplacian of the tiles",
    )


def _level_of(row: Row) -> str:
    known = SHIFTS.get(row["shift"])
    return "level" if known is None else known.level


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    values: list[Any] = [row[name] for row in rows]
    return np.array([np.nan if each is None else each for each in values], np.float64)


def _table(what: str, rows: Sequence[Row], arms: Sequence[str]) -> Table:
    cells = {(row["level"], row["arm"], row["score"]): _text(row) for row in rows}
    sharp = {row["level"]: row["laplacian_var"] for row in rows}
    pairs = [
        (arm, score)
        for arm in arms
        for score in _SCORES
        if any((level, arm, score) in cells for level in sharp)
    ]
    fields = (
        Field(label=_level_of(rows[0])),
        Field(label="sharpness", kind="number", digits=1),
        *(Field(label=f"{arm}: {_SCORES[score]}") for arm, score in pairs),
    )
    table: list[tuple[Cell, ...]] = [
        (_level_text(level, rows), sharp[level], *(cells.get((level, *pair)) for pair in pairs))
        for level in sorted(sharp)
    ]
    caption = f"{what}: mean of the repeats ± standard deviation between them"
    return Table(caption=caption, fields=fields, rows=table)


def _level_text(level: float, rows: Sequence[Row]) -> str:
    is_clean = any(row["is_clean"] for row in rows if row["level"] == level)
    return f"{level:g}, as it is" if is_clean else f"{level:g}"


def _text(row: Mapping[str, Any]) -> str | None:
    if row["mean"] is None:
        return None
    spread = "" if row["std"] is None else f" ± {row['std']:.3f}"
    return f"{row['mean']:.3f}{spread}"
