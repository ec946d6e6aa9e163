"""Draws of patients along sweeps: kept as they are, averaged draw by draw; and what a level is worth."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.score.aggregate import Units
from wsi_pipeline.evaluate.score.nested import drawn_of_units
from wsi_pipeline.evaluate.sweep.patients import (
    SweepPatients,
    drawn_levels,
    draws_table,
    mean_drawn,
    read_drawn,
)
from wsi_pipeline.evaluate.sweep.table import level_scores
from wsi_pipeline.tables import write_table
from wsi_pipeline.train.metrics import judged

TWO = ("benign", "cancer")
TILES = 24


def patients(
    seed: int = 0, *, classes: tuple[str, ...] = TWO, replicates: int = 50
) -> SweepPatients:
    """Return four patients of six tiles each."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(TILES) % len(classes))
    width = () if len(classes) == 2 else (len(classes),)
    blank = judged(np.zeros((TILES, *width)), targets, np.ones(TILES), classes=classes)
    whose = np.repeat(np.arange(4), TILES // 4)
    units = Units(judged=blank, slides=whose, patients=whose)
    rows = rng.permutation(TILES)
    return SweepPatients(units=units, rows=rows, digest="d", replicates=replicates)


def logits(seed: int, *, classes: int = 2) -> "np.typing.NDArray[np.float32]":
    size = TILES if classes == 2 else (TILES, classes)
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@given(st.integers(0, 10**6), st.sampled_from([TWO, ("a", "b", "c")]))
def test_draws_come_back_from_a_table_and_the_mean_of_a_level_is_itself(
    seed: int, classes: tuple[str, ...]
) -> None:
    drawn = patients(seed, classes=classes).drawn(logits(seed, classes=len(classes)))
    found = drawn_levels(draws_table({3.0: drawn, 1.0: drawn}), classes)
    assert [*found] == [1.0, 3.0]
    back = mean_drawn([found[1.0], found[3.0]])
    assert (back.classes, back.tiles, back.patients) == (classes, "d", 4)
    assert back.effective == drawn.effective
    for key, values in drawn.draws.items():
        np.testing.assert_array_equal(back.values[key], drawn.values[key])
        np.testing.assert_array_equal(back.draws[key], values.astype(np.float32))


@given(st.integers(0, 10**6))
def test_patients_are_drawn_alike_for_every_network(seed: int) -> None:
    """Accuracies of two networks of which one is always right where the other is wrong add up to 1."""
    same = patients(seed)
    said = logits(seed)
    ours, theirs = same.drawn(said), same.drawn(-said)
    key = ("accuracy", "0.5")
    np.testing.assert_allclose(ours.draws[key] + theirs.draws[key], 1)


def test_the_mean_over_levels_is_taken_draw_by_draw_and_lacks_what_one_level_lacks() -> None:
    same = patients()
    first, second = same.drawn(logits(1)), same.drawn(logits(2))
    mean = mean_drawn([first, second])
    key = ("auroc", "none")
    assert mean.values[key] == pytest.approx((first.values[key] + second.values[key]) / 2)
    np.testing.assert_allclose(mean.draws[key], (first.draws[key] + second.draws[key]) / 2)
    second.draws[key][3] = np.nan
    assert np.flatnonzero(np.isnan(mean_drawn([first, second]).draws[key])).tolist() == [3]


def test_logits_are_those_of_the_tiles_that_count_in_their_order() -> None:
    same, said = patients(), logits(5)
    known = same.units.judged
    own = judged(said[same.rows], known.targets, known.weights, classes=TWO)
    units = Units(judged=own, slides=same.units.slides, patients=same.units.patients)
    expected = drawn_of_units(units, tiles="d", replicates=50)
    assert same.drawn(said).values == expected.values


def test_a_file_without_a_level_or_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", draws_table({2.0: patients().drawn(logits(0))}))
    assert read_drawn(tmp_path / "x.parquet", [2.0], TWO, replicates=50).patients == 4
    with pytest.raises(ConfigError, match=r"expected level 3.*run the study again"):
        read_drawn(tmp_path / "x.parquet", [2.0, 3.0], TWO, replicates=50)
    with pytest.raises(ConfigError, match="there is no such file; remove the record"):
        read_drawn(tmp_path / "y.parquet", [2.0], TWO, replicates=50)


def test_a_file_of_other_draws_than_those_of_the_study_is_refused(tmp_path: Path) -> None:
    drawn = patients(replicates=7).drawn(logits(0))
    write_table(tmp_path / "x.parquet", draws_table({2.0: drawn}))
    with pytest.raises(
        ConfigError, match="expected 50 draws of patients, got 7; remove the record"
    ):
        read_drawn(tmp_path / "x.parquet", [2.0], TWO, replicates=50)


@pytest.mark.parametrize("own", [0, 1])
def test_a_score_that_needs_a_class_without_tiles_is_none(own: int) -> None:
    row = level_scores(
        np.array([1, -1, 2, -2], np.float32),
        targets=np.array([own, own, own, -1]),
        weights=np.ones(4, np.float32),
        sharpness=np.ones(4, np.float32),
        classes=TWO,
    )
    assert row["tiles"] == 3
    assert row["accuracy"] == pytest.approx(1 / 3 if own == 0 else 2 / 3)
    assert row[f"recall_{TWO[own]}"] == row["accuracy"]
    lacking = ("balanced_accuracy", "auroc", f"recall_{TWO[1 - own]}")
    assert [row[name] for name in lacking] == [None] * 3
