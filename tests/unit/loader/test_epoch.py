"""Which tiles an epoch has, how often, and what their random changes are drawn from."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.config import BatchConfig
from wsi_pipeline.loader.epoch import (
    Planned,
    epoch_of,
    groups_of,
    keys_of_tiles,
    tiles_per_epoch,
)
from wsi_pipeline.loader.rows import NO_WORD, Column, Rows, Run
from wsi_pipeline.loader.world import World

LABELS, SCANNERS = ("benign", "cancer"), ("A", "B", "C")


def rows_of(labels: list[int], scanners: list[int], *, slides: tuple[str, ...] = ("s",)) -> Rows:
    count = len(labels)
    return Rows(
        runs=(Run(path=Path("RUN"), config={}),),
        arrays=tuple((0, name) for name in slides),
        array=(np.arange(count) % len(slides)).astype(np.int32),
        tile=(np.arange(count) // len(slides)).astype(np.int32),
        columns={
            "label": Column(values=np.array(labels, np.int32), words=LABELS),
            "scanner": Column(values=np.array(scanners, np.int32), words=SCANNERS),
        },
    )


many = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=120).map(
    lambda pairs: rows_of(*(list(column) for column in zip(*pairs, strict=True)))
)


@given(many, st.integers(1, 30), st.integers(0, 9), st.booleans())
def test_every_group_of_label_and_scanner_has_as_many_tiles(
    rows: Rows,
    per_group: int,
    seed: int,
    shuffle: bool,  # noqa: FBT001
) -> None:
    config = BatchConfig(
        batch_size=8,
        seed=seed,
        shuffle=shuffle,
        balance=("label", "scanner"),
        per_group=per_group,
    )
    epoch = epoch_of(rows, config, 2)
    groups = groups_of(rows.columns, config.balance)
    counts = Counter(groups[epoch.order].tolist())
    assert set(counts.values()) == {per_group}
    assert len(counts) == len(set(groups.tolist()))
    assert len(epoch.order) == tiles_per_epoch(rows, config) == epoch.batches.tiles


@given(many, st.integers(1, 30))
def test_a_tile_that_comes_again_is_changed_in_another_way(rows: Rows, per_group: int) -> None:
    config = BatchConfig(batch_size=4, balance=("label",), per_group=per_group)
    epoch = epoch_of(rows, config, 0)
    assert epoch.turns is not None
    came = list(zip(epoch.order.tolist(), epoch.turns.tolist(), strict=True))
    assert len(set(came)) == len(came)
    for row, times in Counter(epoch.order.tolist()).items():
        assert {turn for each, turn in came if each == row} == set(range(times))
    planned = Planned(
        number=0,
        rows=epoch.order.astype(np.int64),
        is_tile=np.ones(len(came), np.bool_),
        turns=epoch.turns.astype(np.int64),
    )
    assert len(set(keys_of_tiles(rows, planned, seed=0, epoch=0).tolist())) == len(came)


def keys(rows: Rows, wanted: list[int], *, seed: int = 0, epoch: int = 0) -> list[int]:
    count = len(wanted)
    planned = Planned(
        number=0,
        rows=np.array(wanted),
        is_tile=np.ones(count, np.bool_),
        turns=np.zeros(count, np.int64),
    )
    found: list[int] = keys_of_tiles(rows, planned, seed=seed, epoch=epoch).tolist()
    return found


def test_random_changes_are_the_tiles_own_whatever_else_was_chosen() -> None:
    alone = rows_of([0] * 4, [0] * 4, slides=("t",))
    beside = rows_of([0] * 8, [0] * 8, slides=("s", "t"))
    places = [1, 3, 5, 7]  # of slide t
    assert keys(alone, [0, 1, 2, 3]) == keys(beside, places)
    assert keys(beside, [3, 1]) == keys(beside, [1, 3])[::-1]
    every = [
        keys(beside, [row], seed=seed, epoch=epoch)[0] for row in range(8) for seed, epoch in _DRAWS
    ]
    assert len(set(every)) == len(every)


_DRAWS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_without_shuffling_tiles_come_as_the_manifest_has_them() -> None:
    rows = rows_of([0] * 50, [0] * 50)
    order = epoch_of(rows, BatchConfig(batch_size=8, shuffle=False), 3).order
    assert order.tolist() == list(range(50))


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 5))
def test_a_last_batch_is_filled_up_with_tiles_that_do_not_count(
    tiles: int, batch_size: int, ranks: int
) -> None:
    rows = rows_of([0] * tiles, [0] * tiles)
    epoch = epoch_of(rows, BatchConfig(batch_size=max(batch_size, ranks)), 0)
    counted: list[int] = []
    for number in range(len(epoch.batches)):
        for rank in range(ranks):
            planned = epoch.planned(number, World(rank=rank, ranks=ranks))
            assert set(planned.rows.tolist()) <= set(range(tiles))
            counted.extend(planned.rows[planned.is_tile].tolist())
    assert sorted(counted) == list(range(tiles))


@pytest.mark.parametrize(
    "column",
    [
        Column(values=np.array([0, NO_WORD], np.int32), words=LABELS),
        Column(values=np.array([0.5, np.nan])),
    ],
    ids=["words", "numbers"],
)
def test_tiles_without_a_value_cannot_be_balanced(column: Column) -> None:
    columns: dict[str, Any] = {"label": column}
    with pytest.raises(ConfigError, match=r'1 tiles have no label; .*where="label.notna\(\)"'):
        groups_of(columns, ("label",))
