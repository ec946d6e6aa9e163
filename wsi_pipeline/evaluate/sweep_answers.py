"""What networks are asked along sweeps, and what they say, as rows. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.evaluate.asked_tiles import AskedTiles
from wsi_pipeline.evaluate.shift_config import Place, Sweep, shift_of
from wsi_pipeline.evaluate.sweep_table import level_row

_LOGITS = "logits of "


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One level of one change at one place; the clean level is the same of every change."""

    apply_at: Place
    shift: str = ""
    """No change if empty."""
    level: float = 0.0

    @property
    def name(self) -> str:
        """In columns of a table of tiles."""
        return f"{self.shift}_{self.level:g}_{self.apply_at}" if self.shift else self.apply_at


def question_of(shift: str, place: Place, level: float) -> Question:
    """Return the question of a level."""
    if level == shift_of(shift).clean:
        return Question(apply_at=place)
    return Question(apply_at=place, shift=shift, level=level)


def said_of(questions: Iterable[Question]) -> list[dict[str, Any]]:
    """Return questions as JSON has them."""
    return [asdict(each) for each in questions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What networks said of some tiles, in order of their rows."""

    sharpness: NDArray[np.float32]
    """Variance of the Laplacian of what was changed, ``(questions, tiles)``."""
    logits: Mapping[str, NDArray[np.float32]]
    """By model, ``(questions, tiles)`` or ``(questions, tiles, C)``."""

    def to_bytes(self) -> bytes:
        """Return all of it as an .npz file."""
        content = BytesIO()
        arrays: dict[str, Any] = {f"{_LOGITS}{name}": each for name, each in self.logits.items()}
        np.savez(content, **arrays, sharpness=self.sharpness)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return what ``to_bytes`` was asked of."""
        with np.load(BytesIO(content)) as arrays:
            names = [name for name in arrays.files if name.startswith(_LOGITS)]
            logits = {name.removeprefix(_LOGITS): arrays[name] for name in names}
            return cls(sharpness=arrays["sharpness"], logits=logits)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return what was said of several pieces of the tiles, one after another."""
        return cls(
            sharpness=np.concatenate([each.sharpness for each in parts], axis=1),
            logits={
                name: np.concatenate([each.logits[name] for each in parts], axis=1)
                for name in parts[0].logits
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one network said of all tiles."""

    questions: tuple[Question, ...]
    sharpness: NDArray[np.float32] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    """``(questions, tiles)`` or ``(questions, tiles, C)``."""
    tiles: AskedTiles = field(repr=False)
    classes: tuple[str, ...]

    def rows(self, sweep: Sweep, place: Place) -> list[dict[str, Any]]:
        """Return the rows of a sweep's levels that were asked.

        Raises
        ------
        PipelineError
            A logit is not a finite number.
        """
        asked = {each: number for number, each in enumerate(self.questions)}
        numbers = {
            level: asked.get(question_of(sweep.shift, place, level)) for level in sweep.levels
        }
        return [
            level_row(
                {"shift": sweep.shift, "apply_at": place, "level": level},
                logits=self.logits[number],
                targets=self.tiles.targets,
                weights=self.tiles.weights,
                sharpness=self.sharpness[number],
                classes=self.classes,
            )
            for level, number in numbers.items()
            if number is not None
        ]

    def table(self) -> pa.Table:
        """Return each tile's logits and sharpness at every level: one row per tile."""
        tiles = self.tiles
        columns: dict[str, Any] = {
            "slide_id": [tiles.rows.slide_id(row) for row in range(len(tiles))],
            "tile": tiles.rows.tile,
            "target": pa.array(tiles.targets, mask=tiles.targets < 0),
            "weight": tiles.weights,
        }
        for question, logits, sharpness in zip(
            self.questions, self.logits, self.sharpness, strict=True
        ):
            columns[f"logit_{question.name}"] = logits if logits.ndim == 1 else list(logits)
            columns[f"laplacian_var_{question.name}"] = sharpness
        return pa.table(columns)
