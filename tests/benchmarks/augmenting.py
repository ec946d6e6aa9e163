"""One side of the augmentation benchmark in a process of its own: ``python -m tests.benchmarks.augmenting``.

Prints its figures as JSON. One thread; batches of 64 uint8 images of 224 px; a first batch is not counted.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.references import pillow_operations
from wsi_pipeline.augment.config import OPERATIONS, AugmentConfig
from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.policy import Augmenter
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


def _sides() -> dict[str, Callable[[int], object]]:
    """Return what changes a batch, by its number."""
    images = _images()
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last, as a loader gives them
    planes = tensors.contiguous()
    pictures = [Image.fromarray(image) for image in images]
    whole = Augmenter(AugmentConfig(), SIDE_PX)
    return {
        "ours": lambda number: uniform_augmented(
            planes, Draws(_keys(number)), names=tuple(OPERATIONS), most=2
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
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
