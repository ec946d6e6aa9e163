"""Batches as tensors, and as the data set of a ``torch.utils.data.DataLoader``.

>>> from wsi_pipeline.loader.dataset import TileDataLoader
>>> from wsi_pipeline.loader.tiles import TileLoader
>>> loader = TileDataLoader(TileLoader("RUN", target="label", batch_size=256), workers=4)  # doctest: +SKIP
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader import device as devices
from wsi_pipeline.loader.tensors import TensorBatch, tensors_of
from wsi_pipeline.loader.tiles import Place, TileLoader

__all__ = ["TensorBatch", "TileDataLoader", "TileDataset"]


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
        device: "torch.device | str | None" = None,
        change: Callable[[TensorBatch], TensorBatch] | None = None,
        **options: Any,  # noqa: ANN401  of DataLoader
    ) -> None:
        """Make worker processes, or with none of them use the loader's own threads, which copies nothing.

        Parameters
        ----------
        loader
            Which batches.
        workers
            Processes that read and decode; none where a device decodes, as it cannot be shared with them.
        device
            Where batches are wanted: they are copied there ahead of time, from pinned memory. Not given, they
            stay with the processor, or with ``decoder="cuda"`` are on the current CUDA device.
        change
            What is made of every batch where it is wanted, in the process that asks for it.
        **options
            Of ``torch.utils.data.DataLoader``, such as ``pin_memory`` and ``prefetch_factor``.

        Raises
        ------
        ConfigError
            There is no such device, or no decoder for it.
        """
        self.loader = loader
        self._decode: devices.Decode | None = None
        self._device: torch.device | None = None
        self._change = change
        if loader.config.decoder == "cuda":
            if workers:
                raise ConfigError(
                    f"workers: expected 0 with decoder cuda, got {workers}; a device is not shared with "
                    "worker processes"
                )
            self._device = devices.decoding_device(device)
            self._decode = devices.nvjpeg(self._device)
            loader.stored()  # says now that a run has no JPEG tiles
        elif device is not None:
            self._device = devices.device_of(device)
        self._dataset = TileDataset(loader)
        self._batches = DataLoader(self._dataset, batch_size=None, num_workers=workers, **options)

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self.loader)

    def __iter__(self) -> Generator[TensorBatch]:
        """Yield the rest of the epoch."""
        self._dataset.set_epoch(self.loader.epoch, self.loader.batch)
        with closing(self._rest()) as batches:
            for batch in batches:
                self.loader.batch = batch.number + 1
                yield batch if self._change is None else self._change(batch)
        self.loader.set_epoch(self.loader.epoch + 1)

    def _rest(self) -> Generator[TensorBatch]:
        if self._decode is not None and self._device is not None:
            yield from self._decoded_there(self._device, self._decode)
            return
        hosts = (batch for batch in self._batches)
        if self._device is None:
            yield from hosts
            return
        with closing(hosts):
            yield from devices.ahead_on(self._device, hosts, devices.copied_to(self._device))

    def _decoded_there(
        self, device: torch.device, decode: devices.Decode
    ) -> Generator[TensorBatch]:
        loader = self.loader
        put = devices.JpegsOn(loader, epoch=loader.epoch, device=device, decode=decode)
        with closing(loader.fetched(loader.epoch, first=loader.batch)) as hosts:
            yield from devices.ahead_on(device, hosts, put)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """Go to the beginning of an epoch, or to a batch of it."""
        self.loader.set_epoch(epoch, batch)

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
