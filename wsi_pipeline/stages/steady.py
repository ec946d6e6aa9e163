"""Reading a run that another command may be changing: all tables as they were before it, or all as after.

A stage puts its tables in their places one after another (``stages.columns``). Whoever reads in between would
take half of a split for a whole one.
"""

from collections.abc import Callable
from typing import TypeVar

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import exists
from wsi_pipeline.schema import STAGE_COLUMNS
from wsi_pipeline.stages.columns import finish_change, is_taking_place
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory

Found = TypeVar("Found")

_READS = 3  # a stage takes seconds at least: who meets three in a row meets a loop of them


def settle(run: RunDirectory) -> None:
    """Finish a change that was cut off between two tables.

    Raises
    ------
    ConfigError
        It was not cut off: another command is at it.
    """
    if not is_taking_place(run):
        return
    try:
        with sole_use(run, part=1, parts=1):
            finish_change(run)
    except ConfigError as error:
        raise ConfigError(
            f"{run.path}: another command is changing its tables at this moment, and half of them would be "
            f"read; wait for it to end, then type the same again ({error})"
        ) from error


def read_steady(run: RunDirectory, read: Callable[[], Found]) -> Found:
    """Return what a function reads of a run, read again where a change fell into it.

    Raises
    ------
    ConfigError
        Another command is changing the tables, or one after another did while they were read.
    """
    for _ in range(_READS):
        settle(run)
        before = _last_changes(run)
        found = read()
        if not is_taking_place(run) and _last_changes(run) == before:
            return found
    raise ConfigError(
        f"{run.path}: its tables were changed {_READS} times while they were read; wait for the other "
        "commands to end, then type the same again"
    )


def _last_changes(run: RunDirectory) -> tuple[float | None, ...]:
    """Return when each stage last wrote what it says of itself, which is the end of every change."""
    summaries = [run.summary(stage) for stage in STAGE_COLUMNS]
    return tuple(path.stat().st_mtime if exists(path) else None for path in summaries)
