"""What is under way: a small file per slide, from its first touch until it is done.

It says where a slide is being cut, for ``wsi-pipeline status``, and how often a command has died of it.

A slide is given up after it has killed three commands in a row. A death counts only where

* the command cut the slide in its own process (``--workers 1``) and that process ended without a word;
  SIGTERM, SIGINT and errors are words, and the death of a worker is the pool's business;
* since the try before not one more unit of the slide was done; and
* the slide's file is the same.

Interrupted slides are tried first, so one that is healthy has a whole job's time for its next unit.
"""

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wsi_pipeline.errors import SlideError
from wsi_pipeline.files import TEMPORARY_PREFIX
from wsi_pipeline.stages.lease import Holder
from wsi_pipeline.stages.run_directory import RunDirectory, now

DEATHS_ALLOWED = 3
"""Commands that a slide may kill in a row; as many as workers in a pool."""

FAILURES_RETRIED = 3
"""An error that says nothing of the slide, such as one of a disk, is worth so many tries."""

KILLED = (
    f"it has killed {DEATHS_ALLOWED} commands in a row while none of its tiles got done (out of memory, or a "
    "crash in a decoder); the other slides went on: --overwrite tries it again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """The last try of a slide."""

    host: str
    pid: int
    since: str
    token: str
    """Of the lease under which it was begun."""
    alone: bool
    """Whether the command itself cuts the slide, so that a crash ends it."""
    source: str
    """Size and time of the slide's file."""
    done: int
    """Units that were there when it began."""
    deaths: int = 0
    """Commands that the slide has killed in a row before this try."""
    failures: int = 0
    """Tries that ended with an error which may not come again."""
    over: bool = False
    """Whether it ended with a word: an error, or an interrupt."""

    @property
    def where(self) -> str:
        """Return host and process."""
        return f"{self.host}:{self.pid}"


def begin_try(
    run: RunDirectory, slide_id: str, *, path: str, holder: Holder, redo: bool = False
) -> None:
    """Note that a slide is about to be opened by this process.

    Raises
    ------
    SlideError
        It has killed too many commands.
    """
    before = None if redo else read_try(run, slide_id)
    this = Try(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=now(),
        token=holder.token,
        alone=holder.is_this_process,
        source=_source(path),
        done=_units_done(run, slide_id),
    )
    if before is not None and before.source == this.source:
        this = replace(this, deaths=_deaths(before, this), failures=before.failures)
    _write(run, slide_id, this)
    if this.deaths >= DEATHS_ALLOWED:
        raise SlideError(KILLED)


def end_try(run: RunDirectory, slide_id: str) -> None:
    """Forget the tries of a slide that is done."""
    _path(run, slide_id).unlink(missing_ok=True)


def interrupt_try(run: RunDirectory, slide_id: str) -> None:
    """Note that the command ends, and that the slide is not to blame, also where a full disk ends it."""
    last = read_try(run, slide_id)
    if last is not None and not _write(run, slide_id, replace(last, over=True)):
        with suppress(OSError):
            end_try(run, slide_id)


def fail_try(run: RunDirectory, slide_id: str, error: BaseException) -> None:
    """Note that a slide failed, and whether of itself."""
    last = read_try(run, slide_id)
    if last is not None:
        failures = FAILURES_RETRIED if isinstance(error, SlideError) else last.failures + 1
        _write(run, slide_id, replace(last, over=True, failures=failures))


def read_try(run: RunDirectory, slide_id: str) -> Try | None:
    """Return the last try of a slide that is not done; half a file is none."""
    try:
        return Try(**json.loads(_path(run, slide_id).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def read_tries(run: RunDirectory) -> dict[str, Try]:
    """Return the last try of every slide that was begun and is not done."""
    names = [path.stem for path in _path(run, "?").parent.glob("[!.]*.json")]
    tries = {name: read_try(run, name) for name in names}
    return {name: each for name, each in tries.items() if each is not None}


def _deaths(before: Try, this: Try) -> int:
    if this.done > before.done:
        return 0
    died = before.alone and not before.over and before.token != this.token
    return before.deaths + died


def _units_done(run: RunDirectory, slide_id: str) -> int:
    work = run.work(slide_id)
    with suppress(OSError):
        return sum(path.suffix == ".parquet" for path in work.iterdir())
    return 0


def _source(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:
        return "?"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _write(run: RunDirectory, slide_id: str, this: Try) -> bool:
    """Write a try in one piece, without waiting for the disk, and return whether that could be done."""
    path = _path(run, slide_id)
    writer = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(8)}"
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{writer}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(this)), encoding="utf-8")
        temporary.replace(path)
    except OSError:  # a full disk stops the run where it matters
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _path(run: RunDirectory, slide_id: str) -> Path:
    return run.state / "tries" / f"{slide_id}.json"
