"""The loader in torch: the same batches as without it, for any number of worker processes."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.runs import Drawn, tile
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.loader.batch import Batch
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.store.layout import shard_name

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")

from wsi_pipeline.loader.dataset import TensorBatch, TileDataLoader, TileDataset  # noqa: E402

# torch warns of more processes than cores, and of forking beside threads.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def run(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two slides."""
    folder = tmp_path_factory.mktemp("loader") / "RUN"
    config = TileConfig(tile_size=64, overlap=0.25, min_tissue=0.0, tissue="none")
    tile(folder, drawn.he, drawn.plain, config=config)
    return folder


def loader_of(run: Path, **settings: object) -> TileLoader:
    return TileLoader(run, **{"batch_size": 48, "seed": 5, "target": "slide_id", **settings})  # type: ignore[arg-type]


def assert_same(batch: Batch, tensors: TensorBatch) -> None:
    assert (batch.epoch, batch.number, batch.slide_ids) == (
        tensors.epoch,
        tensors.number,
        tensors.slide_ids,
    )
    for name in ("images", "targets", "weights", "rows", "tiles"):
        assert np.array_equal(getattr(batch, name), getattr(tensors, name).numpy())
    assert np.array_equal(batch.keys, tensors.keys.numpy().view(np.uint64))


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_any_number_of_worker_processes_gives_the_same_batches(workers: int, run: Path) -> None:
    loader = TileDataLoader(loader_of(run), workers=workers)
    alone = loader_of(run)
    for _ in range(2):
        for batch, tensors in zip(alone, loader, strict=True):
            assert_same(batch, tensors)
            assert tensors.images.is_contiguous(memory_format=torch.channels_last)


def test_worker_processes_that_live_on_see_the_next_epoch(run: Path) -> None:
    loader = TileDataLoader(loader_of(run), workers=2, persistent_workers=True)
    alone = loader_of(run)
    for _ in range(3):
        for batch, tensors in zip(alone, loader, strict=True):
            assert_same(batch, tensors)
    assert loader.loader.epoch == 3


def test_a_batch_that_is_kept_is_not_overwritten_by_a_worker(run: Path) -> None:
    kept = [(batch, batch.images.clone()) for batch in TileDataLoader(loader_of(run), workers=1)]
    assert all(torch.equal(batch.images, copy) for batch, copy in kept)


def test_images_from_workers_are_shared_and_not_copied(run: Path) -> None:
    assert next(iter(TileDataLoader(loader_of(run), workers=1))).images.is_shared()


@pytest.mark.parametrize(("before", "after"), [(0, 2), (3, 0), (2, 1)])
def test_it_goes_on_with_another_number_of_workers(before: int, after: int, run: Path) -> None:
    alone = loader_of(run)
    expected = [batch for _ in range(2) for batch in alone]
    first = TileDataLoader(loader_of(run), workers=before)
    for _, _ in zip(range(4), first, strict=False):
        pass
    state = json.loads(json.dumps(first.state_dict()))
    again = TileDataLoader(loader_of(run), workers=after)
    again.load_state_dict(state)
    rest = [batch for _ in range(2) for batch in again]
    for batch, tensors in zip(expected[4:], rest, strict=False):
        assert_same(batch, tensors)


def test_it_is_a_data_set_of_torchs_own_loader(run: Path) -> None:
    dataset = TileDataset(loader_of(run))
    plain = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert len(plain) == len(loader_of(run))
    for epoch in range(2):
        dataset.set_epoch(epoch)
        alone = loader_of(run)
        alone.set_epoch(epoch)
        batches = list(plain)
        for batch, tensors in zip(alone, batches, strict=True):
            assert_same(batch, tensors)
        state = dataset.loader.state_dict(after=batches[3])
        assert (state["epoch"], state["batch"]) == (epoch, 4)


def test_what_a_worker_cannot_decode_is_named_in_the_main_process(
    drawn: Drawn, tmp_path: Path
) -> None:
    config = TileConfig(tile_size=64, overlap=0.25, min_tissue=0.0, tissue="none")
    tile(tmp_path / "RUN", drawn.he, config=config)
    shard = tmp_path / "RUN" / "tiles.zarr" / "he" / shard_name(1)
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(TileError, match=r"slide he, tile \d+, in .*c\.1\.0\.0\.0"):
        list(TileDataLoader(loader_of(tmp_path / "RUN"), workers=1))


def _rank(
    rank: int, ranks: int, file: str, run: Path, answers: "multiprocessing.Queue[object]"
) -> None:
    distributed = torch.distributed

    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=ranks
    )
    loader = TileDataLoader(loader_of(run), workers=0)
    assert loader.loader.world == World(rank=rank, ranks=ranks)
    rows = []
    for batch in loader:
        total = torch.tensor([batch.weights.sum()])
        distributed.all_reduce(total)  # hangs if a rank has a batch less
        rows.append((batch.rows.tolist(), float(total)))
    answers.put((rank, rows))
    distributed.destroy_process_group()


def test_ranks_of_torch_distributed_end_together_and_have_every_tile_once(
    run: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = 3
    started = [
        context.Process(target=_rank, args=(rank, ranks, str(tmp_path / "meet"), run, answers))
        for rank in range(ranks)
    ]
    for process in started:
        process.start()
    found = dict(answers.get(timeout=100) for _ in started)
    for process in started:
        process.join(60)
    alone = list(loader_of(run))
    for number, batch in enumerate(alone):
        rows = [row for rank in range(ranks) for row in found[rank][number][0]]
        assert rows == batch.rows.tolist()
        assert found[0][number][1] == float(batch.weights.sum())


def test_tensors_move_to_a_device_together(run: Path) -> None:
    batch = next(iter(TileDataLoader(loader_of(run, columns=("x",)))))
    moved = batch.to("meta")
    assert moved.images.device.type == "meta"
    assert moved.targets is not None
    assert moved.targets.device.type == moved.columns["x"].device.type == "meta"
    assert moved.slide_ids == batch.slide_ids
