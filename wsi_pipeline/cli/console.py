"""What a person sees: progress while it works, a summary at the end, JSON where it is asked for."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from wsi_pipeline.stages.run_directory import SlideRecord
from wsi_pipeline.stages.stage import Observer, SilentObserver

STDERR = Console(stderr=True)
STDOUT = Console(width=None if sys.stdout.isatty() else 240)  # in a file nothing is folded


def say(text: str) -> None:
    """Print one line of the result."""
    typer.echo(text)


def complain(text: str) -> None:
    """Print one line of trouble."""
    typer.echo(text, err=True)


def print_json(value: object) -> None:
    """Print a result for machines."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; on a terminal it is fitted to the width, in a file nothing is cut off."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    STDOUT.print(table)


def set_up_logging(*, quiet: bool, verbose: bool) -> None:
    """Send log lines to standard error: one per slide where no progress bar can be drawn."""
    level = logging.INFO if verbose or not STDERR.is_terminal else logging.WARNING
    package = logging.getLogger("wsi_pipeline")
    package.setLevel(logging.ERROR if quiet else level)
    handler: logging.Handler
    if STDERR.is_terminal:
        handler = RichHandler(console=STDERR, show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    package.handlers = [handler]
    package.propagate = False
    where = logging.getLogger(
        "wsi_pipeline.compute"
    )  # a dashboard's address is wanted on terminals too
    where.setLevel(logging.ERROR if quiet else logging.INFO)


@contextmanager
def progress(*, slides: str, quiet: bool) -> Iterator[Observer]:
    """Give an observer that draws progress on a terminal and is silent elsewhere."""
    if quiet or not STDERR.is_terminal:
        yield SilentObserver()
        return
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
    with Progress(*columns, console=STDERR, transient=True) as bars:
        yield _Bars(bars, slides)


class _Bars:
    """Two bars in one line each: slides and tiles."""

    def __init__(self, bars: Progress, slides: str) -> None:
        self._bars = bars
        self._slides = bars.add_task(slides, total=None, detail="")
        self._tiles = bars.add_task("tiles", total=0, detail="")
        self._planned: dict[str, int] = {}
        self._ended = self._failed = self._bytes = 0

    def slides_found(self, count: int) -> None:
        self._bars.update(self._slides, total=count, detail=f"0/{count}")

    def slide_planned(self, slide_id: str, tiles: int) -> None:
        self._planned[slide_id] = tiles
        slides = self._bars.tasks[self._slides].total or len(self._planned)
        expected = sum(self._planned.values()) * max(1.0, slides / len(self._planned))
        self._bars.update(self._tiles, total=round(expected))

    def unit_cut(self, slide_id: str, tiles: int, stored_bytes: int) -> None:  # noqa: ARG002
        self._bytes += stored_bytes
        self._bars.update(self._tiles, advance=tiles)
        task = self._bars.tasks[self._tiles]
        seconds = max(task.elapsed or 0.0, 0.001)
        rate = f"{task.completed / seconds:.0f} tiles/s, {self._bytes / seconds / 1e6:.1f} MB/s"
        detail = f"{task.completed:.0f} of about {task.total:.0f}, {rate}"
        self._bars.update(self._tiles, detail=detail)

    def slide_ended(self, record: SlideRecord) -> None:
        self._ended += 1
        self._failed += record.status == "failed"
        total = self._bars.tasks[self._slides].total or self._ended
        failed = f", {self._failed} failed" if self._failed else ""
        detail = f"{self._ended}/{total:.0f}{failed}"
        self._bars.update(self._slides, completed=self._ended, detail=detail)


def counted(count: int, thing: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "slide"), counted(2, "slide")
    ('1 slide', '2 slides')
    """
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def megabytes(size_bytes: float) -> str:
    """Return a size as people read it.

    >>> megabytes(12_345_678), megabytes(3.2e12)
    ('12.3 MB', '3.2 TB')
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """Return a time as people read it.

    >>> duration(4.2), duration(150), duration(9000)
    ('4 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
