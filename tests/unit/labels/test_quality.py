from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import seeds
from tests.unit.labels.quality_tables import change, dim, tiles_of
from wsi_pipeline.config import make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.quality import (
    NEEDED,
    RULES,
    explain,
    judge,
    robust_z,
    with_outliers,
    without_rules,
)
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.schema import TILE_COLUMNS

CONFIG = QcConfig()
NAMES = [rule.name for rule in RULES]
OF_SLIDE = ("qc_sharpness", "qc_blur_slide_z", "qc_white_excess", "qc_fold_z", "qc_ink")
STRICTER: dict[str, tuple[str, float, float]] = {
    "blur_slide_z": ("blur", 0.5, 3),
    "blur_scanner_z": ("blur", 0.5, 3),
    "blur_alone_z": ("blur", 0.5, 3),
    "unfocused_z": ("unfocused", 0.01, 1),
    "black_share": ("black", 0, 0.1),
    "white_share": ("white", 0, 0.1),
    "background_share": ("background", 0.2, 0.5),
    "fold_z": ("fold", 0.01, 2),
}
"""Limits of which the smaller one marks more."""


def disturbed(seed: int) -> pd.DataFrame:
    """Return tiles with some of every kind of damage."""
    tiles = tiles_of(seed, slides=5)
    rng = np.random.default_rng([seed, 1])
    for name in ("black_pixels", "white_pixels", "background"):
        hit = rng.random(len(tiles)) < 0.2
        tiles.loc[hit, name] = rng.uniform(0, 1, hit.sum()).astype(np.float32)
    dim(tiles, rng.random(len(tiles)) < 0.2, 0.02)
    folded = (rng.random(len(tiles)) < 0.1) * np.float32(60)
    tiles["gray_q50"] -= folded
    tiles["saturation_q50"] += folded
    return tiles


def marks(tiles: pd.DataFrame, config: QcConfig, rule: str) -> "pd.Series[Any]":
    return judge(tiles, config)[f"qc_{rule}"]


@given(seeds, st.sampled_from(sorted(STRICTER)))
@settings(max_examples=20)
def test_a_stricter_limit_marks_the_same_tiles_and_perhaps_more(seed: int, limit: str) -> None:
    rule, strict, lax = STRICTER[limit]
    tiles = disturbed(seed)
    fewer = marks(tiles, make_config(QcConfig, {limit: lax}), rule)
    more = marks(tiles, make_config(QcConfig, {limit: strict}), rule)
    assert (more | ~fewer).all()


@given(seeds)
@settings(max_examples=20)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    tiles = disturbed(seed)
    shuffled = tiles.sample(frac=1, random_state=seed)
    again = judge(shuffled, CONFIG).sort_index()
    expected = judge(tiles, CONFIG)
    pd.testing.assert_frame_equal(again.astype({"outlier_reason": str}), _texts(expected))


def _texts(judged: pd.DataFrame) -> pd.DataFrame:
    return judged.astype({"outlier_reason": str})


@given(seeds, st.sampled_from(NAMES))
@settings(max_examples=20)
def test_a_rule_that_is_off_marks_nothing_and_the_others_as_before(seed: int, rule: str) -> None:
    tiles = disturbed(seed)
    judged, without = (
        judge(tiles, make_config(QcConfig, values)) for values in ({}, {rule: False})
    )
    assert not without[f"qc_{rule}"].any()
    for name in set(NAMES) - {rule}:
        assert without[f"qc_{name}"].equals(judged[f"qc_{name}"])
    others = judged[[f"qc_{name}" for name in NAMES if name != rule]].any(axis=1)
    assert (without["outlier"] == others).all()


@given(seeds)
@settings(max_examples=20)
def test_other_slides_do_not_change_what_is_relative_to_the_slide(seed: int) -> None:
    tiles = disturbed(seed)
    alone = tiles[tiles["slide_id"] == "s1"]
    together = judge(tiles, CONFIG).loc[alone.index]
    for name in OF_SLIDE:
        assert judge(alone, CONFIG)[name].astype(object).equals(together[name].astype(object))


@given(seeds)
@settings(max_examples=20)
def test_other_scanners_do_not_change_what_is_relative_to_the_scanner(seed: int) -> None:
    tiles = tiles_of(seed, slides=8, scanners=("A", "B"))
    alone = tiles[tiles["scanner"] == "B"]
    together = judge(tiles, CONFIG).loc[alone.index]
    pd.testing.assert_frame_equal(_texts(judge(alone, CONFIG)), _texts(together))


@given(seeds)
@settings(max_examples=20)
def test_reasons_name_exactly_the_rules_that_mark(seed: int) -> None:
    judged = judge(disturbed(seed), CONFIG)
    for row, said in zip(judged.to_dict("records"), judged["outlier_reason"], strict=True):
        named = [name for name in NAMES if row[f"qc_{name}"]]
        assert (said == "; ".join(named)) if named else pd.isna(said)
        assert row["outlier"] == bool(named)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(0.1, 10))
def test_robust_z_is_the_same_after_a_shift_and_half_of_the_values_may_be_anything(
    values: list[float], least: float
) -> None:
    groups = np.zeros(2 * len(values) + 1, np.intp)
    wild = np.array([0.0] * (len(values) + 1) + values)
    z = robust_z(wild, groups, least_spread=least)
    assert (z[: len(values) + 1] == 0).all()
    assert robust_z(wild + 64, groups, least_spread=least) == pytest.approx(z, abs=1e-6 / least)


def test_ordinary_tiles_of_two_scanners_of_different_sharpness_are_not_marked() -> None:
    judged = judge(tiles_of(1, slides=8, tiles=200, scanners=("A", "B")), CONFIG)
    assert judged["outlier"].mean() < 0.005
    without = judge(
        tiles_of(1, slides=8, tiles=200, scanners=("A", "B")).drop(columns="scanner"), CONFIG
    )
    assert without["outlier"].mean() < 0.005


@pytest.mark.parametrize(
    ("metrics", "rule"),
    [
        ({"laplacian_var": 3.0}, "blur"),
        ({"black_pixels": 0.03}, "black"),
        ({"white_pixels": 0.06}, "white"),
        ({"background": 0.95}, "background"),
        ({"tissue": 0.05}, "background"),
        ({"gray_q50": 100.0, "saturation_q50": 170.0}, "fold"),
        ({"saturation_q90": 8.0}, "gray"),
    ],
)
def test_one_damaged_tile_is_found_with_number_and_limit(
    metrics: dict[str, float], rule: str
) -> None:
    tiles = tiles_of(3)
    change(tiles, 17, metrics)
    judged = judge(tiles, CONFIG)
    assert judged.loc[17, "outlier_reason"] == rule
    assert judged["outlier"].sum() == 1
    (said,) = explain(tiles.loc[[17]], judged.loc[[17]], CONFIG)
    assert said.startswith(f"{rule}: ")
    assert "limit" in said or "least" in said


@pytest.mark.parametrize(
    ("ink", "rgb", "hue", "saturation"),
    [
        ("green", (30, 110, 60), 71, 190),
        ("blue", (41, 63, 129), 112, 173),
        ("black", (20, 18, 22), 140, 60),
        ("red", (180, 25, 40), 176, 225),
    ],
)
def test_inks_are_told_from_stains_and_from_each_other(
    ink: str, rgb: tuple[int, int, int], hue: int, saturation: int
) -> None:
    tiles = tiles_of(3)
    inked = dict(zip(("red_q10", "green_q10", "blue_q10"), rgb, strict=True))
    inked |= {"hue_q10" if hue < 160 else "hue_q90": hue, "saturation_q90": saturation}
    change(tiles, 5, inked)
    judged = judge(tiles, CONFIG)
    assert judged["qc_ink"].dropna().to_dict() == {5: ink}
    assert explain(tiles.loc[[5]], judged.loc[[5]], CONFIG)[0].startswith(f"pen: {ink}")


@pytest.mark.parametrize(
    "stains",
    [
        {"red_q10": 45, "green_q10": 23, "blue_q10": 66, "hue_q10": 110, "saturation_q90": 180},
        {"red_q10": 61, "green_q10": 54, "blue_q10": 118, "hue_q10": 121, "saturation_q90": 140},
        {"red_q10": 150, "green_q10": 60, "blue_q10": 75, "hue_q90": 176, "saturation_q90": 170},
    ],
    ids=["dark nuclei", "blue hematoxylin", "blood"],
)
def test_stains_that_look_like_ink_are_not_marked(stains: dict[str, float]) -> None:
    tiles = tiles_of(3)
    change(tiles, 5, stains)
    assert not judge(tiles, CONFIG)["qc_pen"].any()


@pytest.mark.parametrize(("hue", "is_fold"), [(158, True), (2, True), (135, False)])
def test_crowded_nuclei_are_blue_and_folds_are_not(*, hue: int, is_fold: bool) -> None:
    tiles = tiles_of(3)
    change(tiles, 5, {"gray_q50": 140, "saturation_q50": 122, "hue_q50": hue})
    assert judge(tiles, CONFIG)["qc_fold"].to_numpy().nonzero()[0].tolist() == [5] * is_fold


def test_half_a_slide_out_of_focus_is_found_against_its_scanner() -> None:
    tiles = tiles_of(4, slides=5)
    half = tiles.index[tiles["slide_id"] == "s2"][:20]
    dim(tiles, tiles.index.isin(half), 0.02)
    judged = judge(tiles, CONFIG)
    assert judged.loc[half, "qc_blur_slide_z"].min() > -CONFIG.blur_slide_z
    assert set(judged.index[judged["qc_blur"]]) == set(half)
    both = make_config(QcConfig, {"blur_alone_z": None})
    assert not judge(tiles, both)["qc_blur"].any()


def test_a_slide_out_of_focus_is_marked_as_a_whole_where_there_are_enough_to_compare() -> None:
    tiles = tiles_of(4, slides=4)
    soft = tiles["slide_id"] == "s3"
    dim(tiles, soft.to_numpy(), 0.03)
    assert (judge(tiles, CONFIG)["qc_unfocused"] == soft).all()
    few = tiles[tiles["slide_id"].isin(["s2", "s3"])]
    assert judge(few, CONFIG)["qc_unfocused_z"].isna().all()
    assert not judge(few, CONFIG)["qc_unfocused"].any()


def test_white_glass_and_padding_are_not_lost_data() -> None:
    tiles = tiles_of(5)
    tiles["white_pixels"] = tiles["background"]  # a scanner whose glass is 255
    assert not judge(tiles, CONFIG)["qc_white"].any()
    lost = tiles.assign(white_pixels=(tiles["background"] + 0.2 * (tiles["tile"] == 3)).clip(0, 1))
    assert set(lost.loc[judge(lost, CONFIG)["qc_white"], "tile"]) == {3}
    edge = tiles_of(5).assign(padded=np.float32(0.3), white_pixels=np.float32(0.3))
    assert not judge(edge, CONFIG)["qc_white"].any()
    assert judge(edge.drop(columns="padded"), CONFIG)["qc_white"].any()


def test_dark_field_is_judged_by_its_sharpness_and_mask_alone() -> None:
    tiles = disturbed(6).assign(dark_field=True, tissue=np.float32(0.5))
    judged = judge(tiles, CONFIG)
    assert not judged[["qc_black", "qc_fold", "qc_gray", "qc_pen", "qc_background"]].any(axis=None)
    assert judged["qc_blur"].any()


def test_tiles_that_could_not_be_read_are_not_judged() -> None:
    tiles = tiles_of(7).astype({"tile": np.float32})
    metrics = [name for name in tiles if name not in ("slide_id", "scanner", "tile", "tissue")]
    tiles.loc[3, metrics] = np.nan
    tiles.loc[3, "tissue"] = 0
    judged = judge(tiles, CONFIG)
    assert not judged.loc[3, "outlier"]
    assert judged.drop(index=3).equals(judge(tiles.drop(index=3), CONFIG))


def test_clusters_that_are_marked_are_named_beside_rules() -> None:
    tiles = tiles_of(8, slides=1, tiles=4)
    tiles.loc[0, "black_pixels"] = 1
    judged = judge(tiles, CONFIG).assign(cluster=np.array([3, 3, 7, 1], np.int16))
    said = with_outliers(judged, clusters=(3, 7))["outlier_reason"].astype(object).tolist()
    assert said[:3] == ["black; cluster 3", "cluster 3", "cluster 7"]
    assert pd.isna(said[3])


def test_no_tiles_at_all_are_judged_too() -> None:
    judged = judge(tiles_of(1).iloc[:0], CONFIG)
    assert len(judged) == 0
    assert {"outlier", "outlier_reason", *(f"qc_{name}" for name in NAMES)} <= set(judged)


def test_needed_columns_are_of_the_manifest() -> None:
    assert set(NEEDED) <= {column.name for column in TILE_COLUMNS}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"blur_slide_z": 0}, "blur_slide_z: expected a number above 0, got 0"),
        ({"black_share": 2}, "black_share: expected a share from 0 to 1, got 2"),
        ({"cluster_metrics": ["sharpness"]}, "cluster_metrics: expected names of metric columns"),
        ({"cluster_metrics": []}, "cluster_metrics: expected"),
        ({"mark_clusters": "3,x"}, "mark_clusters: expected numbers of clusters, such as 3,7"),
        ({"mark_clusters": "3,3"}, "mark_clusters: expected"),
        ({"mark_clusters": "12"}, "mark_clusters: expected numbers below 12"),
        ({"blurr": True}, "unknown key blurr"),
        ({"pen_percent": 20}, "pen_percent: expected 5, 10 or 25"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(QcConfig, values)


def test_clusters_to_be_marked_are_given_as_text_number_or_list() -> None:
    for numbers in ("3,7", [7, 3], (3, 7)):
        assert make_config(QcConfig, {"mark_clusters": numbers}).mark_clusters == (3, 7)
    assert make_config(QcConfig, {"mark_clusters": 4}).mark_clusters == (4,)
    assert make_config(QcConfig, {"mark_clusters": ""}).mark_clusters == ()


def test_rules_are_switched_off_by_name() -> None:
    assert without_rules(["pen", "fold"]) == {"pen": False, "fold": False}
    with pytest.raises(ConfigError, match="unknown rule ink; known are blur, unfocused"):
        without_rules(["ink"])
