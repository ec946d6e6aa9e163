"""Who may write to a run directory: one run, or the different parts of one.

The locks are the kernel's (flock): they end with the process that holds them, however it ends.
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import output_error
from wsi_pipeline.remote import is_remote
from wsi_pipeline.stages.remote_lease import remote_lease
from wsi_pipeline.stages.run_directory import RunDirectory

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def sole_use(run: RunDirectory, *, part: int, parts: int) -> Iterator[None]:
    """Hold a run directory for one run, or for one part beside the others.

    Raises
    ------
    ConfigError
        Another process works on it, or on the same part.
    OutputError
        The directory cannot be made.
    """
    if is_remote(run.path):
        with remote_lease(run, part=part, parts=parts):
            yield
        return
    folder = run.state
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    shared = parts > 1
    with (
        _held(folder / "lock", shared=shared, busy=f"{run.path}: another run is working there"),
        _held(
            folder / f"lock-{part}-of-{parts}",
            shared=False,
            busy=f"{run.path}: part {part}/{parts} is being worked on already",
        ),
    ):
        yield


@contextmanager
def _held(path: Path, *, shared: bool, busy: str) -> Iterator[None]:
    try:
        handle = path.open("a")
    except OSError as error:
        raise output_error(path, error) from error
    with handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{busy}; wait for it to end, or share the work with --part I/N in every job"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise output_error(path, error) from error
        yield
