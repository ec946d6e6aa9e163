"""Settings of a training: sections, paths, and what is refused."""

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.config import TrainConfig, flat, given_values, nested, train_configs
from wsi_pipeline.train.optimise_config import OptimiseConfig
from wsi_pipeline.train.schedule import learning_rate


def test_later_sources_win_section_by_section() -> None:
    config, work = train_configs(
        {"model": {"name": "resnet18", "image_px": 96}, "workers": 3},
        {"model.image_px": 128, "model": {"dropout": 0.5}},
    )
    model = config.model
    assert (model.name, model.image_px, model.dropout, work.workers) == ("resnet18", 128, 0.5, 3)


def test_a_section_of_a_file_may_be_empty() -> None:
    assert train_configs({"loss": None})[0] == TrainConfig()
    assert train_configs({"loss": None}, {"loss.decoupling": 0.01})[0].loss.decoupling == 0.01


def test_values_come_back_from_json() -> None:
    config = nested(TrainConfig(), {"loss.decoupling": 0.01, "model.freeze": "backbone"})
    assert train_configs(given_values(config))[0] == config


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "1.0e-3"])
def test_numbers_as_people_write_them_are_numbers(text: str) -> None:
    assert train_configs({"optimise": {"lr": text}})[0].optimise.lr == 0.001


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"optimise": {"leraning_rate": 1}}, "optimise: unknown key leraning_rate"),
        ({"optimise.lr": -1.0}, "optimise: lr: expected a number above 0, got -1.0"),
        ({"epoch": 3}, r"unknown key epoch \(did you mean epochs"),
        ({"model": "resnet18"}, "model: expected a section"),
        ({"model": "resnet18", "model.image_px": 96}, "model: expected a section"),
        ({"model": {"image_px": "big"}}, "model: image_px: expected pixels from 8 to 4096"),
        ({"split": "test"}, "split: expected split, split_2"),
        ({"model": {"unfreeze_epoch": 2}}, "model.unfreeze_epoch: got 2, but nothing is frozen"),
        ({"device": "gpu"}, "device: expected auto, cpu, cuda or cuda:N"),
        ({"loss": {"decouplin": 1.0}}, r"loss: unknown key decouplin \(did you mean decoupling"),
    ],
)
def test_what_is_not_expected_is_refused_by_its_section(
    values: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        train_configs(values)


def test_weight_decay_is_0_beside_decoupling_unless_asked_for() -> None:
    assert TrainConfig().weight_decay == 0.01
    assert nested(TrainConfig(), {"loss.decoupling": 0.01}).weight_decay == 0
    both = nested(TrainConfig(), {"loss.decoupling": 0.01, "optimise.weight_decay": 0.05})
    assert both.weight_decay == 0.05


def test_every_setting_of_what_is_learnt_is_in_the_digest() -> None:
    changed = {"model.dropout": 0.3, "loss.smoothing": 0.1, "optimise.lr": 0.1, "seed": 1}
    digests = {nested(TrainConfig(), {name: value}).digest() for name, value in changed.items()}
    assert len(digests | {TrainConfig().digest()}) == 5


def test_paths_name_settings_of_sections() -> None:
    paths = flat(given_values(TrainConfig()))
    assert paths["model.name"] == "efficientnet_b0"
    assert paths["optimise.lr"] == 0.001
    assert "model" not in paths


def test_settings_load_no_torch() -> None:
    probe = "import sys, wsi_pipeline.train.config; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


schedules = st.builds(
    OptimiseConfig,
    lr=st.floats(1e-6, 10),
    warmup=st.floats(0, 0.9),
    final_lr=st.floats(0, 1),
    schedule=st.sampled_from(["cosine", "constant"]),
)


@given(schedules, st.integers(1, 500))
def test_the_learning_rate_rises_once_and_then_never_again(
    config: OptimiseConfig, steps: int
) -> None:
    rates = [learning_rate(step, steps=steps, config=config) for step in range(steps)]
    rising = round(config.warmup * steps)
    assert all(0 < rate <= config.lr * (1 + 1e-9) or config.final_lr == 0 for rate in rates)
    assert rates[:rising] == sorted(rates[:rising])
    falling = rates[rising:]
    assert all(one >= other - 1e-12 for one, other in pairwise(falling))


@given(schedules, st.integers(1, 500))
def test_the_learning_rate_ends_where_it_should(config: OptimiseConfig, steps: int) -> None:
    last = learning_rate(steps, steps=steps, config=config)
    expected = config.lr * (1 if config.schedule == "constant" else config.final_lr)
    assert last == pytest.approx(expected)
