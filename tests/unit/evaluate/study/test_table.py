"""Repeats as means, intervals and paired differences, and the sentence that is made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wsi_pipeline.evaluate.score.bootstrap import Interval
from wsi_pipeline.evaluate.study.answer import Answer, Asked, answer
from wsi_pipeline.evaluate.study.table import (
    Measured,
    Nested,
    Summary,
    against,
    measured_table,
    spread_of,
    summaries,
    summary_table,
)

values = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def rows(scores: dict[str, list[float]], *, score: str = "auroc") -> tuple[Measured, ...]:
    return tuple(
        Measured(
            experiment="lured",
            tiles="reversed",
            arm=arm,
            model=f"{arm}-{seed}",
            seed=seed,
            scores={score: value},
        )
        for arm, numbers in scores.items()
        for seed, value in enumerate(numbers)
    )


def said(
    method: list[float],
    reference: list[float],
    *,
    score: str = "auroc",
    patients: Interval | None = None,
    **arms: list[float],
) -> Answer:
    """Return the answer; patients agree with the seeds if not given."""
    measured = rows({"wd": reference, "sd": method, **arms}, score=score)
    apart = float(np.mean(method) - np.mean(reference))
    nested = Nested(differences={score: patients or Interval(low=apart, high=apart)})
    found = summaries(measured, reference="wd", nested={("lured", "reversed", "sd"): nested})
    asked = Asked(method="sd", reference="wd", score=score, control="control" if arms else None)
    told = answer(found, asked)
    assert told is not None
    return told


@given(values)
def test_the_interval_is_students(numbers: list[float]) -> None:
    found = spread_of(numbers)
    assert found.std == pytest.approx(np.std(numbers, ddof=1), abs=1e-12)
    low, high = stats.t.interval(
        0.95, len(numbers) - 1, loc=np.mean(numbers), scale=max(stats.sem(numbers), 1e-300)
    )
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_one_repeat_has_no_interval() -> None:
    found = spread_of([0.5])
    assert (found.mean, found.std, found.low, found.high) == (0.5, None, None, None)
    with pytest.raises(ValueError, match="at least one"):
        spread_of([])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_differences_are_tested_as_scipy_does(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = ({seed: pair[at] for seed, pair in enumerate(pairs)} for at in (0, 1))
    found = against(ours, theirs)
    assert found is not None
    assert found.least_p == 2 / 2 ** len(pairs) <= (found.p_signs or 0)
    first, second = (np.array([pair[at] for pair in pairs]) for at in (0, 1))
    if np.std(first - second) > 1e-6:
        expected = stats.ttest_rel(first, second)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert (found.low, found.high) == pytest.approx(expected.confidence_interval(), abs=1e-9)


def test_only_seeds_that_both_have_are_compared() -> None:
    found = against({0: 0.5, 1: 0.7, 3: 0.9}, {1: 0.6, 2: 0.1, 3: 0.6})
    assert found is not None
    assert found.pairs == 2
    assert found.mean == pytest.approx(0.2)
    assert against({0: 1.0}, {1: 1.0}) is None


def test_differences_that_are_all_the_same_have_no_p() -> None:
    found = against({0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.5})
    assert found is not None
    assert (found.p, found.low, found.high) == (None, 0.25, 0.25)


def test_papers_numbers_stand_at_the_first_tiles_of_their_experiment() -> None:
    measured = [*rows({"wd": [0.5]}, score="accuracy")]
    measured += [
        Measured(
            experiment="lured", tiles="clean", arm="wd", model="m", seed=0, scores={"accuracy": 0.7}
        )
    ]
    found = summaries(
        measured, reference="wd", papers={"lured": {"wd": {"accuracy": (0.752, 0.019)}}}
    )
    assert [each.paper for each in found] == [(0.752, 0.019), None]


def test_scores_that_cannot_be_said_are_left_out_of_means_and_kept_in_the_long_table() -> None:
    known: tuple[dict[str, float | None], ...] = (
        {"auroc": None, "brier": 0.1},
        {"auroc": 0.6, "brier": 0.3},
    )
    measured = [
        Measured(
            experiment="e", tiles="test", arm="wd", model=f"wd-{seed}", seed=seed, scores=scores
        )
        for seed, scores in enumerate(known)
    ]
    found = {each.score: each for each in summaries(measured, reference="wd")}
    assert found["auroc"].spread.count == 1
    assert found["brier"].mean == pytest.approx(0.2)
    assert measured_table(measured).column("value").to_pylist() == [None, 0.1, 0.6, 0.3]
    assert summary_table([*found.values()]).column("repeats").to_pylist() == [1, 2]


def test_the_answer_is_for_the_method_where_the_interval_lies_above_zero() -> None:
    found = said([0.63, 0.64, 0.62, 0.65, 0.63], [0.56, 0.55, 0.56, 0.57, 0.54])
    assert found.verdict == "for"
    assert "speaks for sd" in found.text
    assert "cannot come below" not in found.text
    assert "no test that permutes signs can come below p = 0.0625" in found.text


@pytest.mark.parametrize(
    ("patients", "words"),
    [
        (Interval(low=-0.1, high=0.2), "but 0 lies within the interval over seeds and patients"),
        (Interval(low=None, high=None), "without an interval over patients"),
        (Interval(low=-0.2, high=-0.1), "lie on different sides of 0"),
    ],
)
def test_what_patients_leave_open_is_open_and_said(patients: Interval, words: str) -> None:
    found = said([0.63, 0.64, 0.62, 0.65], [0.56, 0.55, 0.56, 0.57], patients=patients)
    assert found.verdict == "open"
    assert words in found.text


def test_what_only_seeds_leave_open_is_open_too() -> None:
    found = said([0.6, 0.5, 0.7], [0.55, 0.6, 0.6], patients=Interval(low=0.001, high=0.1))
    assert found.verdict == "open"
    assert "0 lies within the interval over seeds: this speaks" in found.text
    assert "With 3 pairs no test that permutes signs can come below p = 0.25" in found.text


def test_the_answer_is_against_it_where_the_interval_lies_below_zero() -> None:
    found = said([0.5, 0.51, 0.49], [0.6, 0.62, 0.61])
    assert found.verdict == "against"
    assert "speaks against sd" in found.text


def test_less_is_better_of_losses() -> None:
    lower, higher = [0.3, 0.31, 0.29], [0.5, 0.52, 0.5]
    assert said(lower, higher, score="log_loss").verdict == "for"
    assert said(higher, lower, score="log_loss").verdict == "against"


@given(values, st.floats(-0.2, 0.2))
def test_changing_sides_turns_the_answer_round(numbers: list[float], apart: float) -> None:
    moved = [value + apart * (1 + place / 10) for place, value in enumerate(numbers)]
    turned = {"for": "against", "against": "for", "open": "open", "unsaid": "unsaid"}
    assert said(moved, numbers).verdict == turned[said(numbers, moved).verdict]


def test_what_scatters_more_than_it_differs_is_open() -> None:
    found = said([0.6, 0.5, 0.7], [0.55, 0.6, 0.6])
    assert found.verdict == "open"
    assert "neither for sd nor against it" in found.text


def test_one_pair_is_not_enough_for_an_answer() -> None:
    found = said([0.9], [0.1])
    assert found.verdict == "unsaid"
    assert "nothing can be said" in found.text


def test_the_room_up_to_the_control_is_said_as_a_share() -> None:
    closed = said([0.7, 0.7], [0.6, 0.6], control=[0.8, 0.8])
    assert "sd closes 50 % of the room between it and wd" in closed.text
    assert "sd closes none of the room" in said([0.5, 0.5], [0.6, 0.61], control=[0.8, 0.8]).text
    assert "no room to be closed" in said([0.7, 0.7], [0.6, 0.6], control=[0.5, 0.5]).text
    shown = said([0.7, 0.7], [0.6, 0.6], control=[0.6001, 0.6001]).text
    assert "no room to be closed" in shown
    losses = said([0.4, 0.4], [0.5, 0.51], score="log_loss", control=[0.3, 0.3])
    assert "closes" in losses.text


def test_an_experiment_without_the_method_has_no_answer() -> None:
    found: tuple[Summary, ...] = summaries(rows({"wd": [0.5, 0.6]}), reference="wd")
    asked = Asked(method="sd", reference="wd", score="auroc", control=None)
    assert answer(found, asked) is None


def test_networks_that_call_every_tile_one_class_are_named() -> None:
    scores = ("balanced_accuracy", "recall", "specificity")
    values: dict[str, tuple[float, ...]] = {"wd": (0.5, 1.0, 0.0), "sd": (0.5, 0.5, 0.5)}
    measured = [
        Measured(
            experiment="e",
            tiles="test",
            arm=arm,
            model=f"{arm}-{seed}",
            seed=seed,
            scores=dict(zip(scores, each, strict=True)),
        )
        for arm, each in values.items()
        for seed in range(2)
    ]
    asked = Asked(method="sd", reference="wd", score="balanced_accuracy", control=None)
    found = answer(summaries(measured, reference="wd"), asked)
    assert found is not None
    assert "All networks of wd call every tile the same class." in found.text
    assert "All networks of sd" not in found.text
