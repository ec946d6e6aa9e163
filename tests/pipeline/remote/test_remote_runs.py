"""Runs at URLs: what is written is what a local run writes, and an interrupted one goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from tests.pipeline.remote import s3
from tests.pipeline.remote.s3 import assert_same_but_for_places
from tests.pipeline.runs import (
    CONFIG,
    Command,
    Drawn,
    InterruptedRunError,
    InterruptingPool,
    digests,
    environment,
    process,
    slides_of,
    stored,
    untimed,
)
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import owner, place, put
from wsi_pipeline.stages import cut, remote_lease
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.tile import TileOptions, tile_slides
from wsi_pipeline.stages.verify import verify_run
from wsi_pipeline.store.writer import write_shard

# Server and client warn of what is not ours: sessions left open by a client that was dropped.
pytestmark = pytest.mark.filterwarnings("default")
SETTINGS = ("--tile-size", "128")
FINE = ("--tile-size", "64", "--overlap", "0.25", "--min-tissue", "0")


def test_a_run_from_s3_to_s3_is_byte_for_byte_the_local_one(
    drawn: Drawn, undisturbed: Path, bucket: str, scratch: Path, tmp_path: Path
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    tile_slides([f"{bucket}/slides"], f"{bucket}/RUN", CONFIG)
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert_same_but_for_places(run, undisturbed)
    assert {row["path"] for row in slides_of(run).values()} == {
        f"{bucket}/slides/{path.name}" for path in drawn.folder.iterdir()
    }
    assert not list(run.rglob("leases/*"))
    assert list(scratch.iterdir()) == []


def test_workers_of_the_command_write_to_s3_too(
    drawn: Drawn, undisturbed: Path, bucket: str, scratch: Path, tmp_path: Path
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    line = ("tile", f"{bucket}/slides", "-o", f"{bucket}/RUN", *SETTINGS, "--workers", "2")
    ended = process(*line)
    assert ended.code == 0, ended.err
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert_same_but_for_places(run, undisturbed)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("answers", [1, 2])
def test_an_interrupted_run_on_s3_goes_on(
    answers: int, drawn: Drawn, undisturbed: Path, bucket: str, tmp_path: Path
) -> None:
    with pytest.raises(InterruptedRunError):
        tile_slides([str(drawn.folder)], f"{bucket}/RUN", CONFIG, pool=InterruptingPool(answers))
    outcome = tile_slides([str(drawn.folder)], f"{bucket}/RUN", CONFIG)
    assert len(outcome.already_done) == answers
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert digests(run) == digests(undisturbed)
    pd.testing.assert_frame_equal(untimed(run), untimed(undisturbed))


def test_units_that_are_done_are_kept_when_a_remote_slide_was_interrupted(
    drawn: Drawn, bucket: str, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(TileConfig, {"tile_size": 64, "overlap": 0.25, "min_tissue": 0})
    s3.upload(drawn.folder, f"{bucket}/slides")
    slide, written = f"{bucket}/slides/he.svs", list[int]()

    def stopping_at(most: int) -> Callable[[Path, int, list[bytes | None]], int]:
        def write(array: Path, shard: int, chunks: list[bytes | None]) -> int:
            if len(written) == most:
                raise _Stopped
            written.append(shard)
            return write_shard(array, shard, chunks)

        return write

    monkeypatch.setattr(cut, "write_shard", stopping_at(2))
    with pytest.raises(_Stopped):
        tile_slides([slide], f"{bucket}/RUN", config)
    assert list(scratch.iterdir()) == []
    monkeypatch.setattr(cut, "write_shard", stopping_at(99))
    tile_slides([slide], f"{bucket}/RUN", config)
    assert written == sorted(set(written))
    tile_slides([str(drawn.he)], tmp_path / "LOCAL", config)
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert_same_but_for_places(run, tmp_path / "LOCAL")
    assert list(scratch.iterdir()) == []


class _Stopped(BaseException):
    """Ends a run as Ctrl-C does."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_run_on_s3_that_is_stopped_goes_on_at_once(
    number: signal.Signals, drawn: Drawn, bucket: str, scratch: Path, tmp_path: Path
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    line = ("tile", f"{bucket}/slides/he.svs", "-o", f"{bucket}/RUN", *FINE, "--workers", "1")
    system = s3.file_system(bucket)
    with subprocess.Popen(
        [sys.executable, "-m", "wsi_pipeline", *line],
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    ) as started:
        while len(system.find(f"{bucket}/RUN/tiles.zarr")) < 3:
            assert started.poll() is None
            time.sleep(0.02)
        os.killpg(started.pid, number)
        started.communicate(timeout=30)
    if number == signal.SIGTERM:
        assert started.returncode == 130
        assert list(scratch.iterdir()) == []
    again = process(*line)
    assert again.code == 0, again.err
    config = make_config(TileConfig, {"tile_size": 64, "overlap": 0.25, "min_tissue": 0})
    tile_slides([str(drawn.he)], tmp_path / "LOCAL", config)
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert_same_but_for_places(run, tmp_path / "LOCAL")
    assert [path.name for path in scratch.iterdir() if path.name.startswith("wsi-pipeline-")] == []


def test_verify_reads_a_run_on_s3_again_and_finds_what_is_damaged(
    drawn: Drawn, bucket: str, wsi: Command
) -> None:
    tile_slides([str(drawn.he), str(drawn.plain)], f"{bucket}/RUN", CONFIG)
    sound = wsi("verify", f"{bucket}/RUN")
    assert (sound.code, sound.err) == (0, "")
    assert ": 0 findings" in sound.out
    system = s3.file_system(bucket)
    shard = f"{bucket}/RUN/tiles.zarr/he/c.0.0.0.0"
    data = bytearray(system.cat_file(shard))
    data[100] ^= 255
    system.pipe_file(shard, bytes(data))
    system.rm_file(f"{bucket}/RUN/overlays/plain.jpg")
    damaged = wsi("verify", f"{bucket}/RUN")
    assert damaged.code == 1
    assert "he: tile 0: its" in damaged.err
    assert "plain: its overlay is missing" in damaged.err


def test_zarr_and_pandas_read_a_run_where_it_lies(
    drawn: Drawn, undisturbed: Path, bucket: str
) -> None:
    tile_slides([str(drawn.folder)], f"{bucket}/RUN", CONFIG)
    tiles = pd.read_parquet(f"{bucket}/RUN/manifest")
    pd.testing.assert_frame_equal(tiles, pd.read_parquet(undisturbed / "manifest"))
    array = zarr.open_group(f"{bucket}/RUN/tiles.zarr", mode="r")["he"]
    pixels = np.asarray(array[:])  # type: ignore[index]
    assert np.array_equal(pixels, stored(undisturbed, "he"))


def test_a_second_run_on_s3_is_refused_while_the_first_lives(
    drawn: Drawn, bucket: str, wsi: Command
) -> None:
    system, lease = s3.file_system(bucket), f"{bucket}/RUN/.state/leases/1-of-1.json"

    def hold(who: str) -> None:
        now = pd.Timestamp.now().timestamp()
        system.pipe_file(lease, json.dumps({"owner": who, "time": now}).encode())

    line = ("tile", drawn.he, "-o", f"{bucket}/RUN", *SETTINGS)
    hold("other-host-12")
    for part in ((), ("--part", "1/2")):
        refused = wsi(*line, *part)
        assert refused.code == 2
        assert "being worked on by other-host-12" in refused.err
    hold(f"{owner().rpartition('-')[0]}-4194305")  # killed here: at once nobody's
    assert wsi(*line).code == 0
    assert not system.exists(lease)


def test_a_lease_is_renewed_while_it_is_held_and_forgotten_when_it_is_not(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "RENEWED_S", 0.05)
    run = RunDirectory(path=place(f"{bucket}/RUN"))
    system, lease = s3.file_system(bucket), f"{bucket}/RUN/.state/leases/1-of-1.json"
    with remote_lease.remote_lease(run, part=1, parts=1):
        first = json.loads(system.cat_file(lease))["time"]
        time.sleep(0.5)
        assert json.loads(system.cat_file(lease))["time"] > first
    old = time.time() - remote_lease.FORGOTTEN_S - 1
    system.pipe_file(lease, json.dumps({"owner": "other-host-12", "time": old}).encode())
    with remote_lease.remote_lease(run, part=1, parts=1):
        assert json.loads(system.cat_file(lease))["owner"] == owner()


def test_of_two_that_take_over_a_dead_lease_one_goes_on(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(path=place(f"{bucket}/RUN"))
    system, lease = s3.file_system(bucket), f"{bucket}/RUN/.state/leases/1-of-1.json"
    dead = {"owner": "other-host-12", "time": time.time() - remote_lease.FORGOTTEN_S - 1}
    system.pipe_file(lease, json.dumps(dead).encode())

    def other_is_a_little_later(path: Path, data: bytes) -> None:
        put(path, data)
        put(path, json.dumps({"owner": "third-host-7", "time": time.time()}).encode())

    monkeypatch.setattr(remote_lease, "put", other_is_a_little_later)
    with (
        pytest.raises(ConfigError, match="being worked on by third-host-7"),
        remote_lease.remote_lease(run, part=1, parts=1),
    ):
        pass
    assert json.loads(system.cat_file(lease))["owner"] == "third-host-7"


def test_names_that_look_like_patterns_or_parts_of_urls_are_names(
    drawn: Drawn, bucket: str, tmp_path: Path, wsi: Command
) -> None:
    name = "a [1] 50% #2 ü.svs"
    s3.file_system(bucket).put_file(str(drawn.he), f"{bucket}/slides/{name}")
    line = ("tile", f"{bucket}/slides", "-o", f"{bucket}/RUN", *SETTINGS)
    assert wsi(*line).code == 0
    assert wsi(*line, "--overwrite").code == 0
    (tmp_path / "slides").mkdir()
    shutil.copy(drawn.he, tmp_path / "slides" / name)
    tile_slides([str(tmp_path / "slides")], tmp_path / "LOCAL", CONFIG)
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert_same_but_for_places(run, tmp_path / "LOCAL")
    assert verify_run(f"{bucket}/RUN").findings == ()


def test_parts_share_a_run_on_s3(
    drawn: Drawn, undisturbed: Path, bucket: str, tmp_path: Path
) -> None:
    for part in (1, 2):
        options = TileOptions(part=part, parts=2)
        tile_slides([str(drawn.folder)], f"{bucket}/RUN", CONFIG, options=options)
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert digests(run) == digests(undisturbed)


def test_overwrite_leaves_nothing_of_what_was_there(
    drawn: Drawn, bucket: str, tmp_path: Path, wsi: Command
) -> None:
    line = ("tile", drawn.he, "-o", f"{bucket}/RUN")
    assert wsi(*line, "--tile-size", "64").code == 0
    refused = wsi(*line, *SETTINGS)
    assert refused.code == 2
    assert "was made with other settings" in refused.err
    assert wsi(*line, *SETTINGS, "--overwrite").code == 0
    tile_slides([str(drawn.he)], tmp_path / "LOCAL", CONFIG)
    run = s3.download(f"{bucket}/RUN", tmp_path / "RUN")
    assert digests(run) == digests(tmp_path / "LOCAL")


def test_what_cannot_be_reached_is_told_in_one_sentence(
    drawn: Drawn, server: str, bucket: str, wsi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(slides: str | Path, run: str | Path) -> str:
        ended = wsi("tile", slides, "-o", run, *SETTINGS)
        assert ended.code == 2
        assert len(ended.err.strip().splitlines()) == 1
        return ended.err

    assert "there is no bucket 'none-such'" in said(drawn.he, "s3://none-such/RUN")
    assert "there is no bucket 'none-such'" in said("s3://none-such/slides", f"{bucket}/RUN")
    assert "no such file, folder or match" in said(f"{bucket}/none.svs", f"{bucket}/RUN")
    assert "cannot be looked at" not in said(drawn.he, "nonsense://place/RUN")
    missing = wsi("verify", f"{bucket}/RUN")
    assert missing.code == 2
    assert "found no run.json" in missing.err
    s3.set_up(monkeypatch, s3.NOWHERE)
    assert "no answer" in said(drawn.he, f"{bucket}/RUN")
    s3.set_up(monkeypatch, server, keys={})
    assert "no credentials; set AWS_ACCESS_KEY_ID" in said(drawn.he, f"{bucket}/RUN")


def test_local_runs_load_no_library_of_remote_places(drawn: Drawn, tmp_path: Path) -> None:
    probe = (
        "import sys; from wsi_pipeline.stages.tile import TileConfig, tile_slides;"
        "tile_slides(sys.argv[1:2], sys.argv[2], TileConfig(tile_size=128));"
        "print(sorted({'fsspec', 'upath', 's3fs', 'aiohttp'} & sys.modules.keys()))"
    )
    line = [sys.executable, "-c", probe, str(drawn.plain), str(tmp_path / "RUN")]
    ended = subprocess.run(line, capture_output=True, text=True, check=True, env=environment())
    assert ended.stdout.strip() == "[]"


def test_a_missing_library_is_named(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(ConfigError, match=r"pip install 'wsi-pipeline\[remote\]'"):
        tile_slides([str(drawn.he)], "s3://bucket/RUN", CONFIG)


def test_other_kinds_of_urls_work_the_same(drawn: Drawn, undisturbed: Path, tmp_path: Path) -> None:
    s3.upload(drawn.folder, "memory://remote/slides")
    tile_slides(["memory://remote/slides"], "memory://remote/RUN", CONFIG)
    run = s3.download("memory://remote/RUN", tmp_path / "RUN")
    assert_same_but_for_places(run, undisturbed)
    assert verify_run("memory://remote/RUN").findings == ()


def test_a_file_url_is_a_local_path(drawn: Drawn, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn.folder, tmp_path / "slides")
    tile_slides([f"file://{tmp_path}/slides"], f"file://{tmp_path}/RUN", CONFIG)
    assert_same_but_for_places(tmp_path / "RUN", undisturbed)
