"""Files appear whole or not at all, and are recognised again by their content."""

import errno
import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from wsi_pipeline.errors import OutputError, SlideError
from wsi_pipeline.parts import parts_of
from wsi_pipeline.remote import (
    get,
    is_remote,
    is_there,
    names_in,
    put,
    remove_below,
    remove_object,
    uploaded,
)

TEMPORARY_PREFIX = ".tmp-"
"""Begins the name of every file that is still being written; host and process follow."""

_FORGOTTEN_S = 86_400  # yesterday's temporary file is nobody's any more, whoever's it was

_SAMPLE_BYTES = 1 << 16
_SAMPLES = 17  # first, last, and fifteen between: 1 MiB of a file of any size
_BLOCK_BYTES = 1 << 23


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on leaving without an error it takes the name.

    Of a remote ``path`` the temporary one is local, and becomes the object by one put.

    Raises
    ------
    OutputError
        The disk is full, the folder is missing or may not be written.
    """
    if is_remote(path):
        with uploaded(path) as temporary:
            yield temporary
        return
    name = f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(8)}"
    temporary = path.parent / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _synchronise(temporary)
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # the error that matters is under way already
            temporary.unlink(missing_ok=True)


@contextmanager
def published_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder``; on leaving without an error it takes the name.

    Raises
    ------
    OutputError
        The disk is full, the folder above may not be written, or something took the name meanwhile.
    """
    name = f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(8)}"
    temporary = folder.parent / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in temporaries(
            folder.parent
        ):  # by whoever was killed; an hour's export may be large
            if left.is_dir() and _is_forgotten(left):
                shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        temporary.replace(folder)
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_bytes(path: Path, data: bytes) -> None:
    """Write a whole file under its name, or nothing."""
    if is_remote(path):
        put(path, data)
        return
    with published(path) as temporary:
        temporary.write_bytes(data)


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises
    ------
    FileNotFoundError
        There is none.
    OSError
        It cannot be read.
    OutputError
        The remote place that it is in does not answer, or denies access.
    """
    return get(path) if is_remote(path) else path.read_bytes()


def exists(path: Path) -> bool:
    """Whether there is a file or folder."""
    return is_there(path) if is_remote(path) else path.exists()


def names_below(folder: Path) -> list[str]:
    """Return the names in a folder; a remote one that is not there has none."""
    return names_in(folder) if is_remote(folder) else [path.name for path in folder.iterdir()]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; object stores have none to make."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there."""
    if is_remote(path):
        remove_object(path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it, as far as that goes."""
    if is_remote(folder):
        remove_below(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def temporaries(folder: Path) -> list[Path]:
    """Return the files of a folder that have no name yet."""
    if is_remote(folder):
        return []  # a put leaves nothing half written
    return list(folder.glob(f"{TEMPORARY_PREFIX}*"))


def sweep(files: Iterable[Path], *, unless_in_use: bool = False) -> None:
    """Remove temporary files, or those of them whose writers are gone as far as this host can tell."""
    for path in files:
        with suppress(OSError):
            if not unless_in_use or _is_forgotten(path):
                path.unlink()


def _is_forgotten(path: Path) -> bool:
    """Whether a temporary file is of a dead process of this host, or of yesterday."""
    if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
        return True
    host, _, process = path.name.removeprefix(TEMPORARY_PREFIX).rpartition("-")[0].rpartition("-")
    return host == _host() and process.isdigit() and not _is_running(process)


def _is_running(process: str) -> bool:
    """Whether a process of this host lives; one that is dead and not reaped does not."""
    try:
        status = Path("/proc", process, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _host() -> str:
    return socket.gethostname()[:40]


def output_error(path: Path, error: OSError) -> OutputError:
    """Return an error that says what kept a file from being written and what to do."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = "the disk or the quota is full: make room and run the same command again"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "writing there is not allowed: ask for the right to, or choose another folder"
        case errno.ENOTDIR | errno.EEXIST:
            advice = "a file is where a folder should be: move it away, or choose another folder"
        case _:
            advice = f"{error.strerror or error}: look at the disk and run the same command again"
    return OutputError(f"cannot write {path}: {advice}")


def _synchronise(path: Path) -> None:
    """Have the bytes on the disk before the name says that they are."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a slide's files look like without reading all of them."""

    size_bytes: int
    mtime_ns: int
    """The latest of them."""
    sha256: str
    """Over sizes and 17 samples of 64 KiB of each file; over everything up to about 1 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What tells one content of a slide from another."""

    sample: Sample
    crc32c: int
    """Over every byte: it decides where only the time has changed."""

    def same_source(self, other: "Fingerprint") -> bool:
        """Whether the bytes are the same; a copy with another time is."""
        ours, theirs = self.sample, other.sample
        return (ours.size_bytes, ours.sha256, self.crc32c) == (
            theirs.size_bytes,
            theirs.sha256,
            other.crc32c,
        )


def fingerprint(path: Path) -> Fingerprint:
    """Return a slide's fingerprint; reads all of it.

    Raises
    ------
    SlideError
        A file cannot be read.
    """
    return Fingerprint(sample=sample(path), crc32c=_crc32c(path))


def same_source_today(then: Fingerprint, path: Path) -> Sample | None:
    """Return a slide's files as they are today if they are what they were, or None.

    They are where size, time and samples are the same, and where only the time differs and all bytes
    are the same.

    Raises
    ------
    SlideError
        A file cannot be read.
    """
    now = sample(path)
    if (now.size_bytes, now.sha256) != (then.sample.size_bytes, then.sample.sha256):
        return None
    same = now.mtime_ns == then.sample.mtime_ns or _crc32c(path) == then.crc32c
    return now if same else None


def sample(path: Path) -> Sample:
    """Return size, time and samples of a slide's files.

    Raises
    ------
    SlideError
        A file cannot be read.
    """
    digest = hashlib.sha256()
    size_bytes = mtime_ns = 0
    with _readable():
        for part in parts_of(path):
            status = part.stat()
            size_bytes += status.st_size
            mtime_ns = max(mtime_ns, status.st_mtime_ns)
            digest.update(str(status.st_size).encode())
            last = max(0, status.st_size - _SAMPLE_BYTES)
            with part.open("rb") as handle:
                for number in range(_SAMPLES):
                    handle.seek(last * number // (_SAMPLES - 1))
                    digest.update(handle.read(_SAMPLE_BYTES))
    return Sample(size_bytes=size_bytes, mtime_ns=mtime_ns, sha256=digest.hexdigest())


def _crc32c(path: Path) -> int:
    checksum = 0
    with _readable():
        for part in parts_of(path):
            with part.open("rb") as handle:
                while block := handle.read(_BLOCK_BYTES):
                    checksum = int(google_crc32c.extend(checksum, block))
    return checksum


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SlideError(
            f"cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
