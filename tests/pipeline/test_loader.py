"""The loader on whole runs: every tile once, the same for everybody, gone on with after a kill."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.pipeline.runs import Drawn, environment, rows_of, stored, tile
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.loader.batch import Batch
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.store.layout import shard_name
from wsi_pipeline.store.reader import read_shard
from wsi_pipeline.store.writer import write_shard

SMALL = TileConfig(tile_size=64, overlap=0.25, min_tissue=0.0, tissue="none")
"""264 tiles of each slide, in five shards."""


@pytest.fixture(scope="module")
def run(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test writes to."""
    folder = tmp_path_factory.mktemp("loader") / "RUN"
    tile(folder, drawn.he, drawn.plain, drawn.flat, config=SMALL)
    return folder


@pytest.fixture
def own_run(drawn: Drawn, tmp_path: Path) -> Path:
    """A run of one slide to be damaged."""
    tile(tmp_path / "OWN", drawn.he, config=SMALL)
    return tmp_path / "OWN"


def key(batch: Batch) -> tuple[Any, ...]:
    """Return all that a batch is."""
    arrays = (batch.images, batch.weights, batch.rows, batch.tiles, batch.keys)
    return (batch.epoch, batch.number, batch.slide_ids, *(array.tobytes() for array in arrays))


def test_every_tile_comes_once_an_epoch_with_the_pixels_that_zarr_gives(run: Path) -> None:
    loader = TileLoader(run, batch_size=50, seed=4)
    pixels = {slide_id: stored(run, slide_id) for _, slide_id in loader.rows.arrays}
    for _ in range(2):
        came = []
        for batch in loader:
            assert batch.images.shape == (50, 3, 64, 64)
            for place in np.flatnonzero(batch.weights).tolist():
                slide_id, number = batch.slide_ids[place], int(batch.tiles[place])
                came.append((slide_id, number))
                image = batch.images[place].transpose(1, 2, 0)
                assert np.array_equal(image, pixels[slide_id][number])
        assert sorted(came) == [
            (slide_id, number)
            for slide_id in sorted(pixels)
            for number in range(len(pixels[slide_id]))
        ]
    assert loader.epoch == 2


def test_images_lie_in_memory_with_channels_last(run: Path) -> None:
    batch = next(iter(TileLoader(run, batch_size=8)))
    assert batch.images.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize(("ranks", "workers"), [(1, 3), (2, 1), (3, 2), (5, 4)])
def test_ranks_and_workers_together_have_the_batches_of_one(
    ranks: int, workers: int, run: Path
) -> None:
    alone = list(TileLoader(run, batch_size=31, seed=9))
    parts: dict[int, list[Batch]] = {}
    for rank in range(ranks):
        loader = TileLoader(run, batch_size=31, seed=9, world=World(rank=rank, ranks=ranks))
        assert len(loader) == len(alone)
        for worker in range(workers):
            world = loader.world.with_worker(worker, workers)
            for batch in loader.batches(0, world=world):
                parts.setdefault(batch.number, []).append(batch)
    for whole in alone:
        mine = parts[whole.number]
        assert np.array_equal(np.concatenate([part.images for part in mine]), whole.images)
        assert np.array_equal(np.concatenate([part.keys for part in mine]), whole.keys)
        assert np.array_equal(np.concatenate([part.rows for part in mine]), whole.rows)


@pytest.mark.parametrize("after", [0, 1, 7, 26, 27])
def test_it_goes_on_at_any_batch_as_if_it_had_not_stopped(after: int, run: Path) -> None:
    undisturbed = TileLoader(run, batch_size=32, seed=2)
    expected = [key(batch) for _ in range(2) for batch in undisturbed]
    assert len(expected) == 2 * 27
    first = TileLoader(run, batch_size=32, seed=2)
    for _, _ in zip(range(after), first, strict=False):
        pass
    state = json.loads(json.dumps(first.state_dict()))
    again = TileLoader(run, batch_size=32, seed=2)
    again.load_state_dict(state)
    rest = [key(batch) for _ in range(2) for batch in again]
    assert rest[: len(expected) - after] == expected[after:]


_READER = """
import hashlib, json, sys
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World

run, state, ranks, most = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
worlds = [World(rank=rank, ranks=ranks) for rank in range(ranks)]
loaders = [TileLoader(run, batch_size=32, seed=2, world=world) for world in worlds]
for loader in loaders:
    if state:
        loader.load_state_dict(state)
for number, parts in enumerate(zip(*loaders)):
    pixels = hashlib.sha256(b"".join(part.images.tobytes() for part in parts)).hexdigest()
    keys = [key for part in parts for key in part.keys.tolist()]
    print(json.dumps([loaders[0].state_dict(), parts[0].number, pixels, keys]), flush=True)
    if number == most:
        sys.stdin.read()  # waits to be killed
"""


def read_until(run: Path, state: object, *, ranks: int, killed_after: int) -> list[list[Any]]:
    """Return what a process says of its batches until it is killed, or of all of them for -1."""
    line = [
        sys.executable,
        "-c",
        _READER,
        str(run),
        json.dumps(state),
        str(ranks),
        str(killed_after),
    ]
    said = []
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        for number, each in enumerate(process.stdout):
            said.append(json.loads(each))
            if number == killed_after:
                os.kill(process.pid, signal.SIGKILL)
                break
    return said


def test_after_a_kill_other_ranks_go_on_with_the_same_bits(run: Path) -> None:
    whole = read_until(run, None, ranks=1, killed_after=-1)
    begun = read_until(run, None, ranks=1, killed_after=9)
    gone_on = read_until(run, begun[-1][0], ranks=3, killed_after=-1)
    assert [each[1:] for each in begun + gone_on] == [each[1:] for each in whole]


def test_a_state_of_other_tiles_or_another_order_is_refused(run: Path) -> None:
    state = TileLoader(run, batch_size=32, seed=2).state_dict()
    for settings in ({"seed": 3}, {"batch_size": 16}, {"where": "tile < 100"}, {"image_px": 32}):
        other = TileLoader(run, **{"batch_size": 32, "seed": 2, **settings})  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="other settings"):
            other.load_state_dict(state)


@pytest.fixture
def damaged(own_run: Path) -> Callable[..., Path]:
    """Cut the bytes of tiles in half, in files that are whole otherwise."""

    def damage(*numbers: int) -> Path:
        array = own_run / "tiles.zarr" / "he"
        for shard in {number // 64 for number in numbers}:
            chunks = read_shard(array, shard)
            for number in numbers:
                chunk = chunks[number % 64]
                if number // 64 == shard and chunk is not None:
                    chunks[number % 64] = chunk[: len(chunk) // 2]
            write_shard(array, shard, chunks)
        return own_run

    return damage


def test_a_damaged_tile_stops_the_epoch_and_names_slide_tile_and_file(
    damaged: Callable[..., Path],
) -> None:
    run = damaged(77)
    with pytest.raises(TileError, match="no whole JPEG") as raised:
        list(TileLoader(run, batch_size=16))
    for words in ("slide he", "tile 77", shard_name(1)):
        assert words in str(raised.value)


def test_skipped_tiles_are_counted_and_another_stands_in_for_each(
    damaged: Callable[..., Path], run: Path
) -> None:
    hurt = damaged(0, 77, 78)
    loader = TileLoader(hurt, batch_size=16, on_error="skip", most_skipped=0.02)
    whole = TileLoader(run, batch_size=16, where="slide_id == 'he' and status == 'ok'")
    assert loader.rows.digest() == whole.rows.digest()
    problems: list[str] = []
    for batch, good in zip(loader, whole, strict=True):
        problems.extend(batch.problems)
        left_out = (batch.rows != good.rows).tolist()
        assert np.array_equal(batch.weights, np.where(left_out, 0, good.weights))
        for place, is_out in enumerate(left_out):
            same = np.array_equal(batch.images[place], good.images[place])
            assert same != is_out
            assert batch.images[place].max() > 0
    assert len(problems) == 3
    assert all(words in " ".join(problems) for words in ("tile 0,", "tile 77,", "tile 78,"))


def test_more_skipped_tiles_than_allowed_stop_the_epoch(damaged: Callable[..., Path]) -> None:
    run = damaged(0, 77, 78)
    with pytest.raises(TileError, match=r"3 tiles .* most_skipped allows 2; the last: "):
        list(TileLoader(run, batch_size=16, on_error="skip", most_skipped=0.008))


def test_a_batch_of_which_nothing_can_be_decoded_stops_the_epoch(
    damaged: Callable[..., Path],
) -> None:
    run = damaged(*range(16))
    loader = TileLoader(run, batch_size=8, shuffle=False, on_error="skip", most_skipped=1.0)
    with pytest.raises(TileError, match="no tile of batch 0 can be decoded"):
        next(iter(loader))


def test_a_tile_that_is_not_stored_is_no_black_image(own_run: Path) -> None:
    array = own_run / "tiles.zarr" / "he"
    chunks = read_shard(array, 0)
    write_shard(array, 0, [None, *chunks[1:]])
    with pytest.raises(TileError, match=r"tile 0, .*nothing is stored"):
        list(TileLoader(own_run, batch_size=16))


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "array"])
def test_a_damaged_file_is_named(damage: str, own_run: Path) -> None:
    path = own_run / "tiles.zarr" / "he" / shard_name(2)
    match damage:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:-50])
        case _:
            path = path.with_name("zarr.json")
            path.write_text("{}")
    with pytest.raises(TileError, match=path.name.replace(".", r"\.")):
        list(TileLoader(own_run, batch_size=16))


@pytest.mark.parametrize("settings", [{}, {"mpp": 0.8}, {"whole_image": True}, {"edge": "shift"}])
def test_a_run_without_pixels_reads_the_slides_and_gives_the_same(
    settings: dict[str, Any], drawn: Drawn, tmp_path: Path
) -> None:
    names = ("plain", "he") if "mpp" in settings else ("plain", "he", "flat")
    values = {**SMALL.model_dump(), **settings}
    for store in ("zarr", "none"):
        config = TileConfig(**{**values, "store": store, "codec": "zstd"})
        tile(tmp_path / store, *(getattr(drawn, name) for name in names), config=config)
    kept, bare = (
        TileLoader(tmp_path / store, batch_size=40, seed=1, image_px=48)
        for store in ("zarr", "none")
    )
    assert [key(batch) for batch in kept] == [key(batch) for batch in bare]


def test_a_slide_that_is_gone_is_named(drawn: Drawn, tmp_path: Path) -> None:
    slide = tmp_path / "gone.tif"
    slide.write_bytes(drawn.plain.read_bytes())
    config = TileConfig(**{**SMALL.model_dump(), "store": "none"})
    tile(tmp_path / "RUN", slide, config=config)
    slide.unlink()
    with pytest.raises(TileError, match=r"slide gone, tile \d+, in .*gone\.tif"):
        next(iter(TileLoader(tmp_path / "RUN", batch_size=4)))


def test_a_remote_slide_of_a_run_without_pixels_is_refused_in_a_sentence(
    drawn: Drawn, tmp_path: Path
) -> None:
    config = TileConfig(**{**SMALL.model_dump(), "store": "none"})
    tile(tmp_path / "RUN", drawn.plain, config=config)
    path = tmp_path / "RUN" / "slides.parquet"
    slides = pq.read_table(path)
    moved = pa.array(["s3://bucket/plain.tif"] * slides.num_rows)
    place = slides.column_names.index("path")
    pq.write_table(slides.set_column(place, "path", moved), path)
    with pytest.raises(ConfigError, match="stores no pixels and plain is remote; cut it with"):
        next(iter(TileLoader(tmp_path / "RUN", batch_size=4)))


def test_an_arrow_expression_chooses_from_several_runs(run: Path, own_run: Path) -> None:
    where = (pc.field("tile") < 40) & (pc.field("slide_id") == "he")
    loader = TileLoader([run, own_run], where=where, batch_size=20, target="slide_id")
    found = [
        (loader.rows.arrays[array], tile)
        for array, tile in zip(loader.rows.array.tolist(), loader.rows.tile.tolist(), strict=True)
    ]
    assert found == [((number, "he"), tile) for number in (0, 1) for tile in range(40)]
    assert len(list(loader)) == 4


def test_targets_weights_and_columns_are_those_of_the_tiles(run: Path) -> None:
    loader = TileLoader(
        run, batch_size=20, target="slide_id", weight="tissue", columns=("x", "laplacian_var")
    )
    assert loader.classes == ("flat", "he", "plain")
    by_tile = {
        (slide_id, row["tile"]): row
        for slide_id in loader.classes
        for row in rows_of(run, slide_id)
    }
    for batch in loader:
        assert batch.targets is not None
        for place in np.flatnonzero(batch.rows >= 0).tolist():
            slide_id = batch.slide_ids[place]
            row = by_tile[slide_id, int(batch.tiles[place])]
            assert loader.classes[batch.targets[place]] == slide_id
            assert batch.weights[place] == np.float32(row["tissue"])
            assert batch.columns["x"][place] == row["x"]
            assert batch.columns["laplacian_var"][place] == np.float32(row["laplacian_var"])


def test_classes_may_be_given_in_another_order_and_must_be_all(run: Path) -> None:
    order = ("plain", "flat", "he")
    loader = TileLoader(run, batch_size=20, target="slide_id", classes=order)
    batch = next(iter(loader))
    assert batch.targets is not None
    names = [order[target] for target in batch.targets]
    assert names == list(batch.slide_ids)
    with pytest.raises(ConfigError, match="classes: he, flat lacks plain"):
        TileLoader(run, batch_size=20, target="slide_id", classes=("he", "flat"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "batch_size"),
        ({"batch_size": 0}, "batch_size: expected a number of tiles"),
        ({"batch_size": 4, "batchsize": 3}, "did you mean batch_size"),
        ({"batch_size": 4000, "drop_last": True}, "drop_last: leaves no batch of 4000 of"),
        ({"batch_size": 4, "target": "label"}, "has no column label"),
        ({"batch_size": 4, "target": "reason"}, "expected words|have no reason"),
        ({"batch_size": 4, "world": World(rank=0, ranks=5)}, "at least a tile for each of 5 ranks"),
        ({"batch_size": 4, "target": "mpp", "classes": ("a",)}, "classes: expected none"),
        (
            {"batch_size": 4, "weight": "slide_id"},
            "weight: expected a column of numbers, got words",
        ),
        ({"batch_size": 4, "weight": "mpp"}, r"weight: .* \d+ tiles have none, or less, in mpp"),
        ({"batch_size": 4, "target": "mpp"}, r"tiles have no mpp; .*mpp.notna\(\)"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(
    settings: dict[str, Any], said: str, run: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        TileLoader(run, **settings)


def test_memory_is_used_again_and_open_files_do_not_grow(run: Path) -> None:
    loader = TileLoader(run, batch_size=64, ahead_bytes=0, threads=2)

    def addresses(batches: Iterator[Batch]) -> set[int]:
        return {int(batch.images.ctypes.data) for batch in batches}

    first = addresses(iter(loader))
    assert len(first) <= 3
    assert addresses(iter(loader)) | addresses(iter(loader)) <= first
    gc.collect()
    files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        addresses(iter(loader))
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


def test_a_loader_that_is_dropped_closes_its_files_at_once(run: Path) -> None:
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    loader = TileLoader(run, batch_size=64)
    next(iter(loader))
    gc.disable()  # counting references must be enough
    try:
        del loader
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
    finally:
        gc.enable()


def test_a_batch_that_is_kept_does_not_change(run: Path) -> None:
    loader = TileLoader(run, batch_size=16, ahead_bytes=0)
    kept = [(batch, batch.images.copy()) for batch in loader]
    assert all(np.array_equal(batch.images, copy) for batch, copy in kept)


def test_breaking_off_leaves_no_thread_behind(run: Path) -> None:
    before = threading.active_count()
    for batch in TileLoader(run, batch_size=8):
        assert batch.number == 0
        break
    assert threading.active_count() == before


def test_the_loader_needs_no_torch(run: Path) -> None:
    probe = (
        "import sys; from wsi_pipeline.loader.tiles import TileLoader;"
        f"next(iter(TileLoader({str(run)!r}, batch_size=4))); print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment()
    )
    assert answer.stdout.strip() == "False"


def test_mixing_is_told_beside_a_permutations(run: Path) -> None:
    loader = TileLoader(run, batch_size=32, seed=1)
    found = loader.mixing()
    for each in found.values():
        assert each.shards_per_batch > 0.9 * each.of_a_permutation
    assert found["slides"].of_a_permutation <= 3
