"""A training while it goes on: a live table on a terminal, a line for each epoch elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsi_pipeline.cli.console import STDERR, duration
from wsi_pipeline.train.observer import Extent, SilentTrainObserver, TrainObserver

_EPOCHS_SHOWN = 8
_SMOOTH = 0.05
"""Share of the newest step in the terms that are shown: single batches jump."""

_SCORES = ("loss", "log_loss", "balanced_accuracy", "auroc", "ece")


@contextmanager
def train_progress(
    *, quiet: bool, console: Console = STDERR, clock: Callable[[], float] = time.monotonic
) -> Iterator[TrainObserver]:
    """Give an observer that shows a training on standard error."""
    if quiet:
        yield SilentTrainObserver()
    elif not console.is_terminal:
        yield _Lines(console)
    else:
        view = _View(console, clock)
        with Live(console=console, get_renderable=view.drawn, refresh_per_second=4, transient=True):
            yield view
        console.print(view.drawn())


class _Lines:
    """A line for each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._extent: Extent | None = None
        self._steps: list[Mapping[str, Any]] = []
        """Of this epoch."""

    def on_begin(self, extent: Extent) -> None:
        self._extent = extent
        if extent.step:
            self._say(f"{extent.name}: goes on after step {extent.step} of {extent.steps}")

    def on_step(self, row: Mapping[str, Any]) -> None:
        self._steps.append(row)

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        steps, self._steps = self._steps, []
        if not rows:
            return
        name, epochs = (
            ("", "?") if self._extent is None else (self._extent.name, self._extent.epochs)
        )
        said = [f"{name}: epoch {rows[0]['epoch'] + 1} of {epochs}, step {rows[0]['step']}"]
        said += [f"{row['part']} " + " ".join(_scores(row)) for row in rows]
        self._say("; ".join([*said, *_pace(_mean_pace(steps))]))

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class _View:
    """What the terminal shows, made anew a few times a second."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._extent = Extent(name="", epochs=1, steps_per_epoch=1)
        self._began_s = clock()
        self._newest: Mapping[str, Any] = {}
        self._terms: dict[str, float] = {}
        self._epochs: deque[Sequence[Mapping[str, Any]]] = deque(maxlen=_EPOCHS_SHOWN)

    def on_begin(self, extent: Extent) -> None:
        if self._epochs:  # of the training before, which is over
            self._console.print(self.drawn())
        self._extent, self._began_s = extent, self._clock()
        self._newest, self._terms = {}, {}
        self._epochs.clear()

    def on_step(self, row: Mapping[str, Any]) -> None:
        self._newest = row
        for name, value in row.items():
            if name.startswith("loss") and value is not None:
                before = self._terms.get(name, float(value))
                self._terms[name] = before + _SMOOTH * (float(value) - before)

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._epochs.append(rows)

    def drawn(self) -> RenderableType:
        """Return the table as it is now."""
        facts = Table.grid(padding=(0, 2))
        for name, value in self._facts():
            facts.add_row(Text(name, style="dim"), Text(value))
        return Group(Text(self._extent.name, style="bold"), facts, *self._scored())

    def _facts(self) -> Iterator[tuple[str, str]]:
        step = int(self._newest.get("step", self._extent.step))
        epoch = int(self._newest.get("epoch", step // max(1, self._extent.steps_per_epoch)))
        yield "epoch", f"{min(epoch + 1, self._extent.epochs)} of {self._extent.epochs}"
        yield "step", f"{step} of {self._extent.steps}"
        yield "loss", ", ".join(f"{_term(name)} {value:.4g}" for name, value in self._terms.items())
        if (rate := self._newest.get("learning_rate")) is not None:
            yield "learning rate", f"{rate:.3g}"
        yield "pace", ", ".join(_pace(self._newest))
        if left := self._left(step):
            yield "time left", left

    def _left(self, step: int) -> str:
        """Return the time for all steps that are left at this process's pace so far, validation included."""
        done = step - self._extent.step
        if done <= 0 or step >= self._extent.steps:
            return ""
        seconds = (self._clock() - self._began_s) / done * (self._extent.steps - step)
        return f"at most {duration(seconds)}"

    def _scored(self) -> Iterator[Table]:
        if not self._epochs:
            return
        table = Table("epoch", "part", *map(_term, _SCORES), box=None, pad_edge=False)
        for rows in self._epochs:
            for row in rows:
                cells = [_number(row.get(name)) for name in _SCORES]
                table.add_row(str(row["epoch"] + 1), str(row["part"]), *cells)
        yield table


def _scores(row: Mapping[str, Any]) -> list[str]:
    known = [name for name in _SCORES if row.get(name) is not None]
    return [f"{_term(name)} {_number(row[name])}" for name in known]


def _mean_pace(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the pace of an epoch, whose last step may be a small one."""
    timed = [row for row in steps if row.get("tiles_per_s") and row.get("tiles")]
    seconds = [row["tiles"] / row["tiles_per_s"] for row in timed]
    if not timed or not sum(seconds):
        return {}
    waited = [
        (row.get("stall_share") or 0.0) * each for row, each in zip(timed, seconds, strict=True)
    ]
    tiles_per_s = sum(row["tiles"] for row in timed) / sum(seconds)
    return {"tiles_per_s": tiles_per_s, "stall_share": sum(waited) / sum(seconds)}


def _pace(row: Mapping[str, Any]) -> list[str]:
    """Return tiles a second and the share of time spent waiting, as far as a row has them."""
    said = []
    if (rate := row.get("tiles_per_s")) is not None:
        said.append(f"{rate:.0f} tiles/s")
    if (stall := row.get("stall_share")) is not None:
        said.append(f"{100 * stall:.0f} % waiting for tiles")
    return said


def _term(name: str) -> str:
    return name.removeprefix("loss_").replace("_", " ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
