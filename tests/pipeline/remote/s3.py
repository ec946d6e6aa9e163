"""An S3 server on loopback for tests, and what goes in and out of it."""

import gc
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


DENIED = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"""


class Mortal:
    """An S3 server that a test takes away, or that denies everything from then on."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._host, self._port = self._server.get_host_and_port()
        self._denying: ThreadingHTTPServer | None = None
        self.address = f"http://{self._host}:{self._port}"
        self.bucket = f"s3://test-{uuid.uuid4().hex[:12]}"

    def go(self) -> None:
        """Stop answering: connections are refused."""
        self._server.stop()
        self._server._server.server_close()  # type: ignore[union-attr]

    def deny(self) -> None:
        """Answer every request with 403, as S3 does when a key is withdrawn."""
        self.go()
        self._denying = ThreadingHTTPServer((self._host, self._port), _Denying)
        threading.Thread(target=self._denying.serve_forever, daemon=True).start()

    def end(self) -> None:
        """Leave nothing running."""
        if self._denying is not None:
            self._denying.shutdown()
            self._denying.server_close()


class _Denying(BaseHTTPRequestHandler):
    def _deny(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(DENIED)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(DENIED.encode())

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _deny  # noqa: N815  the base class calls these

    def log_message(self, *_: object) -> None:
        """Say nothing."""


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
