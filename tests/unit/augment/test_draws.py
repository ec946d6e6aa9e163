"""Random numbers of an image: its key and the name decide, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.randomness import keys_of

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.unit.augment.drawn_images import keys  # noqa: E402
from wsi_pipeline.augment.draws import Draws, _stream  # noqa: E402

M64 = (1 << 64) - 1


@given(st.lists(keys, min_size=1, max_size=8), st.text(max_size=8), st.integers(1, 9), st.data())
def test_an_images_numbers_do_not_depend_on_its_batch(
    given_keys: list[int], name: str, count: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(given_keys))))
    together = Draws(torch.tensor(given_keys))
    other = Draws(torch.tensor([given_keys[at] for at in order]))
    for kind in ("bits", "uniform", "normal"):
        first, second = (getattr(draws, kind)(name, count) for draws in (together, other))
        assert torch.equal(first[list(order)], second)


@given(keys, st.integers(1, 6), st.integers(1, 6))
def test_asking_for_more_numbers_does_not_change_the_first(key: int, few: int, more: int) -> None:
    draws = Draws(torch.tensor([key]))
    assert torch.equal(draws.bits("a", few), draws.bits("a", few + more)[:, :few])
    assert torch.equal(draws.normal("a", few), draws.normal("a", few + more)[:, :few])


def _mixed(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & M64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & M64
    return word ^ (word >> 31)


@given(keys, st.integers(1, 5))
def test_bits_are_splitmix64s_in_whole_numbers_without_sign(key: int, count: int) -> None:
    """Sebastiano Vigna's arithmetic, written again with Python's unbounded numbers."""
    stream = _mixed((key + _stream("crop")) & M64)
    expected = [_mixed((stream + 0x9E3779B97F4A7C15 * at) & M64) for at in range(1, count + 1)]
    found = Draws(torch.tensor([key])).bits("crop", count)[0].numpy().view(np.uint64)
    assert found.tolist() == expected


def test_numbers_are_uniform_or_normal_and_names_and_places_independent() -> None:
    of_tiles = keys_of(3, 1, np.arange(20_000)).view(np.int64)
    for given_keys in (torch.from_numpy(of_tiles), torch.arange(20_000)):
        draws = Draws(given_keys)
        drawn = torch.cat([draws.uniform("a", 3), draws.uniform("b")[:, None]], dim=1).numpy()
        assert drawn.min() >= 0
        assert drawn.max() < 1
        shares = [np.histogram(column, bins=16, range=(0, 1))[0] / 20_000 for column in drawn.T]
        assert np.abs(np.array(shares) - 1 / 16).max() < 0.008  # 4.7 standard errors
        assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.035
        normal = draws.normal("c", 5).numpy()
        assert abs(normal.mean()) < 0.015
        assert abs(normal.std() - 1) < 0.015
        assert np.abs(np.corrcoef(normal.T) - np.eye(5)).max() < 0.035
        assert abs((np.abs(normal) > 2).mean() - 0.0455) < 0.004


def test_draws_may_come_on_another_device() -> None:
    draws = Draws(torch.arange(3), "meta")
    assert draws.uniform("a", 2).device.type == "meta"
    assert len(draws) == 3
