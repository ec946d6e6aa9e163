"""Where sweeps of a model lie in its folder, and what their tables say that they are of. No torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.sweep.shift_config import Place, Sweep
from wsi_pipeline.files import exists
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.tables import read_table, table_metadata, write_table

ASKED = "asked"
"""Key of a table's metadata: what its rows depend on, as JSON."""

_MOST_LETTERS = 80
"""Of names of arms in the name of a file; a digest stands for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFiles:
    """Files of one model's sweeps over the same tiles."""

    folder: Path
    """``RUN/models/NAME/sweeps``."""
    stem: str
    """Whose tiles, as tables of predictions are called."""

    def beside(self, arms: Sequence[str]) -> "SweepFiles":
        """Return the files of what compares it with other arms, which takes nobody's place.

        >>> SweepFiles(folder=Path("wd/sweeps"), stem="test").beside(["sd"]).stem
        'test-with-sd'
        """
        if not arms:
            return self
        names = "-".join(arms)
        if len(names) > _MOST_LETTERS:
            names = hashlib.sha256(names.encode()).hexdigest()[:8]
        return replace(self, stem=f"{self.stem}-with-{names}")

    def table(self, shift: str, place: Place) -> Path:
        """Return the table of one change: a row for each level."""
        return self.folder / f"{self.stem}-{shift}-{place}.parquet"

    def figure(self, shift: str, place: Place) -> Path:
        """Return the drawing of one change."""
        return self.folder / f"{self.stem}-{shift}-{place}.svg"

    def draws(self, shift: str, place: Place) -> Path:
        """Return the scores of draws of patients at each level of one change."""
        return self.folder / "draws" / f"{self.stem}-{shift}-{place}.parquet"

    @property
    def curves(self) -> Path:
        """Means over repeats."""
        return self.folder / "curves" / f"{self.stem}.parquet"

    @property
    def tiles(self) -> Path:
        """Logits of each tile at every level."""
        return self.folder / "tiles" / f"{self.stem}.parquet"

    @property
    def parts(self) -> Path:
        """Answers of a pass that has not ended."""
        return self.folder / f"{self.stem}.parts"


def known_table(path: Path, asked: Mapping[str, Any]) -> pa.Table | None:
    """Return a table that was asked for in the same way; None where there is no such table.

    Parameters
    ----------
    path
        The table.
    asked
        What answers depend on; ``run`` is whose tiles they are of, None of the model's own.

    Raises
    ------
    ConfigError
        They are of another run.
    """
    if not exists(path):
        return None
    table = read_table(path)
    before = json.loads(table_metadata(table).get(ASKED, "{}"))
    if before.get("run") != asked["run"]:
        raise ConfigError(
            f"{path} is of tiles of {before.get('run')}; move it away before a sweep over {asked['run']}, "
            "which has the same name"
        )
    return table if before == asked else None


def write_sweep(path: Path, table: pa.Table, asked: Mapping[str, Any]) -> None:
    """Write a table with what it depends on.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    write_table(path, table, metadata=metadata_of(asked))


def metadata_of(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands beside the columns of a table of answers."""
    return {
        "schema_version": SCHEMA_VERSION,
        ASKED: json.dumps(asked, sort_keys=True, ensure_ascii=False),
        "classes": json.dumps(asked["classes"], ensure_ascii=False),
    }


def every(sweeps: Sequence[Sweep], places: Sequence[Place]) -> list[tuple[Sweep, Place]]:
    """Return every change at every place."""
    return [(sweep, place) for sweep in sweeps for place in places]
