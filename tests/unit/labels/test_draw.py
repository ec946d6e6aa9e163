"""Groups are drawn by name, as many as asked for, and never less alike than by chance."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_pipeline.labels.draw import FREE, draw, imbalance, keys_of, random_parts

SEEDS = st.integers(0, 10_000)


def features_of(groups: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.gamma(0.7, 100, (groups, 3)), rng.integers(0, 2, (groups, 2))])


def names_of(groups: int) -> list[str]:
    return [f"P{number:03d}" for number in range(groups)]


@given(groups=st.integers(3, 40), seed=SEEDS, data=st.data())
def test_every_part_has_as_many_groups_as_asked(
    groups: int, seed: int, data: st.DataObject
) -> None:
    test = data.draw(st.integers(0, groups - 2))
    validation = data.draw(st.integers(0, groups - 1 - test))
    sizes = (groups - test - validation, validation, test)
    parts = draw(
        keys_of(names_of(groups), seed=seed, repeat=1),
        features_of(groups, seed),
        sizes=sizes,
        fixed=np.full(groups, FREE, dtype=np.int64),
    )
    assert np.bincount(parts, minlength=3).tolist() == list(sizes)


@given(groups=st.integers(6, 60), seed=SEEDS)
def test_a_draw_is_never_less_balanced_than_the_random_one_that_it_began_as(
    groups: int, seed: int
) -> None:
    keys, features = keys_of(names_of(groups), seed=seed, repeat=1), features_of(groups, seed)
    sizes = (groups - 3, 1, 2)
    free = np.full(groups, FREE, dtype=np.int64)
    by_chance = random_parts(keys, sizes=sizes, fixed=free)
    drawn = draw(keys, features, sizes=sizes, fixed=free)
    assert imbalance(drawn, features, count=3) <= imbalance(by_chance, features, count=3) + 1e-9


def test_over_many_cohorts_most_of_the_imbalance_of_chance_is_gone() -> None:
    ratios = []
    for seed in range(40):
        keys, features = keys_of(names_of(30), seed=seed, repeat=1), features_of(30, seed)
        free = np.full(30, FREE, dtype=np.int64)
        drawn = draw(keys, features, sizes=(21, 4, 5), fixed=free)
        by_chance = random_parts(keys, sizes=(21, 4, 5), fixed=free)
        ratios.append(imbalance(drawn, features, count=3) / imbalance(by_chance, features, count=3))
    assert np.median(ratios) < 0.2


@given(groups=st.integers(4, 40), seed=SEEDS, data=st.data())
def test_groups_that_have_a_part_keep_it(groups: int, seed: int, data: st.DataObject) -> None:
    kept = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=groups, max_size=groups)))
    keys, features = keys_of(names_of(groups), seed=seed, repeat=1), features_of(groups, seed)
    parts = draw(keys, features, sizes=(groups - 2, 1, 1), fixed=kept)
    assert (parts[kept != FREE] == kept[kept != FREE]).all()
    assert set(parts.tolist()) <= {0, 1, 2}


def test_the_order_of_features_that_nobody_has_does_not_matter() -> None:
    keys, features = keys_of(names_of(12), seed=3, repeat=1), features_of(12, 3)
    free = np.full(12, FREE, dtype=np.int64)
    with_nothing = np.column_stack([np.zeros(12), features])
    assert (
        draw(keys, features, sizes=(8, 2, 2), fixed=free)
        == draw(keys, with_nothing, sizes=(8, 2, 2), fixed=free)
    ).all()


@given(names=st.lists(st.text(), min_size=1, max_size=20, unique=True), seed=SEEDS)
def test_a_key_depends_on_its_name_alone(names: list[str], seed: int) -> None:
    keys = keys_of(names, seed=seed, repeat=1)
    alone = [int(keys_of([name], seed=seed, repeat=1)[0]) for name in names]
    assert keys.tolist() == alone
    assert keys.tolist() != keys_of(names, seed=seed + 1, repeat=1).tolist()
    assert keys.tolist() != keys_of(names, seed=seed, repeat=2).tolist()


def test_every_group_has_the_same_chance() -> None:
    counts = np.zeros(10)
    for seed in range(500):
        keys = keys_of(names_of(10), seed=seed, repeat=1)
        free = np.full(10, FREE, dtype=np.int64)
        counts += random_parts(keys, sizes=(8, 0, 2), fixed=free) == 2
    assert (abs(counts - 100) < 4 * np.sqrt(100 * 0.8)).all()
