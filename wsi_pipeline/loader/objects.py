"""Shards of object stores: ranges of one version only, tried again, or whole ones kept on a local disk."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from wsi_pipeline.errors import OutputError, TileError
from wsi_pipeline.files import published
from wsi_pipeline.loader.shards import LocalShard
from wsi_pipeline.remote import filesystem, reason_of
from wsi_pipeline.store.reader import FOOTER_BYTES, shard_index

TRIES = 5
"""Of every request; waits of 0.2, 0.4, 0.8 and 1.6 s between them."""

_FIRST_WAIT_S = 0.2
_IN_VAIN = (FileNotFoundError, PermissionError)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Which content an object has."""

    size_bytes: int
    tag: str
    """Its ETag, empty where the store keeps none."""


class RemoteShard:
    """A shard read by ranges; every one is of the object whose index was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = version_of(path)
        size_bytes = self._version.size_bytes
        footer = self.read(max(0, size_bytes - FOOTER_BYTES), size_bytes)
        self.index = shard_index(path, footer, size_bytes=size_bytes)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes of the object by one request, which S3 refuses once the object is another one."""
        data = tried(self._path, lambda: _range(self._path, start, end, tag=self._version.tag))
        if len(data) != end - start:
            raise TileError(
                f"{self._path}: expected {end - start} bytes from {start}, got {len(data)}"
            )
        return data


def version_of(path: Path) -> Version:
    """Return size and ETag of an object; one request."""
    system, key = filesystem(path)
    info = tried(
        path, lambda: system.info(key, refresh=True) if _is_s3(system) else system.info(key)
    )
    return Version(size_bytes=int(info["size"]), tag=str(info.get("ETag") or ""))


def tried(path: Path, call: Callable[[], _Value]) -> _Value:
    """Return what a request gives, tried again a few times; not where it is in vain.

    Raises
    ------
    TileError
        There is no such object, it may not be read, it changed, or nobody answers.
    """
    for attempt in count(1):
        try:
            return call()
        except _IN_VAIN as error:
            raise TileError(f"{path}: {reason_of(error)}") from error
        except Exception as error:  # every library has its own kinds
            if _has_changed(error):
                raise TileError(f"{path}: it was replaced while it was read; begin anew") from error
            if attempt == TRIES:
                raise TileError(f"{path}: {TRIES} tries, {reason_of(error)}") from error
        time.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1))
    raise TileError(f"{path}: not read")


def _has_changed(error: Exception) -> bool:
    """Whether S3 answers 412: the object is not the one that was asked for."""
    text = f"{error} {getattr(error, 'response', '')}"
    return "PreconditionFailed" in text or "pre-condition" in text.lower() or "412" in text


def _is_s3(system: Any) -> bool:  # noqa: ANN401  fsspec has no types
    return hasattr(system, "call_s3")


def _range(path: Path, start: int, end: int, *, tag: str) -> bytes:
    system, key = filesystem(path)
    if not _is_s3(system) or not tag:
        return bytes(system.cat_file(key, start=start, end=end))
    from fsspec.asyn import sync  # noqa: PLC0415

    bucket, name, _ = system.split_path(key)
    wanted = {"Bucket": bucket, "Key": name, "Range": f"bytes={start}-{end - 1}", "IfMatch": tag}
    body = system.call_s3("get_object", **wanted)["Body"]
    try:
        return bytes(sync(system.loop, body.read))
    finally:
        body.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCache:
    """Whole shards in a folder that all processes of a machine share; the one used longest ago goes first."""

    folder: Path
    most_bytes: int

    def shard(self, path: Path) -> LocalShard:
        """Return a shard, fetched if it is not here; open files stay readable when they are removed.

        Raises
        ------
        TileError
            It cannot be fetched.
        """
        version = version_of(path)
        name = hashlib.blake2b(f"{path} {version}".encode(), digest_size=16).hexdigest()
        copy = self.folder / f"{name}.shard"
        for _ in range(TRIES):
            with suppress(FileNotFoundError):
                os.utime(copy)
                return LocalShard(copy)
            with _alone(self.folder / f"{name}.lock"):
                if not copy.exists():
                    self._fetch(path, copy, version)
        raise TileError(
            f"{path}: its copy in {self.folder} is removed as soon as it is there; enlarge cache_bytes"
        )

    def _fetch(self, path: Path, copy: Path, version: Version) -> None:
        data = tried(path, lambda: _whole(path, version))
        self._make_room(len(data))
        try:
            with published(copy) as temporary:
                temporary.write_bytes(data)
        except OutputError as error:
            raise TileError(f"{path}: cannot be kept: {error}; name another cache") from error

    def _make_room(self, size_bytes: int) -> None:
        """Remove what was used longest ago until so many bytes fit."""
        with _alone(self.folder / "evict.lock"):
            files = [
                (path, status) for path in self.folder.glob("*.shard") for status in _status(path)
            ]
            held = sum(status.st_size for _, status in files)
            for path, status in sorted(files, key=lambda each: each[1].st_mtime_ns):
                if held + size_bytes <= self.most_bytes:
                    return
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
                held -= status.st_size


def _whole(path: Path, version: Version) -> bytes:
    return _range(path, 0, version.size_bytes, tag=version.tag)


def _status(path: Path) -> Iterator[os.stat_result]:
    with suppress(FileNotFoundError):  # another process removed it
        yield path.stat()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine; the kernel lets go of a dead one's."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
