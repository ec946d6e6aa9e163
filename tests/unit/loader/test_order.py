"""Every tile once, the same for everybody, well mixed, with few shards open."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.order import Batches, balanced, mixing, shuffled
from wsi_pipeline.loader.world import World, processes_here, this_world

shard_lists = st.lists(st.integers(0, 12), max_size=300).map(lambda row: np.array(row, np.int32))
seeds = st.integers(0, 2**40)


def shards_of(tiles: int, span: int) -> NDArray[np.int32]:
    return (np.arange(tiles) // span).astype(np.int32)


@given(shard_lists, seeds, st.integers(0, 5), st.integers(1, 400))
def test_every_tile_comes_once(
    shards: NDArray[np.int32], seed: int, epoch: int, block: int
) -> None:
    order = shuffled(shards, seed=seed, epoch=epoch, block_tiles=block)
    assert sorted(order.tolist()) == list(range(len(shards)))


@given(st.integers(40, 300).map(lambda tiles: shards_of(tiles, 7)), seeds)
def test_epochs_and_seeds_differ_and_repeat_themselves(
    shards: NDArray[np.int32], seed: int
) -> None:
    orders = [
        shuffled(shards, seed=s, epoch=e).tolist() for s, e in ((seed, 0), (seed, 1), (seed + 1, 0))
    ]
    assert orders[0] == shuffled(shards, seed=seed, epoch=0).tolist()
    assert len({tuple(order) for order in orders}) == 3


def test_few_shards_are_open_and_a_batch_sees_nearly_as_many_as_of_a_permutation() -> None:
    shards = shards_of(1_000_000, 64)
    found = mixing(shards, shuffled(shards, seed=1, epoch=0), batch_size=256)
    assert found.shards_per_batch > 0.75 * found.of_a_permutation
    assert found.most_open < 1.5 * (1 << 15) / 64 + 10


def test_all_tiles_of_a_shard_come_within_a_block() -> None:
    shards = shards_of(100_000, 50)
    order = shuffled(shards, seed=4, epoch=2, block_tiles=5_000)
    places = np.empty(len(shards), np.int64)
    places[order] = np.arange(len(shards))
    spread = np.ptp(places.reshape(-1, 50), axis=1)
    assert spread.max() <= 1.25 * 5_000 * 1.1  # places are ranks of draws: not exact


def test_both_ends_are_as_mixed_as_the_middle() -> None:
    shards = shards_of(200_000, 64)
    row = shards[shuffled(shards, seed=0, epoch=0, block_tiles=20_000)]
    distinct = [len(np.unique(part)) for part in np.split(row[: 200_000 // 250 * 250], 800)]
    assert min(distinct[:5] + distinct[-5:]) > 0.6 * float(np.median(distinct))


def test_a_shuffle_is_uniform_over_epochs() -> None:
    shards = shards_of(64, 8)
    first = [int(shuffled(shards, seed=9, epoch=epoch, block_tiles=64)[0]) for epoch in range(3000)]
    counts = np.bincount(first, minlength=64)
    assert counts.min() > 15  # 47 expected
    assert counts.max() < 110


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array),
    st.integers(1, 40),
    seeds,
)
def test_balance_gives_as_many_of_each_and_all_their_turn(
    groups: NDArray[np.int64], wanted: int, seed: int
) -> None:
    rounds = [balanced(groups, seed=seed, epoch=e, per_group=wanted) for e in range(4)]
    for chosen in rounds:
        _, counts = np.unique(groups[chosen], return_counts=True)
        assert set(counts.tolist()) == {wanted}
    uses = np.bincount(np.concatenate(rounds), minlength=len(groups))
    for name in np.unique(groups):
        of_group = uses[groups == name]
        assert of_group.max() - of_group.min() <= 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array), seeds)
def test_without_a_number_the_smallest_group_sets_it_and_nothing_comes_twice(
    groups: NDArray[np.int64], seed: int
) -> None:
    chosen = balanced(groups, seed=seed, epoch=0)
    _, counts = np.unique(groups, return_counts=True)
    assert len(chosen) == len(set(chosen.tolist())) == counts.min() * len(counts)


@given(
    tiles=st.integers(0, 200),
    batch_size=st.integers(5, 40),
    many=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    first=st.integers(0, 6),
    drop_last=st.booleans(),
)
def test_any_ranks_and_workers_get_the_same_batches_and_lose_or_double_no_tile(
    *, tiles: int, batch_size: int, many: tuple[int, int], first: int, drop_last: bool
) -> None:
    batches = Batches(tiles=tiles, batch_size=batch_size, drop_last=drop_last)
    got: dict[int, list[int]] = {}
    ranks, workers = many
    for rank in range(ranks):
        for worker in range(workers):
            world = World(rank=rank, ranks=ranks, worker=worker, workers=workers)
            for batch in batches.of(world, first=first):
                got.setdefault(batch, []).extend(batches.places(batch, world).tolist())
    assert sorted(got) == list(range(first, len(batches)))
    for batch, places in got.items():
        assert sorted(places) == list(range(batch * batch_size, (batch + 1) * batch_size))


@given(st.integers(0, 200), st.integers(1, 40))
def test_drop_last_leaves_out_only_what_fills_no_batch(tiles: int, batch_size: int) -> None:
    assert len(Batches(tiles=tiles, batch_size=batch_size, drop_last=True)) == tiles // batch_size
    assert len(Batches(tiles=tiles, batch_size=batch_size)) == -(-tiles // batch_size)


def test_a_world_is_read_from_torchrun_or_srun() -> None:
    assert this_world({"RANK": "3", "WORLD_SIZE": "8"}) == World(rank=3, ranks=8)
    srun = {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "2"}
    assert this_world(srun) == World(rank=1, ranks=2)
    assert this_world({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == World()
    assert this_world({}) == World()


@pytest.mark.parametrize(
    "variables", [{"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}]
)
def test_a_world_that_cannot_be_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"(?i)rank: expected"):
        this_world(variables)


def test_the_cores_of_a_machine_are_divided_among_its_ranks() -> None:
    assert processes_here({"LOCAL_WORLD_SIZE": "4"}) == 4
    assert processes_here({}) == 1
    with pytest.raises(ConfigError, match="LOCAL_WORLD_SIZE: expected a whole number"):
        processes_here({"LOCAL_WORLD_SIZE": "all"})
