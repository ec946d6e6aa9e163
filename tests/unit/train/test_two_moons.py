"""Gradient starvation: what is learned beside the easiest feature, with and without decoupling."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.train.two_moons import accuracy, bend, boundary, moons, trained  # noqa: E402
from wsi_pipeline.train.loss_config import LossConfig  # noqa: E402


@pytest.fixture(scope="module")
def networks(one_thread: None) -> dict[str, Any]:  # noqa: ARG001  sums in one order
    """One network without and one with decoupling, else alike."""
    return {"plain": trained(LossConfig()), "decoupled": trained(LossConfig(decoupling=0.006))}


def test_both_know_the_points_they_learned_and_others_like_them(networks: dict[str, Any]) -> None:
    for network in networks.values():
        assert accuracy(network, moons()) == 1
        assert accuracy(network, moons(2000, seed=1)) == 1


def test_cross_entropy_draws_a_nearly_straight_line_and_decoupling_bends_it(
    networks: dict[str, Any],
) -> None:
    bends = {name: bend(boundary(network)) for name, network in networks.items()}
    assert bends["plain"] < 0.05  # the moons are 0.5 high, and 0.4 apart
    assert bends["decoupled"] > 3 * bends["plain"]


def test_where_height_alone_is_not_enough_the_decoupled_one_has_learned_the_shape(
    networks: dict[str, Any],
) -> None:
    nearer = moons(2000, seed=1, apart=False)  # the best straight line: 0.891
    found = {name: accuracy(network, nearer) for name, network in networks.items()}
    assert found["plain"] < 0.93
    assert found["decoupled"] > 0.97
