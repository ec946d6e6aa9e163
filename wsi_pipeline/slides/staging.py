"""Slides at URLs: copied to local scratch while they are open, and known again without reading them.

The copy keeps names, places beside each other and times, so that whatever is true of a local slide is
true of it: its bytes, its fingerprint, its tiles.
"""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from wsi_pipeline.errors import SlideError
from wsi_pipeline.files import Fingerprint, Sample, same_source_today
from wsi_pipeline.parts import parts_of
from wsi_pipeline.remote import (
    SCRATCH,
    filesystem,
    is_gone,
    is_remote,
    is_url,
    owner,
    place,
    reason_of,
)
from wsi_pipeline.slides.find import SlideSource


@contextmanager
def staged(source: SlideSource) -> Iterator[SlideSource]:
    """Give a slide whose files are local: itself, or a copy in the temporary folder that is removed after.

    ``TMPDIR`` names another temporary folder; it must hold one slide per worker.

    Raises
    ------
    SlideError
        The slide is not there, may not be read, or does not fit into the temporary folder.
    """
    if not is_url(source.path):
        yield source
        return
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{owner()}-"))
    try:
        yield replace(source, path=str(_fetched(place(source.path), folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def same_slide_today(then: Fingerprint, source: str) -> Sample | None:
    """Return a slide's files as they are today if they are what they were, or None.

    A remote slide of the same size and time is the same: one request. Of another time, it is fetched and
    compared byte for byte, as ``files.same_source_today`` does.

    Raises
    ------
    SlideError
        A file cannot be read.
    """
    path = place(source)
    if not is_remote(path):
        return same_source_today(then, path)
    with _readable():
        parts = [_seen(part) for part in parts_of(path)]
    if sum(size_bytes for size_bytes, _ in parts) != then.sample.size_bytes:
        return None
    if max(mtime_ns for _, mtime_ns in parts) == then.sample.mtime_ns:
        return then.sample
    with staged(SlideSource(slide_id="", path=source)) as here:
        return same_source_today(then, Path(here.path))


def check_there(source: str) -> None:
    """Ask for all files of a remote slide.

    Raises
    ------
    SlideError
        One is not there, or may not be read.
    """
    with _readable():
        for part in parts_of(place(source)):
            _seen(part)


def _fetched(path: Path, folder: Path) -> Path:
    """Copy all files of a remote slide into a folder and return the one that names them."""
    with _readable():
        for part in parts_of(path):
            _fetch(part, folder / _below(part, path.parent))
    return folder / path.name


def _fetch(part: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    size_bytes, mtime_ns = _seen(part)
    system, key = filesystem(part)
    system.get_file(key, str(copy))
    if copy.stat().st_size != size_bytes:
        raise SlideError(
            f"{part}: expected {size_bytes} bytes, got {copy.stat().st_size}; is it being written? try again"
        )
    os.utime(copy, ns=(mtime_ns, mtime_ns))


def _below(part: Path, folder: Path) -> PurePosixPath:
    """Return where a file of a slide lies below the slide's folder."""
    name = PurePosixPath(filesystem(part)[1]).relative_to(filesystem(folder)[1])
    if ".." in name.parts:
        raise SlideError(f"it names {part}, which is not in its folder; put its files beside it")
    return name


def _seen(part: Path) -> tuple[int, int]:
    """Return size and time of a remote file; the time is now where the place keeps none."""
    system, key = filesystem(part)
    info = system.info(key)
    times = [info[name] for name in _TIMES if isinstance(info.get(name), datetime)]
    mtime_ns = int(times[0].timestamp() * 1e6) * 1000 if times else time.time_ns()
    return int(info["size"]), mtime_ns


_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")  # S3, Azure, …, memory


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except SlideError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise SlideError(
                f"does not fit into {tempfile.gettempdir()}: name a larger folder with TMPDIR"
            ) from error
        raise SlideError(f"cannot be fetched: {reason_of(error)}") from error
    except Exception as error:  # every library has its own kinds
        raise SlideError(f"cannot be fetched: {reason_of(error)}") from error


def _sweep() -> None:
    """Remove what processes of this machine that were killed have left in scratch."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        if is_gone(folder.name.removeprefix(SCRATCH).rpartition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)
