"""Settings of the loss are checked before anything heavy is loaded."""

import subprocess
import sys

import pytest

from wsi_pipeline.config import make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.loss_config import LossConfig, per_class, rare_of, weights_of

CLASSES = ("benign", "cancer")


def test_settings_load_no_torch() -> None:
    probe = "import sys, wsi_pipeline.train.loss_config; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"decoupling": -0.1}, "decoupling: expected a number, or one of every class"),
        ({"decoupling": float("nan")}, "decoupling: expected"),
        ({"decoupling": True}, "decoupling: expected"),
        ({"decoupling": {}}, "decoupling: expected"),
        ({"decoupling": {"benign": "much"}}, "decoupling: expected"),
        ({"decoupling_gamma": 1.0}, "decoupling_gamma: expected decoupling above 0"),
        ({"decoupling_form": "both"}, "expected auto, single, all, target or column, got 'both'"),
        ({"class_weights": "equal"}, "class_weights: expected none, balanced or"),
        ({"class_weights": 2.0}, "class_weights: expected none, balanced or"),
        ({"smoothing": 1.0}, "smoothing: expected a share from 0 to below 1, got 1.0"),
        ({"mixup_margin": 0.5}, "mixup_margin: expected a share from 0 to below 0.5, got 0.5"),
        ({"adversarial_start": 0.0}, "adversarial_start: expected a length above 0"),
        ({"clean_step": False}, "clean_step: expected true, or mixup or adversarial above 0"),
        ({"focal_gamma": 2.0}, "unknown key focal_gamma"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    values: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        make_config(LossConfig, values)
    assert words in str(error.value)
    assert ";" not in str(error.value).replace("; give", "").replace("; leave", "").replace(
        "; known", ""
    )


def test_classes_that_are_numbers_may_be_written_as_such() -> None:
    config = make_config(
        LossConfig,
        {"decoupling": {0: 0.1, 1: 0.2}, "class_weights": {0: 1, 1: 2}, "margin": 0.2, "rare": [1]},
    )
    assert per_class("decoupling", config.decoupling, ("0", "1")) == (0.1, 0.2)
    assert weights_of(config, ("0", "1"), None) == (1.0, 2.0)
    assert config.rare == ("1",)


def test_numbers_of_classes_are_put_in_their_order() -> None:
    assert per_class("decoupling", {"cancer": 3.0, "benign": 2}, CLASSES) == (2.0, 3.0)
    assert per_class("decoupling", 0.5, CLASSES) == (0.5, 0.5)


@pytest.mark.parametrize("values", [{"benign": 1.0}, {"benign": 1.0, "cancer": 1.0, "pen": 1.0}])
def test_every_class_has_a_number_and_nothing_else(values: dict[str, float]) -> None:
    with pytest.raises(
        ConfigError, match=r"decoupling: expected a number of each of benign, cancer"
    ):
        per_class("decoupling", values, CLASSES)


def test_the_second_of_two_classes_is_the_rare_one_unless_named() -> None:
    config = LossConfig(margin=1.0, margin_classes="rare")
    assert rare_of(config, CLASSES) == (False, True)
    assert rare_of(config.model_copy(update={"rare": ("benign",)}), CLASSES) == (True, False)


def test_nobody_is_rare_where_no_method_asks() -> None:
    assert rare_of(LossConfig(margin=1.0, focal=2.0), CLASSES) == (False, False)


@pytest.mark.parametrize(
    "values",
    [
        {"margin": 1.0, "margin_classes": "rare"},
        {"focal": 2.0, "focal_classes": "common"},
        {"mixup": 1.0, "mixup_labels": "rare"},
        {"adversarial": 10.0},
    ],
)
def test_of_more_classes_the_rare_ones_are_to_be_named(values: dict[str, object]) -> None:
    three = (*CLASSES, "pen")
    with pytest.raises(ConfigError, match="rare: expected some of benign, cancer, pen"):
        rare_of(make_config(LossConfig, values), three)
    named = make_config(LossConfig, {**values, "rare": ["pen", "cancer"]})
    assert rare_of(named, three) == (False, True, True)


@pytest.mark.parametrize(
    ("rare", "words"), [(["tumour"], "got tumour"), (["cancer", "benign"], "got all of them")]
)
def test_rare_classes_are_some_of_the_classes(rare: list[str], words: str) -> None:
    config = make_config(LossConfig, {"adversarial": 10.0, "rare": rare})
    with pytest.raises(ConfigError, match=words):
        rare_of(config, CLASSES)


def test_balanced_weights_have_a_mean_of_1_over_the_tiles() -> None:
    tiles = {"benign": 900, "cancer": 100}
    weights = weights_of(LossConfig(class_weights="balanced"), CLASSES, tiles)
    assert weights == pytest.approx((1000 / 1800, 5.0))
    assert sum(weights[number] * tiles[name] for number, name in enumerate(CLASSES)) == 1000


@pytest.mark.parametrize("tiles", [None, {}, {"benign": 5}, {"benign": 5, "cancer": 0}])
def test_balanced_weights_need_tiles_of_every_class(tiles: dict[str, int] | None) -> None:
    with pytest.raises(ConfigError, match="class_weights: balanced needs tiles of every class"):
        weights_of(LossConfig(class_weights="balanced"), CLASSES, tiles)


@pytest.mark.parametrize(
    ("decoupling", "expected"),
    [(0.0, False), (0.01, True), ({"a": 0.0, "b": 0.0}, False), ({"a": 0.0, "b": 0.1}, True)],
)
def test_decoupling_is_on_where_a_class_has_a_strength(
    decoupling: object, expected: object
) -> None:
    assert make_config(LossConfig, {"decoupling": decoupling}).decouples is expected
