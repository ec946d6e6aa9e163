"""The loader on runs in a bucket: the same batches, one version of every shard, and a cache within bounds."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.remote import s3
from tests.pipeline.runs import Drawn, environment, tile
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.loader import objects
from wsi_pipeline.loader.objects import LocalCache, RemoteShard, tried, version_of
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.remote import place
from wsi_pipeline.store.layout import shard_name
from wsi_pipeline.store.reader import read_shard

# Server and client warn of what is not ours: sessions left open by a client that was dropped.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def run(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a local disk: two slides, ten shards."""
    folder = tmp_path_factory.mktemp("loader") / "RUN"
    config = TileConfig(tile_size=64, overlap=0.25, min_tissue=0.0, tissue="none")
    tile(folder, drawn.he, drawn.plain, config=config)
    return folder


@pytest.fixture
def url(run: Path, bucket: str) -> str:
    """The same run in a bucket."""
    s3.upload(run, f"{bucket}/RUN")
    return f"{bucket}/RUN"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read of which object."""
    log: list[str] = []
    real = objects._range

    def recorded(path: Path, start: int, end: int, *, tag: str) -> bytes:
        log.append(f"{path.name} {start}-{end}")
        return real(path, start, end, tag=tag)

    monkeypatch.setattr(objects, "_range", recorded)
    return log


def assert_same_batches(one: TileLoader, other: TileLoader) -> None:
    for batch, again in zip(one, other, strict=True):
        assert np.array_equal(batch.images, again.images)
        assert np.array_equal(batch.keys, again.keys)


def test_batches_from_a_bucket_are_those_from_a_disk(run: Path, url: str) -> None:
    assert_same_batches(
        TileLoader(run, batch_size=64, seed=3), TileLoader(url, batch_size=64, seed=3)
    )


def test_in_order_tiles_are_read_together(url: str, asked: list[str]) -> None:
    batches = list(TileLoader(url, batch_size=128, shuffle=False, threads=2))
    tiles = sum(int(np.count_nonzero(batch.weights)) for batch in batches)
    assert len(asked) < tiles / 5


def test_with_a_cache_every_shard_is_fetched_once_and_then_never(
    run: Path, url: str, tmp_path: Path, asked: list[str]
) -> None:
    cached: dict[str, Any] = {"cache": str(tmp_path / "cache"), "batch_size": 64, "seed": 3}
    local = TileLoader(run, batch_size=64, seed=3)
    assert_same_batches(TileLoader(url, **cached), local)
    shards = len(list((run / "tiles.zarr").glob("*/c.*")))
    assert len(asked) == shards
    local.set_epoch(0)
    assert_same_batches(TileLoader(url, **cached), local)
    assert len(asked) == shards


_READER = """
import hashlib, sys
from wsi_pipeline.loader.tiles import TileLoader

loader = TileLoader(sys.argv[1], batch_size=64, seed=3, cache=sys.argv[2])
print(hashlib.sha256(b"".join(batch.images.tobytes() for batch in loader)).hexdigest())
"""


def test_processes_that_begin_together_share_a_cache(run: Path, url: str, tmp_path: Path) -> None:
    line = [sys.executable, "-c", _READER, url, str(tmp_path / "cache")]
    readers = [
        subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment())
        for _ in range(3)
    ]
    said = {reader.communicate(timeout=100)[0] for reader in readers}
    batches = [batch.images.tobytes() for batch in TileLoader(run, batch_size=64, seed=3)]
    assert said == {hashlib.sha256(b"".join(batches)).hexdigest() + "\n"}
    shards = len(list((run / "tiles.zarr").glob("*/c.*")))
    names = [path.suffix for path in (tmp_path / "cache").iterdir()]
    assert names.count(".shard") == shards
    assert set(names) == {".shard", ".lock"}


def test_a_cache_keeps_within_its_size_and_what_was_used_last(url: str, tmp_path: Path) -> None:
    array = place(f"{url}/tiles.zarr/he")
    shards = [array / shard_name(number) for number in range(4)]
    sizes = [version_of(shard).size_bytes for shard in shards]
    cache = LocalCache(folder=tmp_path, most_bytes=sum(sizes[:3]) + 10)

    def kept() -> set[int]:
        return {path.stat().st_size for path in tmp_path.glob("*.shard")}

    first = cache.shard(shards[0])
    for number in (1, 2, 0, 3):  # 1 is the one used longest ago when 3 comes
        time.sleep(0.01)
        cache.shard(shards[number])
    assert kept() == {sizes[0], sizes[2], sizes[3]}
    cache = LocalCache(folder=tmp_path, most_bytes=1)
    cache.shard(shards[1])
    assert kept() == {sizes[1]}
    assert first.read(0, 10)  # its file is gone, and open here


def test_a_cached_copy_of_another_version_is_not_used(url: str, tmp_path: Path) -> None:
    shard = place(f"{url}/tiles.zarr/he/{shard_name(0)}")
    other = place(f"{url}/tiles.zarr/he/{shard_name(1)}")
    cache = LocalCache(folder=tmp_path, most_bytes=1 << 30)
    before = cache.shard(shard).index
    shard.write_bytes(other.read_bytes())
    assert cache.shard(shard).index != before


def test_what_a_killed_process_left_in_a_cache_goes(url: str, tmp_path: Path) -> None:
    left = tmp_path / ".tmp-somewhere-1-abc"
    left.write_bytes(b"half a shard")
    yesterday = time.time() - 100_000
    os.utime(left, (yesterday, yesterday))
    next(iter(TileLoader(url, batch_size=8, cache=str(tmp_path))))
    assert not left.exists()


def test_a_shard_that_is_replaced_while_it_is_read_is_an_error_and_no_mixture(url: str) -> None:
    path = place(f"{url}/tiles.zarr/he/{shard_name(0)}")
    shard = RemoteShard(path)
    assert shard.read(0, 8)
    data = path.read_bytes()
    path.write_bytes(data[::-1])
    with pytest.raises(TileError, match="was replaced while it was read"):
        shard.read(0, 8)


def test_the_index_of_a_remote_shard_is_that_of_the_file(run: Path, url: str) -> None:
    array = run / "tiles.zarr" / "he"
    for number in range(5):
        shard = RemoteShard(place(f"{url}/tiles.zarr/he/{shard_name(number)}"))
        for chunk, (offset, length) in zip(read_shard(array, number), shard.index, strict=True):
            if chunk is not None:
                assert shard.read(offset, offset + length) == chunk


def test_a_lost_shard_is_named_at_once(url: str) -> None:
    path = place(f"{url}/tiles.zarr/he/{shard_name(0)}")
    path.unlink()
    start = time.monotonic()
    with pytest.raises(TileError, match=r"slide he, tile .*c\.0\.0\.0\.0.*no such object"):
        list(TileLoader(url, batch_size=64))
    assert time.monotonic() - start < 10


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.left = failures
        self.error = error

    def __call__(self) -> str:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "answer"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_a_request_that_fails_is_tried_again_after_longer_and_longer(waits: list[float]) -> None:
    assert tried(Path("x"), Flaky(4, OSError("slow down"))) == "answer"
    assert waits == [0.2, 0.4, 0.8, 1.6]
    with pytest.raises(TileError, match=r"x: 5 tries, .*slow down"):
        tried(Path("x"), Flaky(5, OSError("slow down")))


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x")])
def test_a_request_in_vain_is_not_tried_again(error: Exception, waits: list[float]) -> None:
    with pytest.raises(TileError):
        tried(Path("x"), Flaky(1, error))
    assert waits == []


def test_a_range_that_fails_now_and_then_costs_nothing_but_time(
    run: Path, url: str, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    real: Callable[..., bytes] = objects._range
    calls = iter(range(10_000))

    def flaky(*arguments: Any, **more: Any) -> bytes:  # noqa: ANN401
        if next(calls) % 7 == 3:
            raise OSError("connection reset")
        return real(*arguments, **more)

    monkeypatch.setattr(objects, "_range", flaky)
    assert_same_batches(
        TileLoader(run, batch_size=64, seed=3), TileLoader(url, batch_size=64, seed=3)
    )
    assert waits
