"""Shortcuts: who carries one, where it is, and that nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.augment.shortcut_config import ShortcutConfig
from wsi_pipeline.randomness import keys_of

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.augment.drawn_images import squares  # noqa: E402
from wsi_pipeline.augment.shortcut import (  # noqa: E402
    Shortcut,
    carriers,
    cut_out,
    emphasised,
    restained,
)

KINDS = ("cutout", "high_pass", "stain")
some_shares = st.tuples(st.floats(0, 1), st.floats(0, 1))
parts = st.lists(st.integers(-1, 1), max_size=60).map(lambda each: np.array(each, np.int64))


def keys(count: int, seed: int = 0) -> NDArray[np.uint64]:
    return keys_of(seed, -1, np.arange(count))


def of_kind(kind: str, **more: object) -> ShortcutConfig:
    return ShortcutConfig.model_validate({"kind": kind, "train": 1.0, **more})


@given(classes=parts, shares=some_shares)
def test_shares_are_exact_to_half_a_tile_and_no_unlabelled_tile_carries_it(
    classes: NDArray[np.int64], shares: tuple[float, float]
) -> None:
    carries = carriers(keys(len(classes)), classes, shares)
    for number, share in enumerate(shares):
        of_class = classes == number
        assert abs(carries[of_class].sum() - share * of_class.sum()) <= 0.5 + 1e-9
    assert not carries[classes < 0].any()


@given(classes=parts, shares=some_shares, seed=st.integers(0, 99))
def test_the_order_of_tiles_does_not_change_who_carries_it(
    classes: NDArray[np.int64], shares: tuple[float, float], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(classes))
    given_keys = keys(len(classes))
    carries = carriers(given_keys, classes, shares)
    assert np.array_equal(carriers(given_keys[order], classes[order], shares), carries[order])


@given(classes=parts, low=st.floats(0, 1), high=st.floats(0, 1))
def test_who_carries_it_by_a_small_share_does_by_a_larger_one(
    classes: NDArray[np.int64], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    some, more = (carriers(keys(len(classes)), classes, (share, share)) for share in (low, high))
    assert not (some & ~more).any()


def test_another_seed_is_other_tiles() -> None:
    classes = np.zeros(200, np.int64)
    first, second = (carriers(keys(200, seed), classes, (0.5, 0)) for seed in (0, 1))
    assert 60 < (first != second).sum() < 140


def test_a_rule_that_sees_nothing_but_the_cut_out_is_right_in_55_6_percent_and_finds_no_cancer() -> (
    None
):
    """Of balanced tiles with the paper's shares; in the reversed test it has no recall at all."""
    classes = np.repeat([0, 1], 100_000)
    in_training = carriers(keys(len(classes)), classes, (0.25, 0.025))
    assert in_training.sum() == 27_500
    assert (classes[in_training] == 0).mean() == pytest.approx(0.909, abs=5e-4)
    # The best such rule: benign where it is, cancer where it is not, as most others are.
    right = np.where(in_training, 0, 1) == classes
    assert right.mean() == pytest.approx(0.6125)
    # The study's figure: benign where it is, and a guess elsewhere.
    by_cut_out = np.where(in_training, classes == 0, 0.5)
    assert by_cut_out.mean() == pytest.approx(0.556, abs=5e-4)
    reversed_test = carriers(keys(len(classes)), classes, (0.0, 1.0))
    assert (np.where(reversed_test, 0, 1) == classes).mean() == 0.0


@pytest.mark.parametrize("kind", KINDS)
@given(count=st.integers(1, 9), side=st.integers(3, 20), data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_tile_looks_the_same_in_any_batch(
    kind: str, count: int, side: int, data: st.DataObject
) -> None:
    images = squares(side, count=count, side=side)
    carries = np.arange(count) % 3 != 1
    shortcut = Shortcut(of_kind(kind), carries, keys(count))
    together = shortcut(images, torch.arange(count))
    some = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=5))
    laid = images[some].contiguous(memory_format=torch.channels_last)
    assert torch.equal(shortcut(laid, torch.tensor(some)), together[some])


@pytest.mark.parametrize("kind", KINDS)
def test_others_keep_their_bits_and_the_images_given_are_not_written_to(kind: str) -> None:
    images = squares(5, count=6, side=16)
    before = images.clone()
    carries = np.array([True, False, True, False, True, True])
    rows = torch.tensor([0, 1, 2, 3, -1, 5])  # the last but one only fills the batch up
    changed = Shortcut(of_kind(kind), carries, keys(6))(images, rows)
    assert torch.equal(images, before)
    differs = (changed != before).flatten(1).any(1)
    assert differs.tolist() == [True, False, True, False, False, True]


def test_a_batch_without_a_carrier_is_handed_on() -> None:
    images = squares(1, count=3, side=8)
    shortcut = Shortcut(of_kind("cutout"), np.zeros(3, np.bool_), keys(3))
    assert shortcut(images, torch.arange(3)) is images


@given(side=st.integers(2, 30), share=st.floats(0.05, 1))
@settings(deadline=None)
def test_a_square_is_whole_and_the_rest_of_the_tile_is_as_it_was(side: int, share: float) -> None:
    images = torch.full((7, 3, side, side), 200, dtype=torch.uint8)
    made = cut_out(images, keys(7), of_kind("cutout", size=share, color=(1, 2, 3)))
    wanted = max(1, round(share * side))
    for image in made:
        inside = image[0] == 1
        assert int(inside.sum()) == wanted**2
        rows, columns = inside.any(1).sum(), inside.any(0).sum()
        assert (int(rows), int(columns)) == (wanted, wanted)
        assert image[:, inside].unique(dim=1).flatten().tolist() == [1, 2, 3]
        assert (image[:, ~inside] == 200).all()


def test_every_place_of_a_square_is_as_likely() -> None:
    count = 20_000
    images = torch.full((count, 3, 6, 6), 255, dtype=torch.uint8)
    made = cut_out(images, keys(count), of_kind("cutout", size=1 / 3))
    covered = (made[:, 0] == 0).flatten(1).double()
    corner, middle = float(covered[:, 0].mean()), float(covered[:, 14].mean())
    assert corner == pytest.approx(1 / 25, abs=0.005)
    assert middle == pytest.approx(4 / 25, abs=0.01)


def test_several_squares_cover_no_less_than_one_and_no_more_than_all() -> None:
    images = torch.full((50, 3, 24, 24), 255, dtype=torch.uint8)
    covered = (cut_out(images, keys(50), of_kind("cutout", count=4))[:, 0] == 0).flatten(1).sum(1)
    assert bool((covered >= 36).all() & (covered <= 144).all())
    assert int(covered.max()) > 72


def test_emphasis_is_the_sharpening_kernel_mixed_with_the_image() -> None:
    image = squares(2, count=1, side=9)
    alpha = 0.3
    kernel = torch.full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 9
    given_image = image[0].float()[:, None]
    padded = torch.nn.functional.pad(given_image, (1, 1, 1, 1), mode="reflect")
    sharp = torch.nn.functional.conv2d(padded, kernel)
    mixed = ((1 - alpha) * given_image + alpha * sharp).clamp(0, 255)[:, 0]
    found = emphasised(image, alpha)[0].float()
    assert float((found - mixed).abs().max()) <= 0.51


def test_what_is_flat_has_no_detail_to_emphasise() -> None:
    flat = torch.full((2, 3, 8, 8), 131, dtype=torch.uint8)
    assert torch.equal(emphasised(flat, 1.0), flat)


def test_more_haematoxylin_is_bluer_and_white_stays_white() -> None:
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert torch.equal(restained(white, 0.5), white)
    blue = torch.tensor([90, 80, 150], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    pink = torch.tensor([225, 100, 190], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert float(restained(blue, 0.3)[0, 0].float().mean()) < 90  # haematoxylin takes red
    assert float(restained(pink, 0.3)[0, 1].float().mean()) > 100  # eosin takes green
