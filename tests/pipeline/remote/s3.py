"""An S3 server on loopback for tests, and what goes in and out of it."""

import gc
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from tests.pipeline.runs import digests, untimed

NOWHERE = "http://127.0.0.1:9"
"""Where nobody answers."""

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Give the address of a server that holds nothing."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line per request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def set_up(monkeypatch: pytest.MonkeyPatch, address: str, keys: Mapping[str, str] = KEYS) -> None:
    """Name server and credentials by the usual variables, for this process and those it starts."""
    for name in (*KEYS, "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    for name, value in {**settings, **keys}.items():
        monkeypatch.setenv(name, value)
    forget()


def forget() -> None:
    """Drop every connection now: what it warns of must not come up in a later test."""
    system: Any = fsspec.get_filesystem_class("s3")
    system.clear_instance_cache()
    gc.collect()


def file_system(url: str) -> fsspec.AbstractFileSystem:
    """Return what knows the objects of a URL."""
    return fsspec.url_to_fs(url, use_listings_cache=False)[0]


def upload(folder: Path, url: str) -> None:
    """Put every file of a folder below a URL."""
    system = file_system(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.put_file(str(path), f"{url}/{path.relative_to(folder)}")


def download(url: str, folder: Path) -> Path:
    """Return a folder with every object below a URL."""
    system, root = fsspec.url_to_fs(url, use_listings_cache=False)
    for name in system.find(root):
        path = folder / name.removeprefix(root).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(name, str(path))
    return folder


def assert_same_but_for_places(run: Path, other: Path) -> None:
    """Assert the same bytes, and the same table of slides but for where and when their files lie."""
    assert digests(run) == digests(other)
    ours, theirs = (untimed(each).drop(columns=["path", "mtime_ns"]) for each in (run, other))
    pd.testing.assert_frame_equal(ours, theirs)
