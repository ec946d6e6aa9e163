"""``verify`` finds whatever differs from what was written, and names slide and tile."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.runs import Command, Drawn, process, rows_of, tile
from wsi_pipeline.config import make_config
from wsi_pipeline.stages.tile import TileConfig
from wsi_pipeline.store.layout import INDEX_ENTRY_BYTES, SHARD_TILES
from wsi_pipeline.store.reader import read_shard
from wsi_pipeline.store.writer import write_shard

INDEX_BYTES = SHARD_TILES * INDEX_ENTRY_BYTES + 4


@pytest.fixture(scope="module")
def whole(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two slides with three shards each; tests damage copies."""
    run = tmp_path_factory.mktemp("verify") / "RUN"
    config = make_config(TileConfig, {"tile_size": 64, "overlap": 0, "min_tissue": 0})
    tile(run, drawn.he, drawn.plain, config=config)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "RUN"))


def shard(run: Path, number: int = 1) -> Path:
    return run / "tiles.zarr" / "he" / f"c.{number}.0.0.0"


def flip_in_tile_70(run: Path) -> None:
    chunks = read_shard(run / "tiles.zarr" / "he", 1)
    before = sum(len(chunk or b"") for chunk in chunks[:6])
    data = bytearray(shard(run).read_bytes())
    data[before + len(chunks[6] or b"") // 2] ^= 1
    shard(run).write_bytes(data)


def swap_tiles_64_and_65(run: Path) -> None:
    chunks = read_shard(run / "tiles.zarr" / "he", 1)
    write_shard(run / "tiles.zarr" / "he", 1, [chunks[1], chunks[0], *chunks[2:]])


def lose_tile_66(run: Path) -> None:
    chunks = read_shard(run / "tiles.zarr" / "he", 1)
    write_shard(run / "tiles.zarr" / "he", 1, [*chunks[:2], None, *chunks[3:]])


def flip_in_index(run: Path) -> None:
    data = bytearray(shard(run).read_bytes())
    data[-INDEX_BYTES + 3] ^= 1
    shard(run).write_bytes(data)


def truncate_shard(run: Path) -> None:
    data = shard(run).read_bytes()
    shard(run).write_bytes(data[: len(data) // 2])


def remove_shard(run: Path) -> None:
    shard(run).unlink()


def shard_of_another_slide(run: Path) -> None:
    shutil.copy(run / "tiles.zarr/plain/c.1.0.0.0", shard(run))


def remove_array(run: Path) -> None:
    shutil.rmtree(run / "tiles.zarr" / "he")


def change_metadata(run: Path) -> None:
    path = run / "tiles.zarr" / "he" / "zarr.json"
    path.write_text(path.read_text("utf-8").replace('"quality": 90', '"quality": 80'), "utf-8")


def remove_manifest(run: Path) -> None:
    (run / "manifest" / "he.parquet").unlink()


def truncate_manifest(run: Path) -> None:
    path = run / "manifest" / "he.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def empty_manifest(run: Path) -> None:
    (run / "manifest" / "he.parquet").write_bytes(b"")


def manifest_of_another_slide(run: Path) -> None:
    shutil.copy(run / "manifest" / "plain.parquet", run / "manifest" / "he.parquet")


def remove_overlay(run: Path) -> None:
    (run / "overlays" / "he.jpg").unlink()


DAMAGE: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "a flipped bit": (flip_in_tile_70, ("he: tile 70: ", "CRC-32C")),
    "swapped tiles": (swap_tiles_64_and_65, ("he: tile 64: ", "he: tile 65: ", "CRC-32C")),
    "a lost tile": (lose_tile_66, ("he: tile 66: no pixels are stored",)),
    "a damaged index": (flip_in_index, ("he: tile 64: ", "index is damaged")),
    "a truncated shard": (truncate_shard, ("he: tile 64: ", "index is damaged or cut off")),
    "a missing shard": (remove_shard, ("he: tile 64: ", "cannot be read", "and 44 more")),
    "a shard of another slide": (shard_of_another_slide, ("he: tile 64: ", "CRC-32C")),
    "a missing array": (remove_array, ("he: zarr.json is missing", "he: tile 0: ")),
    "changed metadata": (change_metadata, ("he: zarr.json is missing or is not what",)),
    "a deleted manifest": (remove_manifest, ("he: its manifest cannot be read",)),
    "a truncated manifest": (truncate_manifest, ("he: its manifest cannot be read",)),
    "an empty manifest": (empty_manifest, ("he: its manifest cannot be read",)),
    "a manifest of another slide": (manifest_of_another_slide, ("he: ",)),
    "a missing overlay": (remove_overlay, ("he: its overlay is missing",)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(name: str, run: Path, wsi: Command) -> None:
    damage, words = DAMAGE[name]
    damage(run)
    ended = wsi("verify", run)
    assert ended.code == 1
    assert all(word in ended.err for word in words), ended.err
    assert all(line.startswith("found: he: ") for line in ended.err.splitlines())
    assert "Traceback" not in ended.err


def test_a_flipped_bit_anywhere_in_a_shard_is_found(run: Path, wsi: Command) -> None:
    sound = shard(run).read_bytes()
    places = np.random.default_rng(5).integers(0, len(sound), 8)
    for place in places.tolist():
        data = bytearray(sound)
        data[place] ^= 0x10
        shard(run).write_bytes(data)
        assert wsi("verify", run).code == 1, place


def test_an_array_of_a_slide_that_is_not_done_is_found(run: Path, wsi: Command) -> None:
    (run / ".state" / "slides" / "he.json").unlink()
    ended = wsi("verify", run)
    assert ended.code == 1
    assert "found: he: a manifest or array of a slide that is not done" in ended.err


def test_a_sound_run_has_no_findings_and_every_tile_was_read(whole: Path, wsi: Command) -> None:
    tiles = len(rows_of(whole, "he")) + len(rows_of(whole, "plain"))
    ended = wsi("verify", whole)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{tiles} tiles of 2 slides read again: 0 findings\n"


def test_verifying_writes_nothing(whole: Path, wsi: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert wsi("verify", whole).code == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_real_processes_find_damage_too(run: Path) -> None:
    flip_in_tile_70(run)
    ended = process("verify", run)
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("found: he: tile 70: ")


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_what_is_no_run_is_refused(name: str, tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "empty").mkdir()
    ended = wsi("verify", tmp_path / name)
    assert ended.code == 2
    assert f"{tmp_path / name}: expected a run directory" in ended.err
