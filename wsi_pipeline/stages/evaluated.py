"""What was evaluated of a run's models: the files that ``evaluate`` has left in ``RUN/models``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsi_pipeline.errors import PipelineError
from wsi_pipeline.evaluate.ask.repeats import repeat_of
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.files import exists, names_below, read_bytes
from wsi_pipeline.tables import read_table

UNREADABLE = (OSError, ValueError, KeyError, PipelineError)
"""What a damaged file raises; Arrow's errors are ValueErrors."""

Row = Mapping[str, Any]

_SCORES = ".scores.parquet"
_GROUPS = ("all", "scanner", "centre")
_PARTS = ("test", "all", "validation", "train")
_WITHOUT_CUTOFF = ("auroc", "log_loss", "brier", "ece")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one network says of some tiles."""

    model: str
    what: str
    """Name of the file: of the tiles."""
    folder: Path
    """Of the model."""
    about: Row = field(repr=False)
    """The JSON beside the predictions."""
    scores: Sequence[Row] = field(repr=False)
    """Rows of ``SCORE_COLUMNS`` of all tiles and of each scanner and centre."""
    is_ensemble: bool = False

    @property
    def title(self) -> str:
        """Whose answers, and of which tiles."""
        return f"{self.model} on {self.what}"

    @property
    def path(self) -> Path:
        """The predictions."""
        return self.folder / "predictions" / f"{self.what}.parquet"

    @property
    def arm(self) -> str:
        """The name without the number of the repeat."""
        if self.is_ensemble:
            return f"{self.model}, ensemble"
        found = repeat_of(self.model)
        return found[0] if found else self.model

    @property
    def order(self) -> tuple[int, int, str, str]:
        """What is looked at first: tests before validation, first repeats before further ones."""
        part = self.about.get("part")
        found = repeat_of(self.model)
        repeat = found[1] if found else 0
        return _PARTS.index(part) if part in _PARTS else 0, repeat, self.what, self.model

    @property
    def same_tiles(self) -> tuple[str, ...]:
        """What two evaluations of the same tiles have in common."""
        return (self.what, *(str(self.about.get(name)) for name in ("run", "part", "where")))

    def row(
        self, score: str, *, unit: str = "tile", aggregate: str = "none", cutoff: str | None = None
    ) -> Row | None:
        """Return a score's row of all tiles, or None; without a cut-off the one at 0.5, or that has none."""
        wanted = ("0.5", "none") if cutoff is None else (cutoff,)
        for row in self.scores:
            named = (row["score"], row["unit"], row["aggregate"], row["by"])
            if named == (score, unit, aggregate, "all") and row["cutoff"] in wanted:
                return row
        return None

    def predictions(self) -> Predictions:
        """Return a row for every tile.

        Raises
        ------
        ConfigError
            It is no table of predictions.
        """
        return read_predictions(self.path)

    def of_patients(self) -> list[Row]:
        """Return the rows of scores of each patient's tiles."""
        path = self.path.with_name(f"{self.what}{_SCORES}")
        if not exists(path):
            return []
        return [*read_table(path).filter(pc.field("by") == "patient_id").to_pylist()]


def evaluations_of(folder: Path) -> Iterator[Evaluation]:
    """Yield what one model was asked, in order of name.

    Raises
    ------
    OSError, ValueError, KeyError
        A file is damaged.
    """
    below = folder / "predictions"
    names = names_below(below) if exists(below) else []
    for name in sorted(names):
        if name.endswith(".parquet") and not name.endswith(_SCORES) and not name.startswith("."):
            what = name.removesuffix(".parquet")
            about = _json(below / f"{what}.json")
            yield Evaluation(
                model=folder.name,
                what=what,
                folder=folder,
                about=about,
                scores=_scores(below / f"{what}{_SCORES}", about),
                is_ensemble=exists(folder / "ensemble.json"),
            )


def _json(path: Path) -> Row:
    if not exists(path):
        return {}
    content: Row = json.loads(read_bytes(path))
    return content


def _scores(path: Path, about: Row) -> list[Row]:
    """Return the table of scores, or what the JSON says of all tiles, which has no intervals."""
    if exists(path):
        table = read_table(path)
        chosen = pc.is_in(table.column("by").cast(pa.string()), pa.array(_GROUPS))
        return [*table.filter(chosen).to_pylist()]
    said = about.get("scores") or {}
    nothing = {"low": None, "high": None, "patients": None, "note": ""}
    whole = {"unit": "tile", "aggregate": "none", "by": "all", "group": "all", **nothing}
    return [
        {
            **whole,
            "score": name,
            "cutoff": "none" if name in _WITHOUT_CUTOFF else "0.5",
            "value": value,
            "tiles": said.get("tiles"),
        }
        for name, value in said.items()
        if name != "tiles" and (value is None or isinstance(value, (int, float)))
    ]
