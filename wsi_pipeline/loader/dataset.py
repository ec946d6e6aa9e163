"""Batches as tensors, and as the data set of a ``torch.utils.data.DataLoader``; alone in importing torch.

>>> from wsi_pipeline.loader.dataset import TileDataLoader
>>> from wsi_pipeline.loader.tiles import TileLoader
>>> loader = TileDataLoader(TileLoader("RUN", target="label", batch_size=256), workers=4)  # doctest: +SKIP
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from wsi_pipeline.loader.batch import Batch
from wsi_pipeline.loader.tiles import Place, TileLoader


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
        """Return the batch on a device, copied while the program goes on where its memory is pinned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Any) -> Self:  # noqa: ANN401  a function of tensors
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
    arrays = {name: getattr(batch, name) for name in _TENSORS}
    arrays["keys"] = batch.keys.view(np.int64)
    return TensorBatch(
        epoch=batch.epoch,
        number=batch.number,
        targets=None if batch.targets is None else torch.from_numpy(batch.targets),
        slide_ids=batch.slide_ids,
        columns={name: torch.from_numpy(values) for name, values in batch.columns.items()},
        problems=batch.problems,
        **{name: torch.from_numpy(values) for name, values in arrays.items()},
    )


class TileDataset(IterableDataset):
    """A loader's batches as a data set of whole batches: give it to ``DataLoader(…, batch_size=None)``.

    Worker ``w`` of ``W`` makes batches w, w + W, …, which a ``DataLoader`` gives in order: they are the same
    for any number of workers. They do not move the loader on in this process: call ``set_epoch``, or use
    ``TileDataLoader``, which does.
    """

    def __init__(self, loader: TileLoader) -> None:
        self.loader = loader
        self._place = torch.tensor([loader.epoch, loader.batch]).share_memory_()

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self.loader)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """Go to a batch of an epoch, in workers that live on as well."""
        self._place[0], self._place[1] = epoch, batch
        self.loader.epoch, self.loader.batch = epoch, batch

    def __iter__(self) -> Iterator[TensorBatch]:
        """Yield this worker's batches of the rest of the epoch."""
        epoch, first = self._place.tolist()
        worker = get_worker_info()
        if worker is None:
            yield from map(tensors_of, self.loader.batches(epoch, first=first))
            return
        cv2.setNumThreads(
            0
        )  # this process has its share of the cores; 1 waits for threads that no fork has
        world = self.loader.world.with_worker(worker.id, worker.num_workers)
        made = self.loader.batches(epoch, first=first, world=world, shared=_shared_memory)
        yield from map(tensors_of, made)


class TileDataLoader:
    """A ``DataLoader`` that knows where it is: iterating gives the rest of an epoch, then goes on."""

    def __init__(
        self,
        loader: TileLoader,
        *,
        workers: int = 0,
        **options: Any,  # noqa: ANN401  of DataLoader
    ) -> None:
        """Make worker processes, or with none of them use the loader's own threads, which copies nothing.

        Parameters
        ----------
        loader
            Which batches.
        workers
            Processes that read and decode.
        **options
            Of ``torch.utils.data.DataLoader``, such as ``pin_memory`` and ``prefetch_factor``.
        """
        self.loader = loader
        self._dataset = TileDataset(loader)
        self._batches = DataLoader(self._dataset, batch_size=None, num_workers=workers, **options)

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self.loader)

    def __iter__(self) -> Iterator[TensorBatch]:
        """Yield the rest of the epoch."""
        self._dataset.set_epoch(self.loader.epoch, self.loader.batch)
        for batch in self._batches:
            self.loader.batch = batch.number + 1
            yield batch
        self.loader.set_epoch(self.loader.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch."""
        self.loader.set_epoch(epoch)

    def state_dict(self, after: Place | None = None) -> dict[str, Any]:
        """Return where the last batch given out is, as ``TileLoader.state_dict``."""
        return self.loader.state_dict(after)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another loader was, as ``TileLoader.load_state_dict``."""
        self.loader.load_state_dict(state)


def _shared_memory(size_bytes: int) -> NDArray[np.uint8]:
    """Return memory that the main process sees: images are decoded into it and not copied to be sent."""
    memory: NDArray[np.uint8] = torch.empty(size_bytes, dtype=torch.uint8).share_memory_().numpy()
    return memory
