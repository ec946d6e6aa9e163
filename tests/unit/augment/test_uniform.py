"""UniformAugment: operations are Pillow's, value by value; which are done, and how often, is as published."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsi_pipeline.augment.config import OPERATIONS
from wsi_pipeline.geometry import Rgb

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.references.pillow_operations import PILLOW  # noqa: E402
from tests.unit.augment.drawn_images import any_picture, keys, pictures, squares, tensor  # noqa: E402
from wsi_pipeline.augment import on_cpu, tone  # noqa: E402
from wsi_pipeline.augment.draws import Draws  # noqa: E402
from wsi_pipeline.augment.uniform import (  # noqa: E402
    CARRIED_OUT,
    all_at_once,
    image_by_image,
    planned_steps,
    uniform_augmented,
)

NAMES = tuple(OPERATIONS)
drawn = st.integers(0, 2**24 - 1).map(lambda number: number / 2**24)
"""What ``Draws.uniform`` may give."""

Operation = Callable[[str, Rgb, list[float]], Rgb]
"""Of a name, an image and values; gives an image."""

ENHANCING = ("contrast", "color", "brightness", "sharpness")


def many_at_once(name: str, image: Rgb, values: list[float]) -> Rgb:
    made = CARRIED_OUT[name](tensor([image]), np.array([values], np.float64))
    found: Rgb = pictures(made)[0]
    return found


def one_on_cpu(name: str, image: Rgb, values: list[float]) -> Rgb:
    picture = np.ascontiguousarray(image)
    before = picture.copy()
    made = on_cpu.CARRIED_OUT[name](picture, *values)
    assert np.array_equal(picture, before)
    assert made.dtype == np.uint8
    assert made.flags.c_contiguous
    return made


implementations = pytest.mark.parametrize("ours", [many_at_once, one_on_cpu])


def pillows(name: str, image: Rgb, values: list[float]) -> Rgb:
    return np.asarray(PILLOW[name](Image.fromarray(image), *values))


def test_every_operation_is_there() -> None:
    assert CARRIED_OUT.keys() == on_cpu.CARRIED_OUT.keys() == PILLOW.keys() == OPERATIONS.keys()
    assert len(OPERATIONS) == 15


@implementations
@pytest.mark.parametrize("name", NAMES)
@given(image=any_picture(), units=st.lists(drawn, min_size=3, max_size=3))
@settings(max_examples=60)
def test_an_operation_gives_pillows_image_to_the_bit(
    ours: Operation, name: str, image: Rgb, units: list[float]
) -> None:
    values = [
        low + unit * (high - low)
        for (low, high), unit in zip(OPERATIONS[name], units, strict=False)
    ]
    if name in ENHANCING:
        values = [1 + round((values[0] - 1) * tone.FACTOR_STEPS) / tone.FACTOR_STEPS]
    assert np.array_equal(ours(name, image, values), pillows(name, image, values))


@implementations
@pytest.mark.parametrize("name", ENHANCING)
@given(image=any_picture(), factor=st.floats(0.1, 1.9))
@settings(max_examples=30)
def test_a_factor_between_two_steps_is_within_a_gray_level(
    ours: Operation, name: str, image: Rgb, factor: float
) -> None:
    made, expected = (each(name, image, [factor]).astype(int) for each in (ours, pillows))
    assert np.abs(made - expected).max() <= 1


@implementations
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_on_a_large_image_is_pillows(ours: Operation, name: str) -> None:
    image = pictures(squares(5, count=1, side=224))[0]
    image[60:170, 20:200] = image[60:170, 20:200] // 3 + 100
    values = [low + 0.7 * (high - low) for low, high in OPERATIONS[name]]
    if name in ENHANCING:
        values = [1.375]
    assert np.array_equal(ours(name, image, values), pillows(name, image, values))


@given(any_picture(), st.integers(1, 20))
def test_both_ways_of_counting_give_the_same_counts(image: Rgb, more: int) -> None:
    numbers = torch.from_numpy(image.ravel().astype(np.int32))
    found = tone.counts_of(numbers, 255 + more)
    assert torch.equal(found, tone.added_counts(numbers, 255 + more))
    assert found.sum() == image.size


@given(st.lists(keys, min_size=1, max_size=6), st.integers(0, 3), st.data())
@settings(max_examples=40)
def test_an_images_result_does_not_depend_on_its_batch(
    given_keys: list[int], most: int, data: st.DataObject
) -> None:
    images = squares(len(given_keys), count=len(given_keys), side=23)
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    together = uniform_augmented(images, Draws(torch.tensor(given_keys)), names=names, most=most)
    for at, key in enumerate(given_keys):
        alone = uniform_augmented(
            images[at : at + 1], Draws(torch.tensor([key])), names=names, most=most
        )
        assert torch.equal(alone[0], together[at])


@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
@given(st.lists(keys, min_size=1, max_size=6), st.integers(0, 4), st.integers(1, 40))
@settings(max_examples=40)
def test_image_by_image_is_all_at_once_to_the_bit_and_keeps_the_memory_format(
    layout: str, given_keys: list[int], most: int, side: int
) -> None:
    images = squares(side, count=len(given_keys), side=side)
    steps = planned_steps(Draws(torch.tensor(given_keys)), names=NAMES, most=most)
    memory_format = getattr(torch, layout)
    kept = images.contiguous(memory_format=memory_format)
    made = image_by_image(kept, steps, NAMES)
    assert torch.equal(made, all_at_once(images, steps, NAMES))
    assert torch.equal(kept, images)
    assert made.is_contiguous(memory_format=memory_format)


def test_opencv_has_its_threads_again_whatever_happens() -> None:
    threads = cv2.getNumThreads()
    with suppress(KeyError), on_cpu.one_thread():
        assert cv2.getNumThreads() == 1
        raise KeyError
    assert cv2.getNumThreads() == threads


def test_operations_are_drawn_evenly_and_done_half_of_the_time() -> None:
    steps = planned_steps(Draws(torch.arange(30_000)), names=NAMES, most=2)
    done = np.stack([step.operations >= 0 for step in steps])
    assert abs(done.mean() - 0.5) < 0.01
    assert abs((done.sum(axis=0) == 0).mean() - 0.25) < 0.01  # training.md: none of two with 1/4
    assert abs((done.sum(axis=0) == 2).mean() - 0.25) < 0.01
    counts = Counter(np.concatenate([step.operations for step in steps]).tolist())
    assert all(abs(counts[at] / 60_000 - 1 / 30) < 0.004 for at in range(15))
    units = np.concatenate([step.units for step in steps])
    assert np.abs(units.mean(axis=0) - 0.5).max() < 0.01
    assert abs(np.corrcoef(*(step.operations[done[1]] for step in steps))[0, 1]) < 0.04


def test_bits_kept_are_4_to_8_alike() -> None:
    low, high = OPERATIONS["posterize"][0]
    bits = np.floor(low + Draws(torch.arange(10_000)).uniform("a").double().numpy() * (high - low))
    numbers, counts = np.unique(bits, return_counts=True)
    assert numbers.tolist() == [4, 5, 6, 7, 8]
    assert np.abs(counts / 10_000 - 0.2).max() < 0.02


@implementations
def test_sharpness_below_1_blurs(ours: Operation) -> None:
    """The order in which training.md has the variance of the Laplacian: it grows with the factor."""
    image = pictures(squares(9, count=1, side=64))[0]
    spreads = [ours("sharpness", image, [factor]).astype(float).std() for factor in (0.1, 1.0, 1.9)]
    assert spreads[0] < spreads[1] < spreads[2]
