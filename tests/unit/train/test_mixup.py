"""Mixup: partners and shares from keys, soft targets, and those that favour the rare class."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

torch = pytest.importorskip("torch", reason="needs the extra train")

from wsi_pipeline.randomness import keys_of  # noqa: E402
from wsi_pipeline.train.mixup import (  # noqa: E402
    mixed_images,
    partners,
    rare_labels,
    shares,
    soft_labels,
)

pytestmark = pytest.mark.usefixtures("one_thread")

keys_lists = st.lists(st.integers(-(2**63), 2**63 - 2), min_size=1, max_size=20, unique=True)


def many_keys(tiles: int) -> Any:  # noqa: ANN401
    return torch.from_numpy(keys_of(3, 1, np.arange(tiles)).view(np.int64))


@given(keys_lists, st.data())
def test_tiles_that_count_form_one_ring_and_the_others_are_alone(
    keys: list[int], data: st.DataObject
) -> None:
    weights = torch.tensor(
        data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(keys), max_size=len(keys)))
    )
    found = partners(torch.tensor(keys), weights).tolist()
    counted = [place for place, weight in enumerate(weights.tolist()) if weight > 0]
    assert all(found[place] == place for place in set(range(len(keys))) - set(counted))
    seen, place = [], counted[0] if counted else 0
    for _ in counted:
        seen.append(place)
        place = found[place]
    assert sorted(seen) == counted


@given(keys_lists, st.randoms())
def test_a_tile_s_partner_does_not_depend_on_its_place(keys: list[int], random: object) -> None:
    order = list(range(len(keys)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = partners(torch.tensor(keys), torch.ones(len(keys))).tolist()
    moved = [keys[place] for place in order]
    second = partners(torch.tensor(moved), torch.ones(len(keys))).tolist()
    assert {keys[a]: keys[b] for a, b in enumerate(first)} == {
        moved[a]: moved[b] for a, b in enumerate(second)
    }


@pytest.mark.parametrize("a", [0.1, 0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(a: float) -> None:
    found = shares(many_keys(40_000), a).numpy()
    lower = found[found < 0.5]  # the upper half, likewise, has no room for what is nearest to 1
    assert abs(len(lower) / 40_000 - 0.5) < 0.01
    assert stats.kstest(lower, lambda x: 2 * stats.beta(a, a).cdf(x)).statistic < 0.012


@pytest.mark.parametrize("a", [0.1, 0.2, 1.0, 4.0])
def test_shares_are_the_quantiles_of_their_uniforms(
    a: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    uniform = torch.linspace(0, 1 - 2**-24, 10_001)
    monkeypatch.setattr("wsi_pipeline.train.mixup.Draws.uniform", lambda *_: uniform)
    exact = stats.beta(a, a).ppf(uniform.double().numpy())
    assert np.abs(shares(many_keys(10_001), a).numpy() - exact).max() < 1e-6


def test_a_share_goes_up_to_the_most_that_is_asked_for() -> None:
    found = shares(many_keys(5000), 1.0, most=0.8)
    assert 0.79 < float(found.max()) <= 0.8


@given(st.integers(0, 99))
def test_mixtures_lie_between_the_two_images_and_so_do_their_targets(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(5, 3, 4, 4, generator=generator)
    labels = torch.nn.functional.one_hot(torch.randint(3, (5,), generator=generator), 3).float()
    share = torch.rand(5, generator=generator)
    partner = torch.randperm(5, generator=generator)
    mixed = mixed_images(images, partner, share)
    for place, (other, part) in enumerate(zip(partner.tolist(), share.tolist(), strict=True)):
        expected = part * images[place] + (1 - part) * images[other]
        assert torch.allclose(mixed[place], expected, atol=1e-6)
    soft = soft_labels(labels, partner, share)
    assert torch.allclose(soft.sum(1), torch.ones(5))


@pytest.mark.parametrize(
    ("own", "other", "share", "expected"),
    [
        (1, 0, 0.21, (0, 1, 0)),  # rare by more than the margin
        (1, 0, 0.20, (0, 0, 0)),  # too little of the rare one
        (0, 1, 0.79, (0, 1, 0)),
        (0, 1, 0.80, (0, 0, 0)),
        (0, 0, 0.5, (1, 0, 0)),  # two of one common class keep it
        (1, 1, 0.1, (0, 1, 0)),  # and two of one rare class
        (0, 2, 0.9, (0, 0, 0)),  # two common classes
    ],
)
def test_a_mixture_is_rare_above_the_margin_and_common_only_if_whole(
    own: int, other: int, share: float, expected: tuple[int, ...]
) -> None:
    labels = torch.eye(3, dtype=torch.float64)[[own, other]]
    share_of = torch.tensor([share, 0.5], dtype=torch.float64)
    soft = soft_labels(labels, torch.tensor([1, 0]), share_of)
    rare = torch.tensor([False, True, False])
    found = rare_labels(soft, rare, margin=0.2 + 1e-9)[0]
    assert tuple(found.tolist()) == expected


def test_two_rare_classes_mixed_teach_nothing() -> None:
    soft = torch.tensor([[0.0, 0.4, 0.6]])
    rare = torch.tensor([False, True, True])
    assert rare_labels(soft, rare, margin=0.2).sum() == 0
