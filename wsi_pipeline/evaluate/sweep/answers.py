"""What networks are asked along sweeps, and what they say, as rows. No torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.evaluate.ask.asked_tiles import AskedTiles
from wsi_pipeline.evaluate.ask.part_files import PartFiles
from wsi_pipeline.evaluate.score.nested import Drawn
from wsi_pipeline.evaluate.sweep.patients import SweepPatients
from wsi_pipeline.evaluate.sweep.shift_config import Place, Sweep, shift_of
from wsi_pipeline.evaluate.sweep.table import level_scores

AT_ONCE_BYTES = 2**28
"""Of answers that are judged together: levels are read side by side as far as they fit, one at the least."""

_AT_ONCE_TILES = 2**16  # rows of a group of the table of tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of one change at one place; the clean level is the same of every change."""

    apply_at: Place
    shift: str = ""
    """No change if empty."""
    level: float = 0.0

    @property
    def name(self) -> str:
        """In columns of a table of tiles."""
        return f"{self.shift}_{self.level:g}_{self.apply_at}" if self.shift else self.apply_at

    @property
    def sharpness(self) -> str:
        """Column of parts: the variance of the Laplacian of what was changed."""
        return f"sharpness of {self._words}"

    def logits(self, model: str) -> str:
        """Return the column of parts of a network's logits."""
        return f"logits of {self._words} by {model}"

    @property
    def _words(self) -> str:
        return f"{self.shift} {self.level!r} {self.apply_at}"


def level_of(shift: str, place: Place, level: float) -> Level:
    """Return a level of a change; where it leaves images as they are it is that of any change."""
    if level == shift_of(shift).clean:
        return Level(apply_at=place)
    return Level(apply_at=place, shift=shift, level=level)


def said_of(levels: Iterable[Level]) -> list[dict[str, Any]]:
    """Return levels as JSON has them."""
    return [asdict(each) for each in levels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Whose answers are judged, and by what."""

    model: str
    tiles: AskedTiles = field(repr=False)
    classes: tuple[str, ...]
    patients: SweepPatients | None = field(repr=False)
    """Are drawn at every level; None: there are no draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one network is worth at one level."""

    row: Mapping[str, Any]
    """See ``sweep.table.level_scores``."""
    drawn: Drawn | None = field(repr=False)


def judgements(
    parts: PartFiles, levels: Sequence[Level], listeners: Sequence[Listener]
) -> Iterator[dict[tuple[str, Level], Judgement]]:
    """Yield what networks are worth, by model and level, some levels at a time.

    Memory holds the answers of these levels, ``AT_ONCE_BYTES``, and what one network's scores need beside.

    Parameters
    ----------
    parts
        All there.
    levels
        That were asked.
    listeners
        The networks.

    Raises
    ------
    PipelineError
        A logit is not a finite number.
    """
    numbers = 1 + sum(len(each.classes) for each in listeners)  # of a tile at a level, at the most
    block = max(1, AT_ONCE_BYTES // (4 * numbers * parts.cut.tiles))
    for begin in range(0, len(levels), block):
        yield _judged(parts, levels[begin : begin + block], listeners)


def _judged(
    parts: PartFiles, levels: Sequence[Level], listeners: Sequence[Listener]
) -> dict[tuple[str, Level], Judgement]:
    names = [each.sharpness for each in levels]
    names += [level.logits(each.model) for level in levels for each in listeners]
    answers = parts.whole(names)
    found: dict[tuple[str, Level], Judgement] = {}
    for level in levels:
        for each in listeners:
            logits, sharpness = answers[level.logits(each.model)], answers[level.sharpness]
            row = level_scores(
                logits,
                targets=each.tiles.targets,
                weights=each.tiles.weights,
                sharpness=sharpness,
                classes=each.classes,
            )
            drawn = None if each.patients is None else each.patients.drawn(logits)
            found[each.model, level] = Judgement(row=row, drawn=drawn)
    return found


def rows_of(
    sweep: Sweep, place: Place, found: Mapping[Level, Judgement]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a sweep's levels that were asked."""
    clean = shift_of(sweep.shift).clean
    for level in sweep.levels:
        judged = found.get(level_of(sweep.shift, place, level))
        if judged is not None:
            where = {"shift": sweep.shift, "apply_at": place, "level": level}
            yield {**where, "is_clean": level == clean, **judged.row}


def draws_of(sweep: Sweep, place: Place, found: Mapping[Level, Judgement]) -> dict[float, Drawn]:
    """Return what came of draws of patients at a sweep's levels, where they were drawn."""
    asked = {each: found.get(level_of(sweep.shift, place, each)) for each in sweep.levels}
    known = {each: judged.drawn for each, judged in asked.items() if judged is not None}
    return {each: drawn for each, drawn in known.items() if drawn is not None}


def tile_pieces(
    parts: PartFiles, levels: Sequence[Level], model: str, tiles: AskedTiles
) -> Iterator[pa.Table]:
    """Yield each tile's logits and sharpness at every level, one row per tile, some tiles at a time."""
    size = parts.cut.batches * parts.cut.batch_size
    together = max(1, _AT_ONCE_TILES // size)
    columns = [name for level in levels for name in (level.logits(model), level.sharpness)]
    for begin in range(0, len(parts.cut), together):
        numbers = range(begin, min(begin + together, len(parts.cut)))
        pieces = [parts.read_columns(number, columns) for number in numbers]
        rows = slice(parts.cut.rows(numbers[0]).start, parts.cut.rows(numbers[-1]).stop)
        said = {name: np.concatenate([each[name] for each in pieces]) for name in columns}
        yield _tile_table(tiles, rows, levels, model, said)


def _tile_table(
    tiles: AskedTiles,
    rows: slice,
    levels: Sequence[Level],
    model: str,
    said: Mapping[str, NDArray[np.float32]],
) -> pa.Table:
    targets = tiles.targets[rows]
    columns: dict[str, Any] = {
        "slide_id": [tiles.rows.slide_id(row) for row in range(rows.start, rows.stop)],
        "tile": tiles.rows.tile[rows],
        "target": pa.array(targets, mask=targets < 0),
        "weight": tiles.weights[rows],
    }
    for level in levels:
        logits = said[level.logits(model)]
        columns[f"logit_{level.name}"] = logits if logits.ndim == 1 else list(logits)
        columns[f"laplacian_var_{level.name}"] = said[level.sharpness]
    return pa.table(columns)
