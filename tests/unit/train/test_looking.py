"""Several questions about the same tiles: each gets what it would get alone, and tiles are decoded once."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")

import torch

from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.looking import one_pass
from wsi_pipeline.train.prediction_table import NO_TARGET

CPU = torch.device("cpu")
Tensor: TypeAlias = Any


def batches(count: int, *, labelled: bool = True) -> list[TensorBatch]:
    """Return batches of four images; the last of each only fills it up."""
    drawn = torch.Generator().manual_seed(3)
    made = []
    for number in range(count):
        rows = torch.tensor([3 * number, 3 * number + 1, 3 * number + 2, -1])
        made.append(
            TensorBatch(
                epoch=0,
                number=number,
                images=torch.randint(0, 256, (4, 3, 2, 2), generator=drawn, dtype=torch.uint8),
                targets=rows % 2 if labelled else None,
                weights=(rows >= 0).float(),
                rows=rows,
                tiles=rows.int(),
                slide_ids=("a",) * 4,
                keys=rows,
                columns={},
            )
        )
    return made


def mean(images: Tensor) -> Tensor:
    return images.double().mean((1, 2, 3))


def two(images: Tensor) -> Tensor:
    return torch.stack([mean(images), -mean(images)], dim=1)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_every_question_gets_what_it_gets_alone(count: int) -> None:
    config = TrainConfig()
    both = one_pass({"one": mean, "two": two}, batches(count), device=CPU, config=config)
    for name, ask in (("one", mean), ("two", two)):
        alone = one_pass({name: ask}, batches(count), device=CPU, config=config)
        np.testing.assert_array_equal(both.logits[name], alone.logits[name])
        expected = torch.cat([ask(batch.images) for batch in batches(count)]).float().numpy()
        np.testing.assert_array_equal(both.logits[name], expected)
    assert both.logits["two"].dtype == np.float32
    assert both.rows.tolist() == torch.cat([each.rows for each in batches(count)]).tolist()


def test_batches_are_gone_through_once_whatever_is_asked() -> None:
    seen = []

    def once() -> Iterator[TensorBatch]:
        for batch in batches(5):
            seen.append(batch.number)
            yield batch

    one_pass({"one": mean, "two": two, "three": mean}, once(), device=CPU, config=TrainConfig())
    assert seen == [0, 1, 2, 3, 4]


def test_tiles_of_a_loader_without_a_target_have_none() -> None:
    found = one_pass({"": mean}, batches(2, labelled=False), device=CPU, config=TrainConfig())
    assert set(found.targets.tolist()) == {NO_TARGET}
