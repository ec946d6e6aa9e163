"""The rule that makes a label of shares, and settings that contradict themselves."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.config import make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.coverage import Shares
from wsi_pipeline.labels.rules import (
    MIXED,
    UNLABELLED,
    LabelConfig,
    chosen,
    class_of,
    in_order,
    label_configs,
    refuse_misspelt,
)

CLASSES = ("a", "b", "c")
tables = st.lists(
    st.tuples(*[st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0])] * 3),
    min_size=1,
    max_size=20,
)
thresholds = st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0])


def columns(table: list[tuple[float, ...]]) -> dict[str, Shares]:
    return {
        name: np.array(each, dtype=np.float32)
        for name, each in zip(CLASSES, zip(*table, strict=True), strict=True)
    }


def one(shares: tuple[float, ...], **settings: object) -> int:
    """Return the choice for one tile."""
    return int(chosen(columns([shares]), CLASSES, make_config(LabelConfig, settings))[0])


@given(table=tables, threshold=thresholds, order=st.permutations(CLASSES), named=st.integers(0, 3))
def test_the_rule_is_what_its_sentence_says(
    table: list[tuple[float, ...]], threshold: float, order: list[str], named: int
) -> None:
    config = LabelConfig(threshold=threshold, priority=tuple(order[:named]))
    for shares, choice in zip(table, chosen(columns(table), CLASSES, config).tolist(), strict=True):
        may = [name for name, share in zip(CLASSES, shares, strict=True) if share >= threshold]
        first = [name for name in order[:named] if name in may]
        if first:
            assert CLASSES[choice] == first[0]
        elif may:
            largest = max(shares[CLASSES.index(name)] for name in may)
            assert choice == next(
                i for i, name in enumerate(CLASSES) if name in may and shares[i] == largest
            )
        else:
            assert choice == (UNLABELLED if sum(shares) == 0 else MIXED)


@given(table=tables, low=thresholds, high=thresholds)
def test_a_higher_threshold_never_labels_more_tiles(
    table: list[tuple[float, ...]], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    labelled = [
        chosen(columns(table), CLASSES, LabelConfig(threshold=threshold)) >= 0
        for threshold in (low, high)
    ]
    assert (labelled[1] <= labelled[0]).all()


def test_a_share_that_is_the_threshold_is_enough() -> None:
    assert one((0.1, 0, 0), threshold=0.1) == 0
    assert one((0.3, 0, 0), threshold=0.3) == 0
    assert one((0.0999, 0, 0), threshold=0.1) == MIXED


def test_a_class_may_have_a_threshold_of_its_own() -> None:
    assert one((0.1, 0.9, 0), thresholds={"a": 0.1}, priority=("a",)) == 0
    assert one((0.1, 0.9, 0), thresholds={"a": 0.1}) == 1


def test_little_of_the_classes_may_count_as_none() -> None:
    assert one((0.1, 0.1, 0)) == MIXED
    assert one((0.1, 0.1, 0), unlabelled_max=0.25) == UNLABELLED
    assert one((0.1, 0.2, 0), unlabelled_max=0.3) == UNLABELLED
    assert one((0.4, 0.4, 0), unlabelled_max=1.0) == UNLABELLED
    assert one((0.8, 0.8, 0), threshold=0.9, unlabelled_max=1.0) == UNLABELLED


def test_names_become_classes_as_the_settings_say() -> None:
    config = LabelConfig(classes=("cancer", "stroma"), rename={"Tumor": "cancer"})
    assert [class_of(name, config) for name in ("Tumor", "stroma", "Blood")] == [
        "cancer",
        "stroma",
        None,
    ]
    assert class_of("Blood", LabelConfig()) == "Blood"


def test_all_classes_are_known_before_the_columns_are_written() -> None:
    assert in_order({"b", "a"}, LabelConfig(mask_values={"c": (1,)})) == ("a", "b", "c")
    assert in_order({"b"}, LabelConfig(classes=("z", "b"))) == ("z", "b")
    with pytest.raises(ConfigError, match="at most 100, found 101"):
        in_order({str(number) for number in range(101)}, LabelConfig())


def test_a_file_and_flags_give_both_configurations() -> None:
    values = {
        "mask_values": {"a": 1, "b": [2, 3]},
        "classes": ["a", "b"],
        "priority": "b, a",
        "workers": 3,
    }
    what, how = label_configs(values)
    assert what.mask_values == {"a": (1,), "b": (2, 3)}
    assert what.priority == ("b", "a")
    assert how.workers == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"treshold": 0.5}, r"unknown key treshold \(did you mean threshold\?\)"),
        ({"threshold": 0}, "threshold: expected a share above 0"),
        ({"threshold": 1.01}, "threshold: expected a share above 0"),
        ({"thresholds": {"a": 0.0}}, "thresholds: expected lines"),
        ({"thresholds": [0.1]}, "thresholds: expected lines"),
        ({"classes": [""]}, "classes: expected names"),
        ({"classes": "a,,b"}, "classes: expected names"),
        ({"classes": ["a\n"]}, "classes: expected names"),
        ({"classes": ["a", "a"]}, "classes: expected each one once, got a, a"),
        ({"priority": "a,a"}, "priority: expected each one once"),
        (
            {"mask_values": {"a": 1, "b": [1, 2]}},
            "mask_values: expected each one once, got 1, 1, 2",
        ),
        ({"mask_values": {"a": "one"}}, "mask_values: expected lines"),
        ({"mask_values": 3}, "mask_values: expected lines"),
        ({"classes": ["a"], "priority": ["b"]}, "priority: expected one of the classes a, got b"),
        ({"classes": ["a"], "rename": {"x": "b"}}, "rename: expected one of the classes a, got b"),
        ({"classes": ["a"], "thresholds": {"b": 0.1}}, "thresholds: expected one of the classes"),
        ({"classes": ["a"], "mask_values": {"b": 1}}, "mask_values: expected one of the classes"),
        ({"slide_label": "grade", "unlabelled": "x"}, "both say what the rest of a slide is"),
        ({"origin": "corner"}, "origin: expected canvas or bounds"),
        ({"no_annotation": "none"}, "no_annotation: expected unknown or nothing"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_configs(values)


@pytest.mark.parametrize(
    "known",
    [
        {"classes": ["a", "b"]},
        {"mask_values": {"b": 2}},
        {"rename": {"Group 1": "b"}},
    ],
)
def test_a_class_is_known_by_annotations_or_by_the_configuration(known: dict[str, object]) -> None:
    rule = {"thresholds": {"b": 0.1}}
    refuse_misspelt({"a", "b"}, make_config(LabelConfig, rule))
    refuse_misspelt({"a"}, make_config(LabelConfig, {**rule, **known}))
    with pytest.raises(ConfigError, match=r"thresholds: no annotation .* holds b; there are a"):
        refuse_misspelt({"a"}, make_config(LabelConfig, rule))
