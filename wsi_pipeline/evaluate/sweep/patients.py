"""Patients drawn at every level of a sweep, the same ones at each and for whatever network. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asked_tiles import AskedTiles
from wsi_pipeline.evaluate.predictions import Predictions, in_order, tiles_digest
from wsi_pipeline.evaluate.score.aggregate import Units
from wsi_pipeline.evaluate.score.nested import Drawn, drawn_of_units
from wsi_pipeline.evaluate.score.table import units_of
from wsi_pipeline.evaluate.sweep.columns import DRAW_COLUMNS
from wsi_pipeline.tables import read_table, table_of
from wsi_pipeline.train.metrics import judged

_ROW = "row"
_KEPT = ("slide_id", "patient_id", "tile", "target", "weight", "logit", "probability")
_AGAIN = "remove the record of its model in the study's folder units, and run the study again"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPatients:
    """Whose tiles are asked, and how often they are drawn."""

    units: Units = field(repr=False)
    """The tiles that count, in order of slide and number; what is said of them stands for nothing."""
    rows: NDArray[np.int64] = field(repr=False)
    """Their places among the tiles that are asked."""
    digest: str
    """Of the tiles, their labels and weights."""
    replicates: int

    def drawn(self, logits: NDArray[np.float32]) -> Drawn:
        """Return the scores of logits of all asked tiles, and those of draws of patients.

        Raises
        ------
        PipelineError
            A logit is not a finite number.
        """
        known = self.units.judged
        said = judged(logits[self.rows], known.targets, known.weights, classes=known.classes)
        units = replace(self.units, judged=said)
        return drawn_of_units(units, tiles=self.digest, replicates=self.replicates)


def sweep_patients(
    tiles: AskedTiles, classes: tuple[str, ...], *, replicates: int
) -> SweepPatients | None:
    """Return the patients of tiles, as ``nested.drawn_of`` draws those of predictions; None for no draws."""
    if not replicates:
        return None
    width = () if len(classes) == 2 else (len(classes),)
    table = tiles.table(slice(None), np.zeros((len(tiles), *width), np.float32))
    table = table.select([name for name in table.column_names if name in _KEPT])
    table = table.append_column(_ROW, pa.array(np.arange(len(tiles))))
    whole = in_order(Predictions(table=table, classes=classes).labelled())
    return SweepPatients(
        units=units_of(whole),
        rows=np.asarray(whole.table.column(_ROW).to_numpy(), np.int64),
        digest=tiles_digest(whole),
        replicates=replicates,
    )


def draws_table(found: Mapping[float, Drawn]) -> pa.Table:
    """Return what came of draws: a row for each level and score, ascending by level."""
    rows = [(level, drawn, key) for level, drawn in sorted(found.items()) for key in drawn.values]
    ends = np.cumsum([0, *(len(drawn.draws[key]) for _, drawn, key in rows)])
    flat = [drawn.draws[key].astype(np.float32) for _, drawn, key in rows]
    draws = pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(np.concatenate([np.zeros(0, np.float32), *flat]))
    )
    columns: dict[str, list[Any]] = {
        "level": [level for level, *_ in rows],
        "score": [key[0] for *_, key in rows],
        "cutoff": [key[1] for *_, key in rows],
        "value": [drawn.values[key] for _, drawn, key in rows],
        "patients": [drawn.patients for _, drawn, _ in rows],
        "effective": [drawn.effective[key] for _, drawn, key in rows],
        "tiles": [drawn.tiles for _, drawn, _ in rows],
    }
    *plain, last = DRAW_COLUMNS
    return table_of(tuple(plain), columns).append_column(last.name, draws)


def drawn_levels(table: pa.Table, classes: Sequence[str]) -> dict[float, Drawn]:
    """Return what ``draws_table`` was made of, draws in float32."""
    column: Any = table.column("draws").combine_chunks()
    flat, ends = np.asarray(column.flatten().to_numpy(), np.float64), column.offsets.to_numpy()
    by_level: dict[float, list[tuple[int, dict[str, Any]]]] = {}
    for number, row in enumerate(table.drop_columns(["draws"]).to_pylist()):
        by_level.setdefault(row["level"], []).append((number, row))
    return {
        level: Drawn(
            classes=tuple(classes),
            tiles=rows[0][1]["tiles"],
            values={_key(row): row["value"] for _, row in rows},
            draws={
                _key(row): flat[ends[at] - ends[0] : ends[at + 1] - ends[0]] for at, row in rows
            },
            patients=rows[0][1]["patients"],
            effective={_key(row): row["effective"] for _, row in rows},
        )
        for level, rows in by_level.items()
    }


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["score"], row["cutoff"]


def mean_drawn(levels: Sequence[Drawn]) -> Drawn:
    """Return the mean over levels, of the scores and draw by draw; NaN where one of them lacks it.

    Parameters
    ----------
    levels
        Of one network on the same tiles; at least one.
    """
    first = levels[0]
    return replace(
        first,
        values={key: float(np.mean([each.values[key] for each in levels])) for key in first.values},
        draws={key: np.mean([each.draws[key] for each in levels], axis=0) for key in first.draws},
    )


def read_drawn(
    path: Path, levels: Sequence[float], classes: Sequence[str], *, replicates: int
) -> Drawn:
    """Return the mean over some levels of a file of draws.

    Raises
    ------
    ConfigError
        There is no such file, a level is not in it, or it has more or fewer draws.
    """
    try:
        found = drawn_levels(read_table(path), classes)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; {_AGAIN}") from error
    if lacking := [each for each in levels if each not in found]:
        raise ConfigError(f"{path}: expected level {lacking[0]:g}, it is not there; {_AGAIN}")
    mean = mean_drawn([found[each] for each in levels])
    draws = {len(each) for each in mean.draws.values()}
    if draws - {replicates}:
        raise ConfigError(
            f"{path}: expected {replicates} draws of patients, got {min(draws)}; {_AGAIN}"
        )
    return mean
