"""Places that are URLs, ``s3://…`` and whatever else fsspec knows, behind the interface of ``pathlib``.

A remote path is an ``upath.UPath``, which offers what of ``pathlib.Path`` this package uses, and is typed
as one. Listings are never cached: other processes write there too. Objects are written by one put each,
which shows all of them or nothing, so that no temporary name is needed.
"""

import os
import re
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, cast

from wsi_pipeline.errors import ConfigError, OutputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LOCAL = "file://"
_WITH_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
_MISSING = "install what it needs: pip install 'wsi-pipeline[remote]' for S3, and gcsfs or adlfs for others"
_SIGNED = re.compile(
    r"(?:^|&)(?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|Signature|sig|(?:access_)?token)=",
    re.IGNORECASE,
)
SCRATCH = "wsi-pipeline-"
"""Begins the name of every folder in scratch; its ``owner()`` follows."""


def is_url(text: str) -> bool:
    """Return whether a text names a remote place.

    >>> is_url("s3://bucket/RUN"), is_url("slides/a.svs"), is_url("file:///data/RUN")
    (True, False, False)
    """
    return _URL.match(text) is not None and not text.startswith(_LOCAL)


def place(text: str | Path) -> Path:
    """Return the path of a file name or URL; a remote one is not looked at yet.

    Raises
    ------
    ConfigError
        The kind of URL is unknown, or its library is not installed.
    """
    if not isinstance(text, str):
        return text
    if not is_url(text):
        return Path(text.removeprefix(_LOCAL))
    _refuse_secrets(text)
    try:
        from upath import UPath

        path = UPath(text.rstrip("/"), use_listings_cache=False)
        _ = path.fs  # loads the library of this kind of URL
    except ImportError as error:
        raise ConfigError(f"{text}: a remote place ({error}); {_MISSING}") from error
    except ValueError as error:
        raise ConfigError(
            f"{text}: expected a file name, s3://BUCKET/KEY or another URL that fsspec knows, got {error}"
        ) from error
    return cast("Path", path)


def _refuse_secrets(url: str) -> None:
    """Refuse a URL with a password or a signature in it: it would stand in tables, logs and pictures."""
    scheme, _, rest = url.partition("://")
    account, at, beyond = rest.partition("/")[0].rpartition("@")
    where = f"{scheme}://…@{beyond}" if at else f"{scheme}://{rest.partition('?')[0]}?…"
    if ":" in account or _SIGNED.search(rest.partition("?")[2]):
        raise ConfigError(
            f"{where}: expected a URL without a password or signature, for it is written into the run; "
            "give credentials by the usual variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE"
        )


def absolute(text: str | Path) -> Path:
    """Return the path of a file name or URL, completed by the current folder where it is a file name."""
    path = place(text)
    return path if is_remote(path) else path.absolute()


def is_remote(path: Path) -> bool:
    """Whether a path is a URL's."""
    return not isinstance(path, PurePath)


def filesystem(path: Path) -> tuple[Any, str]:
    """Return the fsspec file system of a remote path, and what the path is called there."""
    remote: Any = path
    return remote.fs, remote.path


def check_reachable(path: Path) -> None:
    """Ask once for what lies at a remote path, so that a wrong name or key costs one sentence.

    Raises
    ------
    ConfigError
        No such bucket, no or wrong credentials, or no answer.
    """
    system, key = filesystem(path)
    protocols = {system.protocol} if isinstance(system.protocol, str) else {*system.protocol}
    try:
        system.ls(key, detail=False)
    except FileNotFoundError:
        bucket = key.lstrip("/").partition("/")[0]
        if protocols & _WITH_BUCKETS and not system.exists(bucket):
            raise ConfigError(
                f"{path}: there is no bucket {bucket!r}; check the name and AWS_ENDPOINT_URL, or make it"
            ) from None
    except Exception as error:  # every library has its own kinds
        raise ConfigError(f"{path}: cannot be looked at: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return what kept a remote place from answering and what to do, in one line."""
    said = " ".join(str(error).split())
    match type(error).__name__:
        case "NoCredentialsError" | "PartialCredentialsError":
            return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        case "PermissionError":
            return f"access is denied ({said}); check the credentials and the bucket's policy"
        case "FileNotFoundError":
            return "there is no such object; check bucket and key"
        case kind if kind in _NO_ANSWER:
            return f"no answer ({said}); check the network and AWS_ENDPOINT_URL"
        case kind:
            return f"{kind}: {said}"


_NO_ANSWER = {
    "EndpointConnectionError",
    "ClientConnectorError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ReadTimeoutError",
    "ServerDisconnectedError",
    "FSTimeoutError",
    "TimeoutError",
}


def put(path: Path, data: bytes) -> None:
    """Write a whole remote object, or nothing.

    Raises
    ------
    OutputError
        It was not taken.
    """
    system, key = filesystem(path)
    with _said("write", path):
        system.pipe_file(key, data)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write a remote object unless there is one already; return whether it was written.

    S3 decides (``If-None-Match: *``); of two at once one is told no.
    """
    system, key = filesystem(path)
    with _said("write", path):
        try:
            system.pipe_file(key, data, mode="create")
        except FileExistsError:
            return False
    return True


@contextmanager
def uploaded(path: Path) -> Iterator[Path]:
    """Give a local temporary path; on leaving without an error its content becomes the remote object."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{owner()}-") as folder:
            temporary = Path(folder, "object")
            yield temporary
            system, key = filesystem(path)
            with _said("write", path):
                system.put_file(str(temporary), key)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {tempfile.gettempdir()}, where it is made, answers {error.strerror}; make "
            "room there or name another folder with TMPDIR"
        ) from error


@contextmanager
def _said(step: str, path: Path, *, unless: type[Exception] = OutputError) -> Iterator[None]:
    try:
        yield
    except unless:
        raise
    except Exception as error:  # every library has its own kinds
        raise OutputError(f"cannot {step} {path}: {reason_of(error)}") from error


@contextmanager
def answering(path: Path) -> Iterator[None]:
    """Say in one sentence why a remote place stopped answering, whichever library noticed.

    Raises
    ------
    OutputError
        In place of an error of the place or of its library; every other error is left as it is.
    """
    try:
        yield
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if is_remote(path) and (isinstance(error, OSError) or library in _LIBRARIES):
            raise OutputError(f"cannot look at {path}: {reason_of(error)}") from error
        raise


_LIBRARIES = {"aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"}


def get(path: Path) -> bytes:
    """Return a whole remote object of this package's own, none of which is empty.

    Raises
    ------
    FileNotFoundError
        There is none.
    OutputError
        The place does not answer, or denies access.
    """
    system, key = filesystem(path)
    with _said("read", path, unless=FileNotFoundError):
        data: bytes = system.cat_file(key, start=0)  # with 0, a request less
    return data


def is_there(path: Path) -> bool:
    """Whether there is a remote object, or one below the path.

    Raises
    ------
    OutputError
        The place does not answer, or denies access.
    """
    system, key = filesystem(path)
    with _said("look at", path):
        return bool(system.exists(key))


def names_in(folder: Path) -> list[str]:
    """Return the names right below a remote folder.

    Raises
    ------
    OutputError
        The place does not answer, or denies access.
    """
    system, key = filesystem(folder)
    try:
        with _said("list", folder, unless=FileNotFoundError):
            return [name.rstrip("/").rpartition("/")[2] for name in system.ls(key, detail=False)]
    except FileNotFoundError:
        return []


def seekable(path: Path) -> Path | BytesIO:
    """Return what a library opens: a local path itself, or all bytes of a remote object."""
    if not is_remote(path):
        return path
    system, key = filesystem(path)
    with _said("read", path, unless=FileNotFoundError):
        return BytesIO(system.cat_file(key))


def first_bytes(path: Path, count: int) -> BytesIO:
    """Return the beginning of a remote object; one request."""
    system, key = filesystem(path)
    return BytesIO(system.cat_file(key, start=0, end=count))


def contents(folder: Path, suffix: str) -> dict[str, bytes]:
    """Return the objects right below a remote folder by name, fetched side by side.

    Raises
    ------
    OutputError
        The place does not answer, or denies access.
    """
    system, key = filesystem(folder)
    names = [f"{key.rstrip('/')}/{name}" for name in names_in(folder) if name.endswith(suffix)]
    with _said("read", folder):
        found = system.cat_ranges(
            names, 0, None, on_error="return"
        )  # with 0, a request less for each
        for each in found:
            if isinstance(each, Exception) and not isinstance(each, FileNotFoundError):
                raise each
    return {
        str(name).rpartition("/")[2]: data
        for name, data in zip(names, found, strict=True)
        if isinstance(data, bytes)  # the others are gone meanwhile
    }


def remove_object(path: Path) -> None:
    """Remove a remote object, if it is there.

    Raises
    ------
    OutputError
        The place does not answer, or denies access.
    """
    system, key = filesystem(path)
    with suppress(FileNotFoundError), _said("remove", path, unless=FileNotFoundError):
        system.rm_file(key)


def remove_below(folder: Path) -> None:
    """Remove all objects below a remote folder, if there are any.

    Raises
    ------
    OutputError
        The place does not answer, or denies access.
    """
    system, key = filesystem(folder)
    with _said("remove", folder):
        names = system.find(key)
        plain = [name for name in names if not set(name) & set("*?[")]
        if plain:
            system.rm(plain)
        for name in set(names) - set(plain):  # rm would take it for a pattern
            system.rm_file(name)


def owner() -> str:
    """Return how this process is called in what it leaves where others see it.

    >>> owner() == owner(), is_gone(owner())
    (True, False)
    """
    return f"{socket.gethostname()[:40]}-{_machine()}-{os.getpid()}"


def is_gone(who: str) -> bool:
    """Whether an ``owner()`` is a process of this machine that has ended."""
    host, _, process = who.rpartition("-")
    is_ours = host == owner().rpartition("-")[0]
    return is_ours and process.isdigit() and not Path("/proc", process).exists()


def _machine() -> str:
    """Return what tells this boot and process namespace from others of the same name, as containers have."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        return f"{zlib.crc32(boot + str(Path('/proc/self/ns/pid').stat().st_ino).encode()):08x}"
    except OSError:
        return "0"
