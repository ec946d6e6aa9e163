"""Shifts of logits, densities, calibration with intervals, confusion: laws, and known answers."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from sklearn.metrics import confusion_matrix

from tests.invented_predictions import Invented, invented
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.evaluate.score.asymmetry import LogitShift, shifts_from_learnt
from wsi_pipeline.evaluate.score.calibration_band import calibration_band
from wsi_pipeline.evaluate.score.confusion import confusions
from wsi_pipeline.evaluate.score.logit_density import clouds, densities
from wsi_pipeline.stages.logit_figure import logit_lines
from wsi_pipeline.train.metrics import calibration, judged

seeds = st.integers(0, 2**31)
LEARNT = Invented(seed=1)
quick = settings(max_examples=25, deadline=None)


def moved(by: float, given_: Predictions) -> Predictions:
    """Return the same tiles with all logits moved."""
    at = given_.table.column_names.index("logit")
    z = (given_.logits + np.float32(by)).astype(np.float32)
    table = given_.table.set_column(at, "logit", pa.array(z))
    return Predictions(table=table, classes=given_.classes)


def ends(each: LogitShift) -> tuple[float, float]:
    assert each.interval.low is not None
    assert each.interval.high is not None
    return each.interval.low, each.interval.high


@given(seeds, st.sampled_from([1, 2]))
@quick
def test_tiles_that_were_learnt_have_not_moved_from_themselves(seed: int, logits: int) -> None:
    tiles = invented(Invented(seed=seed, logits=logits))
    for each in shifts_from_learnt(tiles, tiles, replicates=50):
        assert each.shift == pytest.approx(0, abs=1e-12)
        low, high = ends(each)
        assert low <= 0 <= high


@given(seeds, st.floats(-5, 5))
@quick
def test_a_shift_of_all_logits_is_the_shift_of_each_class(seed: int, by: float) -> None:
    tiles = invented(Invented(seed=seed))
    plain = shifts_from_learnt(tiles, tiles, replicates=50)
    other = shifts_from_learnt(tiles, moved(by, tiles), replicates=50)
    for before, after in zip(plain, other, strict=True):
        assert after.shift == pytest.approx(by, abs=1e-5)
        assert ends(after)[0] - by == pytest.approx(ends(before)[0], abs=1e-4)


def test_the_rare_class_goes_towards_the_boundary_and_the_common_one_stays() -> None:
    common, rare = shifts_from_learnt(
        invented(LEARNT), invented(Invented(seed=2, means=(-3.0, 0.5)))
    )
    assert rare.shift == pytest.approx(-2.5, abs=0.6)
    low, high = ends(common)
    assert low < 0 < high
    assert ends(rare)[1] < -1


@given(seeds)
@quick
def test_a_tile_of_weight_two_is_two_tiles(seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 4, LEARNT.tiles)
    weighted = invented(dataclasses.replace(LEARNT, more={"weight": weights.astype(np.float32)}))
    repeated = Predictions(
        table=invented(LEARNT).table.take(np.repeat(np.arange(LEARNT.tiles), weights)),
        classes=weighted.classes,
    )
    other = invented(Invented(seed=seed))
    for one, two in zip(
        shifts_from_learnt(weighted, other), shifts_from_learnt(repeated, other), strict=True
    ):
        assert one.shift == pytest.approx(two.shift)
        assert one.interval == two.interval
    for first, second in zip(confusions(weighted), confusions(repeated), strict=True):
        assert np.array_equal(first.counts, second.counts)


def test_two_logits_have_a_shift_each_and_their_margin_is_the_difference() -> None:
    first = invented(dataclasses.replace(LEARNT, logits=2))
    second = invented(Invented(seed=4, logits=2, means=(-3.0, 1.0)))
    found = {(each.name, each.logit): each for each in shifts_from_learnt(first, second)}
    for name in first.classes:
        one, two = (found[name, logit].shift for logit in first.classes)
        assert one is not None
        assert two is not None
        assert found[name, None].shift == pytest.approx(two - one, abs=1e-5)


def test_patients_are_drawn_and_not_tiles() -> None:
    """Twice the tiles of the same patients say nothing new."""
    tiles = invented(Invented(seed=5, apart=2.0))
    doubled = Predictions(
        table=tiles.table.take(np.repeat(np.arange(len(tiles)), 2)), classes=tiles.classes
    )
    learnt = invented(LEARNT)
    for one, two in zip(
        shifts_from_learnt(learnt, tiles), shifts_from_learnt(learnt, doubled), strict=True
    ):
        assert ends(one) == pytest.approx(ends(two))


def test_one_patient_has_a_shift_and_no_interval() -> None:
    found = shifts_from_learnt(invented(LEARNT), invented(Invented(patients=1)))
    assert all(each.shift is not None and each.interval.low is None for each in found)


def test_a_class_without_tiles_has_no_shift() -> None:
    none_rare = invented(Invented(share=0.0))
    common, rare = shifts_from_learnt(invented(LEARNT), none_rare)
    assert common.shift is not None
    assert (rare.other, rare.shift, rare.interval.low) == (None, None, None)
    assert rare.learnt == pytest.approx(3, abs=0.6)


def test_tiles_without_a_label_are_in_nothing() -> None:
    target = [None if tile % 3 == 0 else tile % 2 for tile in range(240)]
    some = invented(Invented(more={"target": target}))
    kept = some.labelled()
    assert len(kept) == 160
    assert shifts_from_learnt(some, some) == shifts_from_learnt(kept, kept)
    assert confusions(some)[0].counts.sum() == 160


def test_nobody_has_moved_nowhere() -> None:
    nobody = invented(LEARNT).only(np.zeros(LEARNT.tiles, np.bool_))
    for each in shifts_from_learnt(invented(LEARNT), nobody, replicates=9):
        assert (each.shift, each.interval.low) == (None, None)
    assert np.isnan(calibration_band(nobody).low).all()


def test_networks_of_other_classes_are_not_compared() -> None:
    other = invented(dataclasses.replace(LEARNT, classes=("a", "b")))
    with pytest.raises(ValueError, match="expected logits of"):
        shifts_from_learnt(invented(LEARNT), other)
    with pytest.raises(ValueError, match="expected logits of"):
        shifts_from_learnt(invented(LEARNT), invented(Invented(logits=2)))


@given(seeds, st.floats(0.01, 30), st.integers(3, 60))
@quick
def test_a_density_is_one_in_all_and_lies_at_its_mean(seed: int, scale: float, tiles: int) -> None:
    random = np.random.default_rng(seed)
    y = np.arange(tiles) % 2
    z = random.normal(0, scale, tiles) + 3 * scale * y
    grid, found = densities({"test": judged(z, y, np.ones(tiles), classes=("a", "b"))})
    for each in found:
        area = each.values.sum() * (grid[1] - grid[0])
        assert area == pytest.approx(1 - each.beyond, abs=0.02)
        middle = (each.values * grid).sum() / each.values.sum()
        assert each.beyond > 0 or middle == pytest.approx(each.mean, abs=0.2 * scale)


def test_a_few_logits_far_out_leave_room_for_the_others_and_are_counted() -> None:
    z = np.concatenate([np.random.default_rng(1).normal(0, 1, 990), np.full(10, -1000.0)])
    tiles = judged(z, np.zeros(1000, np.int64), np.ones(1000), classes=("a", "b"))
    grid, (only,) = densities({"test": tiles})
    assert -12 < grid[0] < -4
    assert only.beyond == pytest.approx(0.01)
    assert only.values.sum() * (grid[1] - grid[0]) == pytest.approx(0.99, abs=0.01)
    assert "up to 1.0% of a curve's tiles lie beyond" in logit_lines("a", {"test": tiles}).x_label


def test_equal_logits_are_a_peak_and_nothing_is_no_curve() -> None:
    same = judged(np.full(8, 2.0), np.ones(8, np.int64), np.ones(8), classes=("a", "b"))
    grid, (only,) = densities({"test": same})
    assert grid[only.values.argmax()] == pytest.approx(2.0, abs=0.05)
    nothing = judged([], np.zeros(0, np.int64), [], classes=("a", "b"))
    assert densities({"test": nothing})[1] == ()


def test_a_cloud_has_every_tile_and_the_boundary_is_its_diagonal() -> None:
    tiles = invented(Invented(logits=2, tiles=800))
    edges, (common, rare) = clouds({"test": tiles}, cells=16)
    for each in (common, rare):
        assert each.share.sum() == pytest.approx(1)
    below = np.tril(np.ones((16, 16), bool), -1)  # first logit the larger: said to be common
    assert common.share[below].sum() > 0.8
    assert rare.share[below.T].sum() > 0.8
    assert edges[0] < common.mean[1] < common.mean[0] < edges[-1]
    with pytest.raises(ValueError, match="two logits"):
        clouds({"test": invented(LEARNT)})


def test_calibration_lies_within_its_interval_and_is_the_plain_one() -> None:
    tiles = invented(Invented(tiles=3000, patients=20, means=(-1.0, 1.0)))
    band = calibration_band(tiles)
    plain = calibration(tiles.judged())
    assert np.array_equal(band.bins.share, plain.share, equal_nan=True)
    known = np.isfinite(band.low)
    assert known.sum() > 8
    assert (band.low[known] <= plain.share[known]).all()
    assert (plain.share[known] <= band.high[known]).all()


@given(seeds, st.sampled_from([1, 2]), st.floats(0.05, 0.95))
@quick
def test_confusion_agrees_with_scikit_learn(seed: int, logits: int, cutoff: float) -> None:
    tiles = invented(Invented(seed=seed, logits=logits, means=(-1.0, 1.0)))
    said = tiles.judged().probabilities[:, 1] > cutoff
    (whole,) = confusions(tiles, cutoff=float(logit(cutoff)))
    assert np.array_equal(whole.counts, confusion_matrix(tiles.targets, said, labels=[0, 1]))
    groups = confusions(tiles, by="scanner", cutoff=float(logit(cutoff)))
    assert [each.group for each in groups] == ["AT2", "S360"]
    assert np.array_equal(sum(each.counts for each in groups), whole.counts)
    assert np.allclose(whole.shares.sum(axis=1), 1)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="centre: predictions have no such column"):
        confusions(invented(LEARNT), by="centre")


def test_the_same_seed_gives_the_same_intervals() -> None:
    learnt, other = invented(LEARNT), invented(Invented(seed=9))
    assert shifts_from_learnt(learnt, other, seed=3) == shifts_from_learnt(learnt, other, seed=3)
    assert shifts_from_learnt(learnt, other, seed=3) != shifts_from_learnt(learnt, other, seed=4)


def covered(times: int, *, patients: int) -> float:
    """Return how often the interval of the rare class's shift held the truth, -2."""
    held = 0
    for seed in range(times):
        learnt = Invented(seed=2 * seed, patients=patients, tiles=10 * patients)
        other = dataclasses.replace(learnt, seed=2 * seed + 1, means=(-3.0, 1.0))
        low, high = ends(
            shifts_from_learnt(invented(learnt), invented(other), replicates=400, seed=seed)[1]
        )
        held += low <= -2 <= high
    return held / times


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    assert 0.87 < covered(60, patients=20) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("patients", [12, 30])
def test_intervals_hold_the_truth_as_often_as_they_say(patients: int) -> None:
    assert 0.93 <= covered(1000, patients=patients) <= 0.98
