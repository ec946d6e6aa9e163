"""A batch as tensors."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import torch

from wsi_pipeline.loader.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorBatch:
    """A ``Batch`` whose arrays are tensors; see there for what each is."""

    epoch: int
    number: int
    images: torch.Tensor = field(repr=False)
    """``(B, C, H, W)`` uint8, ``torch.channels_last``."""
    targets: torch.Tensor | None = field(repr=False)
    weights: torch.Tensor = field(repr=False)
    rows: torch.Tensor = field(repr=False)
    tiles: torch.Tensor = field(repr=False)
    slide_ids: tuple[str, ...] = field(repr=False)
    keys: torch.Tensor = field(repr=False)
    """int64 with the bits of the unsigned ones: torch cannot count in those."""
    columns: Mapping[str, torch.Tensor] = field(repr=False)
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.images)

    def pin_memory(self) -> Self:
        """Return the batch in memory that a device reads by itself; ``DataLoader(pin_memory=True)`` asks."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: "torch.device | str") -> Self:
        """Return the batch on a device, copied while the program goes on where its memory is pinned.

        Keys stay where they are: what is done to images is planned by the processor.
        """
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(moved, keys=self.keys)

    def record_stream(self, stream: Any) -> None:  # noqa: ANN401  torch.cuda.Stream
        """Keep the memory of tensors on a CUDA device until what a stream was asked for so far is done."""
        for tensor in self._tensors():
            if tensor.is_cuda:
                tensor.record_stream(stream)

    def _tensors(self) -> Iterator[torch.Tensor]:
        yield from (getattr(self, name) for name in _TENSORS)
        yield from self.columns.values()
        if self.targets is not None:
            yield self.targets

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        tensors = {name: change(getattr(self, name)) for name in _TENSORS}
        return type(self)(
            epoch=self.epoch,
            number=self.number,
            targets=None if self.targets is None else change(self.targets),
            slide_ids=self.slide_ids,
            columns={name: change(tensor) for name, tensor in self.columns.items()},
            problems=self.problems,
            **tensors,
        )


_TENSORS = ("images", "weights", "rows", "tiles", "keys")


def tensors_of(batch: Batch) -> TensorBatch:
    """Return a batch as tensors of the same memory."""
    values = {each.name: getattr(batch, each.name) for each in fields(Batch)}
    return tensor_batch(torch.from_numpy(batch.images), values)


def tensor_batch(images: torch.Tensor, values: Mapping[str, Any]) -> TensorBatch:
    """Return a batch of images and the other fields of a ``Batch``, which stay where they are in memory."""
    arrays = {name: values[name] for name in _TENSORS if name != "images"}
    arrays["keys"] = arrays["keys"].view(np.int64)
    targets = values["targets"]
    columns = {name: torch.from_numpy(values) for name, values in values["columns"].items()}
    return TensorBatch(
        epoch=values["epoch"],
        number=values["number"],
        images=images,
        targets=None if targets is None else torch.from_numpy(targets),
        slide_ids=values["slide_ids"],
        columns=columns,
        problems=values["problems"],
        **{name: torch.from_numpy(values) for name, values in arrays.items()},
    )
