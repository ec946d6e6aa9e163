"""Leakage of every kind is planted and found, and nothing is found where nothing leaks."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.leakage import Audit, audit
from wsi_pipeline.labels.similar import COLOURS


def tiles_of(slide: int, *, across: int = 8, **columns: Any) -> pd.DataFrame:  # noqa: ANN401  any cell
    """Return the tiles of a slide, of noise that is its own."""
    rng = np.random.default_rng([slide, 1])
    count = across * across
    rows, places = np.divmod(np.arange(count), across)
    own = {
        "slide_id": f"s{slide}",
        "patient_id": f"P{slide}",
        "x": places * 205,
        "y": rows * 205,
        "width": 256,
        "height": 256,
        **{name: rng.uniform(100, 250, count) for name in (*COLOURS, "laplacian_var")},
        "crc32c": rng.integers(0, 2**32, count),
    }
    return pd.DataFrame({**own, **columns})


def clean(**last: Any) -> pd.DataFrame:  # noqa: ANN401
    """Return three slides without leakage; the columns given are those of the last one."""
    return pd.concat(
        [
            tiles_of(0, split="train"),
            tiles_of(1, split="validation"),
            tiles_of(2, **{"split": "test", **last}),
        ],
        ignore_index=True,
    )


def slides(sources: dict[str, int]) -> pd.DataFrame:
    rows = [
        {
            "slide_id": name,
            "size_bytes": 1000 + number,
            "source_crc32c": number,
            "fingerprint": f"{number}",
        }
        for name, number in sources.items()
    ]
    return pd.DataFrame(rows)


def kinds(found: Audit) -> list[tuple[str, bool]]:
    return [(finding.kind, finding.is_leak) for finding in found.findings]


def test_nothing_is_found_where_nothing_leaks() -> None:
    found = audit(clean(), slides=slides({"s0": 0, "s1": 1, "s2": 2}))
    assert found.findings == ()
    assert found.unchecked == ()
    assert len(found.checked) == 6


def test_a_patient_in_two_parts_is_a_leak() -> None:
    found = audit(clean(patient_id="P0"))
    assert kinds(found) == [("patient", True)]
    assert found.leaks[0].text == "patient P0 is in train (64 tiles) and test (64 tiles)"


def test_a_slide_in_two_parts_is_a_leak_and_its_overlapping_tiles_are_counted() -> None:
    table = clean()
    last = table.index[table["slide_id"] == "s2"]
    table.loc[last[:8], "split"] = "train"
    found = audit(table)
    assert sorted(kinds(found)) == [("overlap", True), ("patient", True), ("slide", True)]
    text = next(each.text for each in found.leaks if each.kind == "overlap")
    assert text.startswith("slide s2: 16 tiles share pixels with tiles of another part")


def test_parts_of_a_slide_that_do_not_touch_are_a_divided_slide_without_overlap() -> None:
    table = clean()
    last = table.index[table["slide_id"] == "s2"]
    table.loc[last, ["width", "height"]] = 205
    table.loc[last[:8], "split"] = "train"
    assert sorted(kinds(audit(table))) == [("patient", True), ("slide", True)]


def test_byte_equal_slides_in_two_parts_are_a_leak() -> None:
    found = audit(clean(), slides=slides({"s0": 0, "s1": 1, "s2": 0}))
    assert ("same_file", True) in kinds(found)
    assert ("overlap", True) in kinds(found)
    assert "slides s0 and s2 are the same file, byte for byte, and are in train and test" in (
        found.leaks[-1].text
    )


def test_byte_equal_slides_leak_though_their_first_tiles_are_in_no_part() -> None:
    tiles = clean()
    tiles.loc[tiles.groupby("slide_id").head(3).index, "split"] = None
    found = audit(tiles.drop(columns="x"), slides=slides({"s0": 0, "s1": 1, "s2": 0}))
    (finding,) = found.leaks
    assert finding.kind == "same_file"
    assert finding.names == ("s0", "s2")


def test_byte_equal_slides_of_two_patients_in_one_part_are_reported() -> None:
    found = audit(clean(split="train"), slides=slides({"s0": 0, "s1": 1, "s2": 0}))
    assert kinds(found) == [("same_file", False)]
    assert "said to be of patients P0 and P2" in found.reports[0].text


@pytest.mark.parametrize(("split", "words"), [("test", "train and test"), ("train", "P0 and P2")])
def test_slides_that_look_alike_are_reported(split: str, words: str) -> None:
    first = tiles_of(0)
    looks = {name: first[name] * 0.9 + 10 for name in COLOURS}
    found = audit(clean(split=split, **looks))
    assert kinds(found) == [("alike", False)]
    assert words in found.reports[0].text


def test_serial_sections_of_one_patient_in_one_part_are_not_reported() -> None:
    looks = {name: tiles_of(0)[name] for name in COLOURS}
    assert audit(clean(split="train", patient_id="P0", **looks)).findings == ()


def test_equal_tiles_in_two_parts_are_reported_but_for_flat_ones() -> None:
    first = tiles_of(0)
    same = {name: first[name] for name in ("crc32c", "laplacian_var", "gray_mean")}
    found = audit(clean(**same))
    assert kinds(found) == [("same_tile", False)]
    assert found.reports[0].text.startswith("128 tiles have the same bytes")
    flat = clean(**same).assign(laplacian_var=0.0)
    assert audit(flat).findings == ()


@pytest.mark.parametrize("name", ["p0", "P 0", "P_0", "P00"])
def test_names_of_patients_that_are_nearly_the_same_are_reported(name: str) -> None:
    found = audit(clean(patient_id=name))
    assert kinds(found) == [("alike_name", False)]
    assert found.reports[0].text == f"patients P0 and {name} are in test and train: are they one?"


def test_folds_and_repeats_are_audited_each() -> None:
    table = clean(patient_id="P0").assign(split="train", split_2="train")
    table["fold"] = [0.0] * 64 + [1.0] * 64 + [2.0] * 64
    table.loc[128:, "split_2"] = "test"
    found = audit(table)
    assert [each.text for each in found.leaks] == [
        "split_2: patient P0 is in train (64 tiles) and test (64 tiles)",
        "fold: patient P0 is in fold 0 (64 tiles) and fold 2 (64 tiles)",
    ]


def test_a_patient_is_not_in_a_fold_and_in_a_test_part_that_has_none() -> None:
    tiles = clean(patient_id="P0").assign(fold=np.nan)
    tiles.loc[tiles["split"] != "test", "fold"] = 0
    tiles.loc[tiles["split"] != "test", "split"] = None
    (finding,) = audit(tiles).leaks
    assert finding.text == "patient P0 is in folds (64 tiles) and test (64 tiles)"


@pytest.mark.parametrize("blank", ["", " ", None])
def test_slides_without_a_patient_are_not_of_one(blank: str | None) -> None:
    found = audit(clean(patient_id=blank).assign(patient_id=blank))
    assert found.leaks == ()


@pytest.mark.filterwarnings("error")
def test_a_tile_of_unknown_place_shares_no_pixels() -> None:
    tiles = tiles_of(0).assign(split=["train"] * 63 + ["test"])
    tiles.loc[63, "x"] = np.nan
    assert kinds(audit(tiles)) == [("patient", True), ("slide", True)]


def test_what_cannot_be_checked_is_said() -> None:
    found = audit(pd.DataFrame({"slide_id": ["a", "b"], "split": ["train", None]}))
    assert found.checked == ("slides",)
    said = "\n".join(found.unchecked)
    for text in (
        "patients: ",
        "overlapping tiles: no columns x",
        "byte-equal slides: no col",
        "1 tiles",
    ):
        assert text in said


def test_patients_of_some_slides_are_not_guessed() -> None:
    found = audit(clean(patient_id=None))
    assert found.findings == ()
    assert "patients: not known of 1 slides (s2)" in found.unchecked


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"slide_id": ["a"]}, "expected a column split"),
        ({"split": ["a"]}, "a column slide_id or patient"),
    ],
)
def test_a_table_that_says_too_little_is_refused(
    columns: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        audit(pd.DataFrame(columns))


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_whatever_is_planted_is_found_in_any_order_of_rows(seed: int, order: Any) -> None:  # noqa: ANN401
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 6, 12)
    parts = rng.choice(["train", "test"], 12)
    table = pd.DataFrame(
        {"slide_id": [f"s{n}" for n in range(12)], "patient_id": patients, "split": parts}
    )
    expected = {
        str(patient) for patient, rows in table.groupby("patient_id") if rows["split"].nunique() > 1
    }
    mixed = table.sample(frac=1, random_state=order.randrange(2**31))
    assert {name for each in audit(mixed).leaks for name in each.names} == expected
