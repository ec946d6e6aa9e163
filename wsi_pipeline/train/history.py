"""What a training said of itself, step by step: metrics.parquet, and event files for TensorBoard beside it.

A checkpoint keeps ``History.rows``; a training that goes on from it drops all later rows and writes them
again, so that its table is that of a training which was never cut off, but for the columns of times.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wsi_pipeline.remote import is_remote
from wsi_pipeline.train.events import Events, open_events
from wsi_pipeline.train.metrics_table import add_part, cut, is_column, join_parts, last_step

_MOST_WAITING = 10_000
"""Rows that are kept in memory before they are written as a part of their own accord."""


class History:
    """Takes the rows of one training; one process writes it, rank 0 of several."""

    def __init__(self, folder: Path, *, rows: int = 0) -> None:
        """Go on after so many rows; all later ones are dropped.

        Parameters
        ----------
        folder
            Of the model.
        rows
            As the checkpoint has it from ``History.rows``; 0 begins anew.

        Raises
        ------
        OutputError
            There are fewer, so something was removed.
        """
        self.folder = folder
        self._waiting: list[dict[str, Any]] = []
        before = cut(folder, rows)
        self._saved = rows
        self._events: Events | None = None
        if not is_remote(folder):
            self._events = open_events(folder / "tensorboard", after_step=last_step(before))

    @property
    def rows(self) -> int:
        """How many rows there are, for the checkpoint; call ``save`` before that is written."""
        return self._saved + len(self._waiting)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows; they are on the disk after ``save``.

        Parameters
        ----------
        rows
            Values by columns of ``columns.TRAINING_COLUMNS`` and ``columns.CLASS_COLUMNS``; None is null, and
            so is what is left out.

        Raises
        ------
        ValueError
            A column is none of those.
        """
        for row in rows:
            if unknown := [name for name in row if not is_column(name)]:
                raise ValueError(f"{unknown[0]}: expected a column of metrics.parquet")
            self._waiting.append(dict(row))
            if self._events is not None:
                self._events.add(row)
        if len(self._waiting) >= _MOST_WAITING:
            self.save()

    def save(self) -> None:
        """Write the rows that wait as a part: whoever writes a checkpoint calls this before.

        Raises
        ------
        OutputError
            The disk is full, or writing is not allowed; the rows are kept and can be saved again.
        """
        if self._waiting:
            add_part(self.folder, self._saved, self._waiting)
            self._saved += len(self._waiting)
            self._waiting = []
        if self._events is not None:
            self._events.flush()

    def end_epoch(self) -> None:
        """Write metrics.parquet with all rows so far; the parts go."""
        self.save()
        join_parts(self.folder)

    def close(self) -> None:
        """Write what waits, and end the event file."""
        self.save()
        if self._events is not None:
            self._events.close()
