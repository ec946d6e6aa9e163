"""What validation tiles settle: a cut-off by counting, a temperature by its loss; and slides from tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tests.said import THREE, TWO, drawn_predictions
from tests.strategies import seeds
from wsi_pipeline.evaluate.score.aggregate import AGGREGATES, Aggregate, Units, by_patient, by_slide
from wsi_pipeline.evaluate.score.calibrate import BOUNDS, fit_temperature, tempered
from wsi_pipeline.evaluate.score.cutoff import best_cutoff, chosen_at
from wsi_pipeline.train.metrics import Floats, Judged, judged, log_losses, scores_of


def tiles_of(seed: int, classes: tuple[str, ...] = TWO) -> Judged:
    return drawn_predictions(seed, patients=3, tiles=30, classes=classes).judged()


def balanced(tiles: Judged, cutoff: float) -> float:
    right = (tiles.margins > cutoff) == tiles.targets
    kinds = [tiles.targets == each for each in (0, 1)]
    return float(np.mean([np.average(right[each], weights=tiles.weights[each]) for each in kinds]))


@settings(max_examples=25)
@given(seeds)
def test_no_cutoff_is_better_on_the_tiles_it_was_chosen_on(seed: int) -> None:
    tiles = tiles_of(seed)
    best = best_cutoff(tiles)
    assert best is not None
    assert best not in tiles.margins
    reached = balanced(tiles, best)
    others = [*(tiles.margins + 0.01), *(tiles.margins - 0.01), -99.0, 99.0]
    assert all(balanced(tiles, each) <= reached + 1e-12 for each in others)


@pytest.mark.parametrize(
    ("logits", "targets", "expected"),
    [
        ([-3, -1, 1, 3], [0, 0, 1, 1], 0.0),
        ([-3, -2, -1, 5], [0, 1, 0, 1], 2.0),  # below -2 is as good, and further from 0
        ([1, 1], [0, 1], 1.0),  # nothing is told apart: the nearest to 0 that calls tiles alike
    ],
)
def test_known_cutoffs(logits: list[float], targets: list[int], expected: float) -> None:
    found = best_cutoff(judged(logits, targets, np.ones(len(logits)), classes=TWO))
    assert found == pytest.approx(expected)


def test_a_cutoff_between_neighbouring_numbers_still_parts_them() -> None:
    low = 0.1
    high = float(np.nextafter(low, 1))
    tiles = judged([low, high], [0, 1], [1, 1], classes=TWO)
    cutoff = best_cutoff(tiles)
    assert cutoff is not None
    assert chosen_at(tiles, cutoff).tolist() == [0, 1]


def test_a_class_without_tiles_has_no_cutoff() -> None:
    assert best_cutoff(judged([1.0, 2.0], [1, 1], [1, 1], classes=TWO)) is None


def loss_at(tiles: Judged, temperature: float) -> float:
    return float(np.average(log_losses(tempered(tiles, temperature)), weights=tiles.weights))


@settings(max_examples=20)
@given(seeds, st.sampled_from([TWO, THREE]))
def test_the_loss_is_least_at_the_temperature(seed: int, classes: tuple[str, ...]) -> None:
    """Its slope in the inverse temperature is 0 there, unless the temperature is at its bound."""
    tiles = tiles_of(seed, classes)
    found = fit_temperature(tiles)
    assert found is not None
    least = loss_at(tiles, found.value)
    assert all(loss_at(tiles, t) >= least - 1e-12 for t in np.geomspace(*BOUNDS, 40))
    if not found.at_bound:
        step = 1e-5 / found.value
        above, below = (loss_at(tiles, 1 / (1 / found.value + way)) for way in (step, -step))
        assert (above - below) / (2 * step) == pytest.approx(0, abs=1e-4)


def test_the_temperature_that_logits_were_made_with_is_found() -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 2, 200_000)
    tiles = judged(
        3 * true, random.random(len(true)) < expit(true), np.ones(len(true)), classes=TWO
    )
    found = fit_temperature(tiles)
    assert found is not None
    assert found.value == pytest.approx(3, rel=0.02)
    assert not found.at_bound
    assert (scores_of(tempered(tiles, found.value))["ece"] or 1) < 0.01


def test_tiles_that_are_parted_do_not_settle_a_temperature() -> None:
    found = fit_temperature(judged([-1.0, 1.0], [0, 1], [1, 1], classes=TWO))
    assert found is not None
    assert found.at_bound
    assert fit_temperature(judged(np.zeros(1), [0], [0], classes=TWO)) is None


@given(seeds, st.floats(0.1, 10), st.sampled_from([TWO, THREE]))
def test_a_temperature_changes_no_choice(seed: int, t: float, classes: tuple[str, ...]) -> None:
    tiles = tiles_of(seed, classes)
    after = tempered(tiles, t)
    top = after.odds.max(axis=1)
    assert after.odds[np.arange(len(top)), tiles.chosen] == pytest.approx(top)
    assert after.probabilities.sum(axis=1) == pytest.approx(np.ones(len(top)))
    back = tempered(after, 1 / t)
    assert back.odds == pytest.approx(tiles.odds, abs=1e-6)


def units(
    logits: object, targets: object, slides: list[int], classes: tuple[str, ...] = TWO
) -> Units:
    tiles = judged(logits, targets, np.ones(len(slides)), classes=classes)  # type: ignore[arg-type]
    numbers = np.array(slides)
    return Units(judged=tiles, slides=numbers, patients=numbers // 10)


def probability(found: Units) -> Floats:
    return found.judged.probabilities[:, 1]


def test_slides_are_what_their_tiles_say() -> None:
    z = np.linspace(-2, 2, 25)
    tiles = units(np.append(z, [1.0, -1.0]), np.zeros(27, int), [0] * 25 + [11, 11])
    p = expit(z)
    for how, expected in {
        "mean": p.mean(),
        "max": p.max(),
        "top_k": np.sort(p)[-10:].mean(),
        "share": (z > 0).mean(),
    }.items():
        found = by_slide(tiles, how)  # type: ignore[arg-type]
        assert probability(found)[0] == pytest.approx(expected)
        assert found.slides.tolist() == [0, 11]
        assert found.patients.tolist() == [0, 1]
    pair = probability(by_slide(tiles, "top_k"))[1]
    assert pair == pytest.approx(0.5)  # of two tiles ten are two


def test_the_share_is_that_above_the_cutoff() -> None:
    tiles = units([0.2, 0.4, 0.6, 0.8], [1, 1, 1, 1], [0, 0, 0, 0])
    found = by_slide(tiles, "share", chosen=chosen_at(tiles.judged, 0.7))
    assert probability(found) == pytest.approx([0.25])


def test_one_positive_tile_makes_a_positive_slide() -> None:
    found = by_slide(units([0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]), "mean")
    assert found.judged.targets.tolist() == [1, 0]


def test_a_slide_of_several_of_many_classes_is_left_out_and_counted() -> None:
    found = by_slide(units(np.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 2], [0, 0, 1, 1], THREE), "mean")
    assert (found.slides.tolist(), found.judged.targets.tolist(), found.left_out) == ([1], [2], 1)


def test_a_patient_is_the_mean_of_slides_however_many_tiles_they_have() -> None:
    tiles = units([2.0] * 9 + [-2.0], [1] * 10, [0] * 9 + [1])
    slides = by_slide(tiles, "mean")
    assert probability(by_patient(slides, "mean")) == pytest.approx([0.5])
    largest = by_patient(by_slide(tiles, "max"), "max")
    assert probability(largest) == pytest.approx([expit(2.0)])


@given(seeds, st.sampled_from(AGGREGATES))
def test_one_tile_per_slide_says_what_the_slide_says(seed: int, how: Aggregate) -> None:
    z = np.random.default_rng(seed).normal(0, 20, 12)
    tiles = units(z, [0, 1] * 6, list(range(12)))
    found = by_slide(tiles, how)
    if how == "share":
        assert found.judged.chosen.tolist() == tiles.judged.chosen.tolist()
    else:
        assert found.judged.odds == pytest.approx(tiles.judged.odds, abs=1e-6)


@given(seeds)
def test_probabilities_near_1_keep_their_order(seed: int) -> None:
    z = np.sort(np.random.default_rng(seed).uniform(36, 60, 8))  # all of these are 1 in double
    found = by_slide(units(z, [0, 1] * 4, list(range(8))), "mean")
    assert (np.diff(found.judged.odds[:, 1]) > 0).all()
