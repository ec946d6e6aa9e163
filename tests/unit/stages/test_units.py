from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.config import TileConfig
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.units import UNIT_TILES, SlideJob, UnitJob, units_of
from wsi_pipeline.store.layout import SHARD_TILES

JOB = SlideJob(
    source=SlideSource(slide_id="s", path="s.svs"),
    run=RunDirectory(path=Path("RUN")),
    config=TileConfig(),
)


def sizes(units: list[UnitJob]) -> list[int]:
    return [unit.end - unit.first for unit in units]


@given(st.integers(0, 40_000))
def test_units_are_whole_shards_that_follow_each_other_and_hold_every_tile(tiles: int) -> None:
    units = units_of(JOB, tiles)
    assert [unit.first for unit in units] == [0, *(unit.end for unit in units)][: len(units)]
    assert sum(sizes(units)) == tiles
    assert all(unit.first % SHARD_TILES == 0 for unit in units)
    assert all(unit.end % SHARD_TILES == 0 for unit in units[:-1])


@given(st.integers(1, 40_000))
def test_units_shrink_towards_the_end_of_a_slide(tiles: int) -> None:
    found = sizes(units_of(JOB, tiles))
    assert found == sorted(found, reverse=True)
    assert len(found) == 1 if tiles <= UNIT_TILES else found[-1] <= SHARD_TILES


@given(st.integers(1200, 40_000))
def test_two_workers_end_within_a_shard_of_each_other(tiles: int) -> None:
    busy = [0, 0]
    for size in sizes(units_of(JOB, tiles)):
        busy[busy.index(min(busy))] += size
    assert abs(busy[0] - busy[1]) <= SHARD_TILES


def test_a_unit_of_a_large_slide_is_about_eight_rows() -> None:
    assert sizes(units_of(JOB, 15_129))[0] == 15 * SHARD_TILES  # of 123 tiles a row
    assert max(sizes(units_of(JOB, 10**6))) == 32 * SHARD_TILES
