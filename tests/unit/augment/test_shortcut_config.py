"""Settings of a shortcut: shares of classes by name, and what is refused."""

from pathlib import Path

import pytest

from wsi_pipeline.augment.shortcut_config import ShortcutConfig, shares_of
from wsi_pipeline.config import make_config, read_yaml
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.config import TrainConfig, flat, given_values, train_configs
from wsi_pipeline.train.tune_config import TuneConfig, with_values

RECIPES = Path(__file__).resolve().parents[3] / "workflows" / "pcam" / "cutout"
PAPER = {"kind": "cutout", "train": {"benign": 0.25, "cancer": 0.025}, "test": {"cancer": 1}}


def test_classes_that_are_not_named_carry_none_and_one_number_is_for_all() -> None:
    config = train_configs({"shortcut": PAPER})[0].shortcut
    assert shares_of(config, "train", ("cancer", "benign")) == (0.025, 0.25)
    assert shares_of(config, "test", ("benign", "cancer")) == (0.0, 1.0)
    assert shares_of(config, "none", ("benign", "cancer")) == (0.0, 0.0)
    control = train_configs({"shortcut": PAPER}, {"shortcut.train": 1})[0].shortcut
    assert shares_of(control, "train", ("benign", "cancer")) == (1.0, 1.0)


def test_a_shortcut_that_is_switched_off_is_carried_by_none() -> None:
    config = train_configs({"shortcut": PAPER}, {"shortcut.kind": "none"})[0].shortcut
    assert shares_of(config, "train", ("benign", "cancer")) == (0.0, 0.0)


def test_classes_may_have_any_words_also_with_dots_and_of_numbers() -> None:
    shares = {"train": {"3.1 + 4": 0.25, 5: 0.025}}
    config = train_configs({"shortcut": {"kind": "stain", **shares}})[0]
    assert shares_of(config.shortcut, "train", ("3.1 + 4", "5")) == (0.25, 0.025)
    assert train_configs(given_values(config))[0] == config
    assert flat(given_values(config))["shortcut.train"] == {"3.1 + 4": 0.25, "5": 0.025}
    tuned = with_values({"shortcut": {"kind": "stain", **shares}}, {"loss.decoupling": 0.1})
    assert train_configs(tuned)[0].shortcut == config.shortcut


def test_the_rule_is_in_the_digest() -> None:
    without, with_it = TrainConfig(), train_configs({"shortcut": PAPER})[0]
    other = train_configs({"shortcut": {**PAPER, "test": {"benign": 1}}})[0]
    assert len({without.digest(), with_it.digest(), other.digest()}) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": {"benign": 1.2}}, r"shortcut: train: expected a share from 0 to 1, .*got .*1.2"),
        ({"train": -0.1}, "shortcut: train: expected a share from 0 to 1"),
        ({"test": {"benign": True}}, "shortcut: test: expected a share"),
        ({"train": {"benign": float("nan")}}, "shortcut: train: expected a share"),
        ({"train": 0, "test": {}}, r"shortcut.train: expected .* as kind is cutout; got none"),
        ({"kind": "cut-out"}, "shortcut: kind: expected none, cutout, high_pass or stain"),
        ({"size": 0}, "shortcut: size: expected a share above 0, up to 1, got 0"),
        ({"count": 0}, "shortcut: count: expected a whole number from 1 to 64"),
        ({"color": [0, 0]}, "shortcut: color: expected three whole numbers"),
        ({"color": "0,0,256"}, "shortcut: color: expected three whole numbers"),
        ({"color": "black"}, "shortcut: color: expected three whole numbers"),
        ({"strength": 1.5}, "shortcut: strength: expected a number above 0, up to 1"),
        ({"colour": "0,0,0"}, r"shortcut: unknown key colour \(did you mean color"),
    ],
)
def test_what_is_no_shortcut_is_refused_in_a_sentence(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        train_configs({"shortcut": {**PAPER, **changes}})


def test_a_name_that_is_no_class_is_refused() -> None:
    config = ShortcutConfig(kind="cutout", train={"bening": 0.25})
    with pytest.raises(ConfigError, match=r"shortcut.train: .*benign, cancer, got bening"):
        shares_of(config, "none", ("benign", "cancer"))


def test_a_search_does_not_vary_what_tiles_carry() -> None:
    with pytest.raises(ConfigError, match=r"shortcut.size, which says what is learnt"):
        TuneConfig(space={"shortcut.size": {"uniform": [0.1, 0.5]}}, sampler="tpe")
    TuneConfig(train={"shortcut": PAPER})


def test_the_arms_of_the_recipe_differ_in_what_they_are_compared_for_alone() -> None:
    arms = {
        path.stem: flat(given_values(train_configs(read_yaml(path))[0]))
        for path in RECIPES.glob("[!t]*.yaml")
    }
    assert sorted(arms) == [
        "control",
        "spectral_decoupling",
        "spectral_decoupling_eq1",
        "weight_decay",
    ]
    plain, control = arms["weight_decay"], arms["control"]
    assert {key for key, value in plain.items() if control[key] != value} == {"shortcut.train"}
    assert shares_of(
        train_configs(read_yaml(RECIPES / "control.yaml"))[0].shortcut, "train", ("0", "1")
    ) == (1.0, 1.0)


def test_the_search_of_the_recipe_sees_the_shortcut_and_each_of_its_corners_can_be_trained() -> (
    None
):
    search = make_config(TuneConfig, read_yaml(RECIPES / "tune.yaml"))
    assert search.score == "auroc_worst"
    for corner in search.corners:
        config = train_configs(with_values(search.train, corner))[0]
        assert shares_of(config.shortcut, "train", ("0", "1")) == (0.25, 0.025)
