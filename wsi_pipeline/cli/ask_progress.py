"""Networks while they are asked: a bar on a terminal, a line for each pass elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from wsi_pipeline.cli.console import STDERR, duration
from wsi_pipeline.config import first_of
from wsi_pipeline.evaluate.ask.observer import AskObserver, SilentAskObserver

_NAMED = 3


@contextmanager
def ask_progress(
    *, quiet: bool, console: Console = STDERR, clock: Callable[[], float] = time.monotonic
) -> Iterator[AskObserver]:
    """Give an observer that shows on standard error how far the asking is."""
    if quiet:
        yield SilentAskObserver()
    elif not console.is_terminal:
        yield _Lines(console, clock)
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bars:
            yield _Bars(bars)


class _Lines:
    """A line when a pass begins at its middle, and one when it has ended."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._named = ""
        self._tiles = self._done = 0
        self._began_s = 0.0

    def on_begin(self, models: Sequence[str], tiles: int, *, there: int, asked: str = "") -> None:
        self._named, self._tiles, self._done = _named(models, asked), tiles, 0
        self._began_s = self._clock()
        if there:
            self._say(f"{self._named}: goes on after {there} tiles, {tiles} are left")

    def on_tiles(self, count: int) -> None:
        self._done += count
        if self._done >= self._tiles:
            seconds = max(self._clock() - self._began_s, 1e-3)
            rate = f"{self._done / seconds:.0f} tiles/s"
            self._say(f"{self._named}: {self._done} tiles in {duration(seconds)}, {rate}")

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class _Bars:
    """A bar for each pass."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None, detail="", visible=False)

    def on_begin(self, models: Sequence[str], tiles: int, *, there: int, asked: str = "") -> None:
        self._bars.remove_task(self._task)
        detail = f"{there} were there before" if there else ""
        self._task = self._bars.add_task(_named(models, asked), total=tiles, detail=detail)

    def on_tiles(self, count: int) -> None:
        self._bars.update(self._task, advance=count)
        task = next(each for each in self._bars.tasks if each.id == self._task)
        rate = task.completed / max(task.elapsed or 0.0, 1e-3)
        detail = f"{task.completed:.0f} of {task.total:.0f} tiles, {rate:.0f} tiles/s"
        self._bars.update(self._task, detail=detail)


def _named(models: Sequence[str], asked: str) -> str:
    """Return names, and what they are asked, in few words.

    >>> _named(["sd-0"], "test part"), _named(["sd-0", "sd-1", "sd-2", "sd-3", "sd-4"], "")
    ('sd-0, test part', 'sd-0, sd-1, sd-2 and 2 more')
    """
    return first_of(models, _NAMED) + (f", {asked}" if asked else "")
