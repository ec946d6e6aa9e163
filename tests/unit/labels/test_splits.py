"""Slides are divided by patient: no group in two parts, counts as asked, the same in any order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.config import make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.draw import imbalance
from wsi_pipeline.labels.part_counts import absences, part_counts
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.labels.splits import PARTS, SplitPlan, split_columns, split_slides
from wsi_pipeline.labels.strata import stratum_features


@st.composite
def cohorts(draw: st.DrawFn, least: int = 6) -> pd.DataFrame:
    patients = draw(st.integers(least, 24))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    rows = [
        {
            "slide_id": f"s{patient:02d}_{slide}",
            "patient_id": f"P{patient}",
            "scanner": "AB"[int(rng.integers(2))],
            "centre": ["north", "south", "west"][patient % 3],
            "tiles": int(rng.integers(1, 500)),
            "label_share_cancer": float(rng.uniform()),
        }
        for patient in range(patients)
        for slide in range(int(rng.integers(1, 4)))
    ]
    return pd.DataFrame(rows)


def config(**values: Any) -> SplitConfig:  # noqa: ANN401  what a user writes
    return make_config(SplitConfig, values)


def parts_by(plan: SplitPlan, name: str) -> Mapping[str, set[str]]:
    return {str(key): set(words) for key, words in plan.table.groupby(name)["split"]}


def groups_in(plan: SplitPlan) -> dict[str, int]:
    return {str(part): int(n) for part, n in plan.table.groupby("split")["group"].nunique().items()}


@settings(max_examples=20)
@given(slides=cohorts(), seed=st.integers(0, 99))
def test_no_patient_is_divided_and_counts_are_as_asked(slides: pd.DataFrame, seed: int) -> None:
    plan = split_slides(slides, config(test=2, validation=1, seed=seed))
    assert all(len(parts) == 1 for parts in parts_by(plan, "patient_id").values())
    patients = slides["patient_id"].nunique()
    assert groups_in(plan) == {"test": 2, "validation": 1, "train": patients - 3}
    assert sorted(plan.table["slide_id"]) == sorted(slides["slide_id"])


@settings(max_examples=20)
@given(slides=cohorts(), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_show(slides: pd.DataFrame, order: Any) -> None:  # noqa: ANN401
    mixed = slides.sample(frac=1, random_state=order.randrange(2**31))
    asked = config(folds=3, repeats=2, test=1)
    pd.testing.assert_frame_equal(
        split_slides(slides, asked).table, split_slides(mixed, asked).table
    )


@settings(max_examples=20)
@given(slides=cohorts(), more=cohorts(), seed=st.integers(0, 99))
def test_slides_that_are_added_move_nobody(
    slides: pd.DataFrame, more: pd.DataFrame, seed: int
) -> None:
    asked = config(test=0.3, validation=0.2, seed=seed, repeats=2)
    before = split_slides(slides, asked)
    more = more.assign(slide_id="new_" + more["slide_id"], patient_id="N" + more["patient_id"])
    of_old = slides.head(1).assign(slide_id="another")
    after = split_slides(pd.concat([more, of_old, slides]), asked, before=before.table)
    both = before.table.merge(after.table, on=["slide_id", "repeat"], suffixes=("", "_after"))
    assert (both["split"] == both["split_after"]).all()
    assert len(both) == len(before.table)
    assert all(
        len(parts) == 1
        for _, rows in after.table.groupby("repeat")
        for parts in rows.groupby("group")["split"].agg(set)
    )
    assert after.kept == slides["patient_id"].nunique()
    assert after.drawn == more["patient_id"].nunique()


@settings(max_examples=20)
@given(slides=cohorts(least=8), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_every_group_is_in_one_fold_of_every_repeat(
    slides: pd.DataFrame, folds: int, seed: int
) -> None:
    plan = split_slides(slides, config(folds=folds, repeats=3, test=1, seed=seed))
    for _, rows in plan.table.groupby("repeat"):
        inside = rows[rows["split"] == "train"]
        assert (inside.groupby("group")["fold"].nunique() == 1).all()
        sizes = inside.groupby("fold")["group"].nunique()
        assert sorted(sizes.index) == list(range(folds))
        assert sizes.max() - sizes.min() <= 1
        assert rows.loc[rows["split"] == "test", "fold"].isna().all()
    held = plan.table[plan.table["split"] == "test"].groupby("repeat")["group"].agg(set)
    assert len({frozenset(groups) for groups in held}) == 1


def test_repeats_that_divide_alike_are_told() -> None:
    two = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": ["1", "2"], "tiles": [10, 90]})
    told = split_slides(two, config(folds=2, repeats=3, stratify=[])).problems
    assert any("repeats: 2, 3 of 3 divide" in each for each in told)
    many = pd.DataFrame({"slide_id": [f"s{n}" for n in range(40)], "tiles": 10})
    apart = config(folds=2, repeats=3, group="slide", stratify=[])
    assert not any("repeats" in each for each in split_slides(many, apart).problems)


@settings(max_examples=20)
@given(slides=cohorts(), seed=st.integers(0, 99))
def test_centres_and_their_patients_stay_whole(slides: pd.DataFrame, seed: int) -> None:
    plan = split_slides(slides, config(group="centre", test=1, validation=1, seed=seed))
    table = plan.table.merge(slides[["slide_id", "centre"]], on="slide_id")
    assert (table.groupby("centre")["split"].nunique() == 1).all()
    assert (table.groupby("patient_id")["split"].nunique() == 1).all()


@settings(max_examples=20)
@given(slides=cohorts(), seed=st.integers(0, 99))
def test_what_is_held_out_is_the_test_part_with_all_slides_of_its_patients(
    slides: pd.DataFrame, seed: int
) -> None:
    plan = split_slides(slides, config(hold_out=["centre=south"], validation=1, seed=seed))
    table = plan.table.merge(slides[["slide_id", "centre"]], on="slide_id")
    assert ((table["split"] == "test") == (table["centre"] == "south")).all()


@settings(max_examples=20)
@given(slides=cohorts(least=8))
def test_byte_equal_slides_stay_together_whoever_they_are_said_to_be_of(
    slides: pd.DataFrame,
) -> None:
    words = ["one", *[None] * (len(slides) - 2), "one"]
    same = slides.assign(same_file=pd.Series(words, dtype=object))
    plan = split_slides(same, config(test=2, validation=1))
    ends = plan.table.set_index("slide_id").loc[same.iloc[[0, -1]]["slide_id"], "split"]
    assert ends.nunique() == 1


@pytest.mark.parametrize("seed", range(5))
def test_labels_and_scanners_are_shared_out_better_than_by_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slides = pd.DataFrame(
        {
            "slide_id": [f"s{number:03d}" for number in range(60)],
            "patient_id": [f"P{number // 2}" for number in range(60)],
            "scanner": rng.choice(["A", "B", "C"], 60),
            "tiles": rng.integers(50, 500, 60),
            "label_share_cancer": rng.uniform(0, 1, 60) ** 3,
        }
    )
    features, _ = stratum_features(slides, ("label", "scanner"))
    stratified, by_chance = (
        _imbalance(split_slides(slides, config(test=5, validation=4, stratify=names)), features)
        for names in (["label", "scanner"], [])
    )
    assert stratified < 0.5 * by_chance


def _imbalance(plan: SplitPlan, features: Any) -> float:  # noqa: ANN401
    parts = np.array([PARTS.index(word) for word in plan.table["split"]])
    return imbalance(parts, features, count=3)


def simple(patients: int) -> pd.DataFrame:
    names = [f"P{number}" for number in range(patients)]
    return pd.DataFrame({"slide_id": [f"s{name}" for name in names], "patient_id": names})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"test": 5, "validation": 1},
            "expected at least 1 of the 6 groups .* got 0; ask for fewer",
        ),
        ({"test": 1, "folds": 6}, "test 1 and validation 0: expected at least 6 of the 6 groups"),
        ({"test": 1.5}, "test: expected groups .* got 1.5"),
        ({"test": "many"}, "test: expected groups .* got 'many'"),
        ({"test": -1}, "test: expected groups"),
        ({"test": True}, "test: expected groups"),
        ({"hold_out": ["scanner"]}, "hold_out: expected COLUMN=VALUE"),
        ({"hold_out": ["stain=HE"]}, "hold_out: expected a column of the slides .* got 'stain'"),
        (
            {"hold_out": ["patient_id=nobody"]},
            "no slide has patient_id=nobody; patient_id is one of P0",
        ),
        (
            {"hold_out": ["patient_id=P1"], "test": 1},
            "hold_out and test: what is held out is the test",
        ),
        ({"folds": 2, "validation": 1}, "folds and validation: each fold is the validation part"),
        ({"from_file": "a.csv", "test": 1}, "from_file and test: a list leaves nothing to draw"),
        ({"stratify": "stain"}, "stratify: no slide has stain; there are label"),
        ({"group": "centre"}, "centre: not known of 6 of 6 slides"),
        ({"group": "hospital"}, "group: expected patient, slide or centre, got 'hospital'"),
        ({"tests": 1}, "unknown key tests .did you mean test"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        split_slides(simple(6), config(**values))


WORDS = st.text("ab ,", min_size=1, max_size=6).filter(lambda word: word == word.strip(" ,"))


@given(values=st.lists(WORDS, min_size=1, max_size=3))
def test_what_is_held_out_may_be_written_as_one_text(values: list[str]) -> None:
    pairs = [f"centre={value}" for value in values]
    for text in (",".join(pairs), ", ".join(pairs), pairs):
        assert config(hold_out=text).hold_out == tuple(pairs)


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match="expected at least 1 of the 1 groups"):
        split_slides(simple(1), config())


def test_everything_held_out_leaves_nothing_to_train_on() -> None:
    slides = simple(4).assign(scanner="B")
    with pytest.raises(ConfigError, match="every group has a slide with scanner=B"):
        split_slides(slides, config(hold_out="scanner=B"))


def test_a_number_of_every_slide_is_no_class() -> None:
    slides = simple(60).assign(age=[f"{number}.5" for number in range(60)])
    with pytest.raises(ConfigError, match="stratify: age has 60 values, expected 50 at most"):
        split_slides(slides, config(stratify="age"))


def test_slides_without_patients_are_named_unless_each_is_its_own_group() -> None:
    slides = simple(6)
    slides.loc[[1, 4], "patient_id"] = None
    with pytest.raises(
        ConfigError, match=r"not known of 2 of 6 slides \(sP1, sP4\); add the column"
    ):
        split_slides(slides, config())
    slides.loc[2, "patient_id"] = "P3"
    plan = split_slides(slides, config(group="slide", test=1, validation=1))
    assert set(plan.table["group"]) == {"P0", "sP1", "P3", "sP4", "P5"}


def test_a_list_is_followed_by_slide_or_by_patient() -> None:
    slides, words = simple(3), ["train", "test", "validation"]
    for name in ("slide_id", "patient_id"):
        user_list = pd.DataFrame({name: slides[name], "split": words})
        plan = split_slides(slides, config(from_file="list.csv"), user_list=user_list)
        assert plan.table["split"].tolist() == words
        assert plan.problems == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"split": ["train", "test", "val"]},
            "row 3: split: expected train, validation or test, got 'val'",
        ),
        ({"split": ["train", None, "test"]}, "row 2: split: .* got 'nothing'"),
        ({"patient_id": ["P0", "P1", "P9"]}, r"says nothing of 1 slides \(sP2\)"),
        ({"patient_id": ["P0", "P1", "P1"]}, "leakage: the list has P1 in several parts"),
    ],
)
def test_a_list_that_cannot_be_followed_is_refused(
    change: dict[str, list[str]], message: str
) -> None:
    words = {"patient_id": ["P0", "P1", "P2"], "split": ["train", "train", "test"], **change}
    with pytest.raises(ConfigError, match=message):
        split_slides(simple(3), config(from_file="a"), user_list=pd.DataFrame(words))


def test_a_list_without_the_columns_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="expected columns split and patient_id or slide_id, got a"
    ):
        split_slides(simple(3), config(from_file="a"), user_list=pd.DataFrame({"a": [1]}))


def test_a_list_that_divides_a_patient_by_slides_is_leakage() -> None:
    slides = simple(3).assign(patient_id=["P0", "P0", "P1"])
    words = pd.DataFrame({"slide_id": slides["slide_id"], "split": ["train", "test", "test"]})
    with pytest.raises(ConfigError, match="leakage: the list has P0 in several parts"):
        split_slides(slides, config(from_file="a"), user_list=words)


def test_names_of_a_list_that_are_not_there_are_told() -> None:
    names = [f"P{number}" for number in range(5)]
    user_list = pd.DataFrame({"patient_id": names, "split": "train"})
    plan = split_slides(simple(3), config(from_file="a"), user_list=user_list)
    assert plan.problems == ("2 names of the list are not in this run: P3, P4",)


def test_patients_that_turn_out_to_be_one_are_refused_where_they_were_in_two_parts() -> None:
    asked = config(test=2, validation=1)
    before = split_slides(simple(6), asked).table
    parts = before.set_index("patient_id")["split"]
    one = str(parts.index[parts == "test"][0])
    other = str(parts.index[parts == "train"][0])
    slides = simple(6).replace({"patient_id": {one: other}})
    with pytest.raises(
        ConfigError, match=r"its slides belong together now .* --overwrite draws all"
    ):
        split_slides(slides, asked, before=before)


def test_a_class_that_a_part_has_none_of_is_told() -> None:
    slides = simple(4).assign(label=["a", "b", "b", "b"], scanner=["A", "A", "B", "B"], tiles=10)
    plan = split_slides(slides, config(test=1, validation=1))
    counts = part_counts(plan.table, slides)
    holder = plan.table.loc[plan.table["slide_id"] == "sP0", "split"].item()
    said = absences(counts)
    assert [text for text in said if text.endswith("label a")] == [
        f"{part} has no tile with label a" for part in PARTS if part != holder
    ]
    assert not [text for text in absences(counts, but={"scanner"}) if "scanner" in text]


def test_columns_of_the_manifest_are_named_by_repeat() -> None:
    plan = split_slides(simple(6), config(folds=2, repeats=2, test=1))
    columns = split_columns(plan.table)
    assert {tuple(each) for each in columns.values()} == {("split", "fold", "split_2", "fold_2")}
    assert {each["split"] for each in columns.values()} == {"train", "test"}


def test_the_study_has_5_test_and_4_validation_patients_of_30() -> None:
    plan = split_slides(simple(30), config(test=5, validation=4))
    assert groups_in(plan) == {"test": 5, "train": 21, "validation": 4}
