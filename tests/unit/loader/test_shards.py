"""Bytes of tiles from shard files: exactly theirs, read together, with few files open."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import TileError
from wsi_pipeline.loader.shards import (
    GAP_BYTES,
    MOST_BYTES,
    Bounded,
    LocalShard,
    Shard,
    ranges,
    read_encoded,
)
from wsi_pipeline.store.layout import MISSING, shard_name
from wsi_pipeline.store.writer import write_shard

lengths = st.lists(st.none() | st.integers(1, 3 * MOST_BYTES // 4), min_size=1, max_size=20)


@given(lengths, st.integers(0, 2 * GAP_BYTES))
def test_ranges_hold_every_tile_once_and_little_else(sizes: list[int | None], between: int) -> None:
    entries = [(MISSING, MISSING)] * len(sizes)
    offset = 0
    for place, size in enumerate(sizes):
        if size is not None:
            entries[place] = offset, size
            offset += size + between
    found = list(ranges(entries))
    places = [place for part in found for place in part.places]
    assert sorted(places) == [place for place, size in enumerate(sizes) if size is not None]
    for part in found:
        wanted = sum(entries[place][1] for place in part.places)
        assert part.end - part.start - wanted <= GAP_BYTES * (len(part.places) - 1)
        assert len(part.places) == 1 or part.end - part.start <= MOST_BYTES
        assert all(part.start <= entries[place][0] < part.end for place in part.places)


def chunk(shard: int, place: int) -> bytes:
    return f"shard {shard}, place {place}. ".encode() * (1 + place)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """Three shards; of each the tiles 5 and 63 are left out."""
    for shard in range(3):
        chunks = [None if place in {5, 63} else chunk(shard, place) for place in range(64)]
        write_shard(tmp_path, shard, chunks)
    return tmp_path


def opener(array: Path) -> Bounded[tuple[int, int], Shard]:
    return Bounded(lambda key: LocalShard(array / shard_name(key[1])), most=2)


@pytest.mark.parametrize("seed", range(5))
def test_tiles_in_any_order_and_twice_are_given_with_their_own_bytes(
    array: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    wanted = [(0, int(rng.integers(3)), int(rng.integers(64))) for _ in range(200)]
    for (_, shard, place), data in zip(wanted, read_encoded(opener(array), wanted), strict=True):
        if place in {5, 63}:
            assert isinstance(data, TileError)
            assert "nothing is stored" in str(data)
        else:
            assert not isinstance(data, TileError)
            assert bytes(data) == chunk(shard, place)


def test_one_damaged_shard_costs_only_its_own_tiles(array: Path) -> None:
    path = array / shard_name(1)
    path.write_bytes(path.read_bytes()[:-1])
    found = read_encoded(opener(array), [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 7, 1)])
    assert [isinstance(each, TileError) for each in found] == [False, True, False, True]
    assert "c.1.0.0.0: its index is damaged or cut off" in str(found[1])
    assert "cannot be read (No such file or directory)" in str(found[3])


@pytest.mark.parametrize("content", [b"", b"x", bytes(1027), bytes(1028), bytes(5000)])
def test_a_file_that_is_no_shard_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(content)
    with pytest.raises(TileError, match="its index is damaged or cut off"):
        LocalShard(path)


def test_an_index_that_names_bytes_past_the_end_is_refused(array: Path) -> None:
    path = array / shard_name(0)
    path.write_bytes(path.read_bytes()[64:])  # the index is whole, tiles before it are gone
    with pytest.raises(TileError, match="past its end"):
        LocalShard(path)


def test_a_file_that_is_cut_off_while_it_is_open_is_noticed(array: Path) -> None:
    path = array / shard_name(0)
    shard = LocalShard(path)
    os.truncate(path, 10)
    with pytest.raises(TileError, match="is it being replaced"):
        shard.read(0, 100)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_are_closed_beyond_the_bound_but_never_under_a_reader(array: Path) -> None:
    gc.collect()  # what errors of other tests hold
    before = open_files()
    shards = opener(array)
    first = shards((0, 0))
    for _ in range(10):
        for number in range(3):
            shards((0, number))
    assert len(shards) == 2
    assert open_files() - before == 3  # two kept, and the one held here
    assert first.read(0, 5) == chunk(0, 0)[:5]
    del first, shards
    assert open_files() == before


def test_what_was_used_last_is_kept() -> None:
    made: list[int] = []
    bounded: Bounded[int, int] = Bounded(lambda key: made.append(key) or key, most=2)  # type: ignore[func-returns-value]
    for key in (1, 2, 1, 3, 1, 2):
        assert bounded(key) == key
    assert made == [1, 2, 3, 2]
