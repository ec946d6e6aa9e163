"""A bucket on a server of this machine, and an empty folder for what is temporary."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.remote import s3


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    with s3.s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket, reached by the usual variables."""
    s3.set_up(monkeypatch, server)
    url = f"s3://test-{uuid.uuid4().hex[:12]}"
    s3.file_system(url).mkdir(url)
    yield url
    s3.forget()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is temporary."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder
