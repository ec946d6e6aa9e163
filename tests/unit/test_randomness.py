import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.randomness import generator, keys_of


@given(st.integers(0, 2**32), st.integers(0, 100), st.lists(st.integers(0, 2**40), max_size=20))
def test_a_tile_has_its_number_wherever_it_comes(seed: int, epoch: int, tiles: list[int]) -> None:
    together = keys_of(seed, epoch, np.array(tiles, np.int64))
    alone = [keys_of(seed, epoch, np.array([tile]))[0] for tile in tiles]
    assert together.tolist() == alone


def test_numbers_of_tiles_epochs_and_seeds_differ_and_fill_the_range() -> None:
    tiles = np.arange(100_000)
    keys = np.concatenate([keys_of(seed, epoch, tiles) for seed in (0, 1) for epoch in (0, 1)])
    assert len(np.unique(keys)) == 400_000
    shares = np.histogram(keys.astype(np.float64) / 2**64, bins=16, range=(0, 1))[0] / len(keys)
    assert np.abs(shares - 1 / 16).max() < 0.005


def test_streams_of_other_names_are_independent() -> None:
    first, second = (generator(3, name).random(50_000) for name in ("a", "b"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
