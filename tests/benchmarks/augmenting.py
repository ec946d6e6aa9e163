"""One side of the augmentation benchmark in a process of its own: ``python -m tests.benchmarks.augmenting``.

Prints its figures as JSON. One thread; batches of 64 uint8 images of 224 px; a first batch is not counted.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.references import pillow_operations
from wsi_pipeline.augment.config import OPERATIONS, AugmentConfig
from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.policy import Augmenter, normalised
from wsi_pipeline.augment.uniform import uniform_augmented
from wsi_pipeline.geometry import Size
from wsi_pipeline.slides.drawn import draw_slide

BATCH, SIDE_PX = 64, 224


def main(side: str, batches: int) -> dict[str, float]:
    """Return milliseconds an image of CPU and of the clock."""
    torch.set_num_threads(1)
    change = _sides()[side]
    change(0)
    start, cpu = time.perf_counter(), time.process_time()
    for number in range(1, batches + 1):
        change(number)
    images = batches * BATCH
    return {
        "cpu_ms": 1e3 * (time.process_time() - cpu) / images,
        "wall_ms": 1e3 * (time.perf_counter() - start) / images,
    }


def step(batches: int, *, device: str, network: str, batch: int) -> dict[str, float]:
    """Return milliseconds a batch of random changes, and of a step of a network that learns from them.

    The step is forward, backward and AdamW in bfloat16, channels last, on a batch that lies on the device.
    """
    images = torch.from_numpy(_images()).permute(0, 3, 1, 2).repeat(-(-batch // BATCH), 1, 1, 1)
    images = images[:batch].to(device)
    model = timm.create_model(network, num_classes=1).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters())
    augment = Augmenter(AugmentConfig(), SIDE_PX)
    inputs = normalised(images, (0.5,) * 3, (0.25,) * 3).contiguous(
        memory_format=torch.channels_last
    )

    def learn(_: int) -> None:
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = model(inputs).square().mean()
        loss.backward()
        optimiser.step()

    def change(number: int) -> None:
        augment(images, torch.arange(number * batch, (number + 1) * batch))

    return {
        "augment_ms": _each_ms(change, batches, device=device),
        "step_ms": _each_ms(learn, batches, device=device),
    }


def _each_ms(work: Callable[[int], object], batches: int, *, device: str) -> float:
    """Return what each call takes until the device is done; the first three are not counted."""
    for number in range(3):
        work(number)
    _wait(device)
    start = time.perf_counter()
    for number in range(3, batches + 3):
        work(number)
    _wait(device)
    return 1e3 * (time.perf_counter() - start) / batches


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _sides() -> dict[str, Callable[[int], object]]:
    """Return what changes a batch, by its number."""
    images = _images()
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last, as a loader gives them
    pictures = [Image.fromarray(image) for image in images]
    whole = Augmenter(AugmentConfig(), SIDE_PX)
    return {
        "ours": lambda number: uniform_augmented(
            tensors, Draws(_keys(number)), names=tuple(OPERATIONS), most=2
        ),
        "policy": lambda number: whole(tensors, _keys(number)),
        "pillow": lambda number: pillow_operations.augmented_batch(
            images, np.random.default_rng(number)
        ),
        "pillow_alone": lambda number: [
            pillow_operations.uniform_augmented(picture, np.random.default_rng((number, at)))
            for at, picture in enumerate(pictures)
        ],
    }


def _keys(number: int) -> torch.Tensor:
    return torch.arange(number * BATCH, (number + 1) * BATCH)


def _images() -> NDArray[np.uint8]:
    """Return squares of drawn tissue."""
    slide = draw_slide(Size(width=8 * SIDE_PX, height=8 * SIDE_PX), seed=1).rgb
    parts = slide.reshape(8, SIDE_PX, 8, SIDE_PX, 3).swapaxes(
        1, 2
    )  # (row, column, height, width, 3)
    return np.ascontiguousarray(parts.reshape(BATCH, SIDE_PX, SIDE_PX, 3))


if __name__ == "__main__":
    side, batches = sys.argv[1], int(sys.argv[2])
    if side == "step":
        figures = step(batches, device="cuda", network="efficientnet_b0", batch=256)
    else:
        figures = main(side, batches)
    print(json.dumps(figures))  # noqa: T201
