"""Rows of a training as event files, which TensorBoard shows while it goes on."""

import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_pipeline.train.metrics import LOGIT_EDGES

try:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
except ImportError:  # of the extra `train`
    _INSTALLED = False
else:
    _INSTALLED = True

_PLACES = ("kind", "part", "epoch", "step", "tiles")
"""Columns that say what a row is; the others are shown."""


class Events:
    """Writes one event a row: its numbers as scalars, its counts of logits as histograms."""

    def __init__(self, folder: Path, *, after_step: int | None) -> None:
        """Begin a file; events of later steps in older files are shown no more."""
        self._writer = EventFileWriter(str(folder))
        self._end = weakref.finalize(
            self, self._writer.close
        )  # its thread ends with this, however it goes
        if after_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(
                Event(wall_time=time.time(), step=after_step + 1, session_log=start)
            )

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row under its step; names begin with `step`, `train` or `validation`."""
        above = "step" if row["kind"] == "step" else row["part"]
        shown = {name: value for name, value in row.items() if name not in _PLACES}
        values = [
            Summary.Value(tag=f"{above}/{name}", simple_value=float(value))
            for name, value in shown.items()
            if isinstance(value, (int, float))
        ]
        values += [
            Summary.Value(
                tag=f"{above}/{name.replace('logit_counts', 'logits')}", histo=_histogram(value)
            )
            for name, value in shown.items()
            if name.startswith("logit_counts_") and sum(value)
        ]
        event = Event(wall_time=time.time(), step=row["step"], summary=Summary(value=values))
        self._writer.add_event(event)

    def flush(self) -> None:
        """Have all rows in the file."""
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._end()


def open_events(folder: Path, *, after_step: int | None) -> Events | None:
    """Return a writer, or None where TensorBoard is not installed: metrics.parquet has the same rows."""
    return Events(folder, after_step=after_step) if _INSTALLED else None


def _histogram(counts: list[float]) -> Any:  # noqa: ANN401  TensorBoard's
    middles = (LOGIT_EDGES[1:] + LOGIT_EDGES[:-1]) / 2
    return HistogramProto(
        min=float(LOGIT_EDGES[0]),
        max=float(LOGIT_EDGES[-1]),
        num=sum(counts),
        sum=float((middles * counts).sum()),
        sum_squares=float((middles**2 * counts).sum()),
        bucket_limit=LOGIT_EDGES[1:].tolist(),
        bucket=counts,
    )
