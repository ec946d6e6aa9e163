"""Parts of logits: every tile in one part, nothing of other settings, and what is whole is found again."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.evaluate.ask.part_files import MOST_TILES, PartFiles, cut_of, stretches
from wsi_pipeline.evaluate.question import PredictionFiles


@given(st.integers(1, 10**7), st.integers(1, 4096))
def test_every_tile_is_in_one_part_which_is_whole_batches(tiles: int, batch_size: int) -> None:
    cut = cut_of(tiles, batch_size)
    rows = [cut.rows(number) for number in range(len(cut))]
    assert [each.start for each in rows] == [0, *(each.stop for each in rows[:-1])]
    assert rows[-1].stop == tiles
    assert all(
        cut.first_batch(number) * batch_size == each.start for number, each in enumerate(rows)
    )
    assert all(each.stop - each.start <= MOST_TILES + batch_size for each in rows)


@given(st.sets(st.integers(0, 40)).map(sorted))
def test_stretches_are_the_numbers_without_gaps(numbers: list[int]) -> None:
    found = list(stretches(numbers))
    assert [number for each in found for number in each] == numbers
    assert all(np.diff(each).tolist() == [1] * (len(each) - 1) for each in found)
    assert all(one[-1] + 1 < two[0] for one, two in pairwise(found))


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_part_is_read_as_it_was_written(tmp_path: Path, classes: int) -> None:
    parts = PartFiles(above=tmp_path / "test.parts", key="a", cut=cut_of(5000, 64))
    logits = np.random.default_rng(0).normal(size=(1024, classes) if classes else 1024)
    parts.write(2, logits.astype(np.float32))
    np.testing.assert_array_equal(parts.read(2), logits.astype(np.float32))
    assert parts.missing() == [0, 1, 3, 4]


@pytest.mark.parametrize("tiles", [5, 1024, 2500])
def test_columns_of_all_parts_are_read_one_by_one(tmp_path: Path, tiles: int) -> None:
    parts = PartFiles(above=tmp_path / "test.parts", key="a", cut=cut_of(tiles, 64))
    rng = np.random.default_rng(0)
    columns = {
        name: rng.normal(size=(tiles, 2) if name.endswith("-0") else tiles).astype(np.float32)
        for name in ("of sd", "of sd.a-0", "of sd.a-1")
    }
    for number in range(len(parts.cut)):
        rows = parts.cut.rows(number)
        parts.write_columns(number, {name: each[rows] for name, each in columns.items()})
    for names in (["of sd"], ["of sd.a-1", "of sd.a-0"]):
        found = parts.whole(names)
        assert [*found] == names
        for name in names:
            np.testing.assert_array_equal(found[name], columns[name])


def test_parts_of_other_settings_are_removed_and_never_read(tmp_path: Path) -> None:
    before, now = (
        PartFiles(above=tmp_path / "test.parts", key=key, cut=cut_of(9, 4)) for key in "ab"
    )
    before.write(0, np.zeros(9, np.float32))
    assert now.missing() == [0]
    now.begin()
    assert before.missing() == [0]
    now.write(0, np.ones(9, np.float32))
    now.begin()
    assert now.missing() == []
    now.begin(anew=True)
    assert now.missing() == [0]


def test_what_was_drawn_of_answers_goes_with_them(tmp_path: Path) -> None:
    files = PredictionFiles(table=tmp_path / "predictions" / "test.parquet")
    derived = [
        *("heatmaps/test/a.png", "cams/test/a-gradcam.npz", "collages/test.png"),
        *("predictions/test.json", "predictions/test.scores.parquet"),
    ]
    others = ["heatmaps/all/a.png", "collages/all.png", "predictions/all.json"]
    for name in (*derived, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files.forget()
    assert not [name for name in derived if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in others)
