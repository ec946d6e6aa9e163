"""Batches on a device, ready ahead of time: copied or decoded there while the network is busy with others.

A thread prepares them on a stream of its own, so the thread that computes waits for no copy and no decoder.
"""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from wsi_pipeline.errors import ConfigError, PipelineError
from wsi_pipeline.loader.averaging import area_weights, averaged
from wsi_pipeline.loader.decode import Decoding, decode_into
from wsi_pipeline.loader.fetch import Fetched
from wsi_pipeline.loader.source import Problem
from wsi_pipeline.loader.tensors import TensorBatch, tensor_batch
from wsi_pipeline.loader.tiles import TileLoader

DEVICE_AHEAD = 2
"""Batches that are ready on the device or being made, beside the one in use."""

OLDEST_TORCHCODEC = (0, 17)
"""Before, decoding could write into memory that other streams still read (its pull request 1634)."""

PIECE_BYTES = 1 << 28
"""Of whole images on the device at a time, before they are averaged."""

MOST_DIFFERENCE = 4.0
"""Grey levels, averaged over a tile, between two decoders: they differ in how colours are enlarged."""

_COMPARED = 4
"""Tiles of an epoch's first batch that the processor decodes too."""

_EXIF = re.compile(rb"\xff\xe1..Exif\0\0(?=.)", re.DOTALL)
_HEADER_BYTES = 1 << 16

Decode: TypeAlias = Callable[[list[torch.Tensor]], list[torch.Tensor]]
"""JPEG files, each ``(bytes,)`` uint8 in host memory, to images ``(3, height, width)`` uint8 on a device."""

_Host = TypeVar("_Host")


def device_of(named: "torch.device | str") -> torch.device:
    """Return the device that is meant; a CUDA device without a number is this process's current one.

    Raises
    ------
    ConfigError
        There is none.
    """
    device = torch.device(named)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device: there is no CUDA device here, got {named}; leave it out or take cpu"
        )
    return torch.device(
        "cuda", torch.cuda.current_device() if device.index is None else device.index
    )


def decoding_device(named: "torch.device | str | None") -> torch.device:
    """Return the CUDA device that decodes; this process's current one if none is named.

    Raises
    ------
    ConfigError
        There is none, or another kind is named.
    """
    device = torch.device("cuda" if named is None else named)
    if device.type != "cuda":
        raise ConfigError(f"decoder: cuda decodes on a CUDA device, got device {device}; take cpu")
    if not torch.cuda.is_available():
        raise ConfigError("decoder: cuda: there is no CUDA device here; take cpu")
    return device_of(device)


def nvjpeg(device: torch.device) -> Decode:
    """Return torchcodec's decoder of whole batches; it has finished when it returns.

    Raises
    ------
    ConfigError
        It is not installed, too old, or does not go with this torch.
    """
    asked = "decoder: cuda needs torchcodec 0.17 or newer: pip install 'wsi-pipeline[gpu]'"
    try:
        found = version("torchcodec")
    except PackageNotFoundError:
        raise ConfigError(f"{asked}; or take cpu") from None
    if tuple(map(int, found.split(".")[:2])) < OLDEST_TORCHCODEC:
        raise ConfigError(f"{asked}; {found} is installed")
    try:
        from torchcodec.decoders import decode_jpeg  # noqa: PLC0415  whoever decodes on the CPU goes without
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(f"{asked}; {found} cannot be loaded ({error})") from error
    return lambda files: decode_jpeg(files, mode="RGB", device=device)


def ahead_on(
    device: torch.device, hosts: Iterator[_Host], put: Callable[[_Host], TensorBatch]
) -> Generator[TensorBatch]:
    """Yield what ``put`` makes of each on a device, in order, a few ahead; ends its thread when it is closed.

    A batch's memory is not given to another one before the stream that took it over is done with it.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    thread = ThreadPoolExecutor(1, "device")

    def step() -> TensorBatch | None:
        with _on(stream):
            batch = next((put(host) for host in hosts), None)
        if stream is not None:
            stream.synchronize()
        return batch

    try:
        under_way = deque(thread.submit(step) for _ in range(DEVICE_AHEAD))
        while (batch := under_way.popleft().result()) is not None:
            under_way.append(thread.submit(step))
            if stream is not None:
                batch.record_stream(torch.cuda.current_stream(device))
            yield batch
    finally:
        thread.shutdown(wait=True, cancel_futures=True)


def _on(stream: Any) -> AbstractContextManager[Any]:  # noqa: ANN401  torch.cuda.Stream or None
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def copied_to(device: torch.device) -> Callable[[TensorBatch], TensorBatch]:
    """Return what copies a batch to a device, by way of memory that a CUDA device reads by itself."""
    if device.type != "cuda":
        return lambda batch: batch.to(device)
    return lambda batch: batch.pin_memory().to(device)


class JpegsOn:
    """Makes batches of one epoch from stored bytes on a device."""

    def __init__(
        self, loader: TileLoader, *, epoch: int, device: torch.device, decode: Decode
    ) -> None:
        self._loader = loader
        self._epoch = epoch
        self._device = device
        self._decode = decode
        self._source = loader.stored()
        self._skipping = loader.skipping()
        self._compared = False
        self._piece = max(1, PIECE_BYTES // (3 * self._source.tile_size**2))
        weights = area_weights(self._source.tile_size, loader.image_px)
        self._weights = torch.from_numpy(weights).to(device)

    def __call__(self, fetched: Fetched) -> TensorBatch:
        """Return a batch on the device.

        Raises
        ------
        TileError
            A tile cannot be decoded; with ``on_error="skip"``, more than the share allowed.
        PipelineError
            The device decodes to another picture than the processor.
        """
        planned = fetched.planned
        images, problems = self._decoded(fetched)
        self._skipping.judge(planned.number, len(fetched.data), problems)
        good = next(iter(images.values()))  # stands in for what could not be decoded
        whole = torch.stack([images.get(place, good) for place in range(len(fetched.data))])
        fields = self._loader.fields_of(planned, problems, epoch=self._epoch)
        batch = tensor_batch(whole.contiguous(memory_format=torch.channels_last), fields)
        return batch.to(self._device)

    def _decoded(self, fetched: Fetched) -> tuple[dict[int, torch.Tensor], list[Problem]]:
        """Return images, averaged, by their place, and what is wrong with the others."""
        problems = list(fetched.problems)
        bad = {place for place, _ in problems}
        places = [place for place in range(len(fetched.data)) if place not in bad]
        images: dict[int, torch.Tensor] = {}
        for begin in range(0, len(places), self._piece):
            found = self._whole(fetched, places[begin : begin + self._piece], problems)
            if found:
                small = averaged(torch.stack(list(found.values())), self._weights)
                images.update(zip(found, small, strict=True))
        return images, sorted(problems, key=lambda problem: problem[0])

    def _whole(
        self, fetched: Fetched, places: list[int], problems: list[Problem]
    ) -> dict[int, torch.Tensor]:
        """Return images as large as they are stored, and add to the problems."""
        data = [fetched.data[place] for place in places]
        found: dict[int, torch.Tensor] = {}
        files = packed(data, pinned=self._device.type == "cuda")
        for place, image in zip(places, self._each(files), strict=True):
            if isinstance(image, str):
                row = int(fetched.planned.rows[place])
                problems.append((place, self._source.problem(row, image)))
            else:
                found[place] = image
        if not self._compared:
            self._compare(fetched, found)
        return found

    def _each(self, files: list[torch.Tensor]) -> "list[torch.Tensor | str]":
        """Return every file's image, or why there is none; one call for all where all are well."""
        try:
            images: list[Any] = self._decode(files)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            images = [self._alone(file) for file in files]
        return [image if isinstance(image, str) else self._right(image) for image in images]

    def _alone(self, file: torch.Tensor) -> "torch.Tensor | str":
        try:
            return self._decode([file])[0]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            return f"its {len(file)} bytes cannot be decoded on {self._device} ({error})"

    def _right(self, image: torch.Tensor) -> "torch.Tensor | str":
        side_px = self._source.tile_size
        if tuple(image.shape) == (3, side_px, side_px):
            return image
        return f"expected 3 x {side_px} x {side_px}, got {' x '.join(map(str, image.shape))}"

    def _compare(self, fetched: Fetched, images: dict[int, torch.Tensor]) -> None:
        """Refuse a device that gives other pictures, or none, without saying so."""
        self._compared = bool(images)
        side_px = self._source.tile_size
        expected = np.empty((side_px, side_px, 3), np.uint8)
        for place, image in list(images.items())[:_COMPARED]:
            decode_into(
                expected, fetched.data[place], "jpeg", decoding=Decoding(), tile_size=side_px
            )
            got = image.permute(1, 2, 0).cpu().numpy()
            difference = float(np.abs(got.astype(np.int16) - expected).mean())
            if difference > MOST_DIFFERENCE:
                tile = self._source.problem(int(fetched.planned.rows[place]), "")
                raise PipelineError(
                    f"{str(tile).rstrip(': ')}: {self._device} decodes it {difference:.1f} grey levels away "
                    "from the processor; take decoder cpu"
                )


def packed(data: Sequence[bytes | memoryview], *, pinned: bool) -> list[torch.Tensor]:
    """Return files one after another in one piece of memory, each as a view of it.

    A mark of how a camera was held (EXIF), by which torchcodec would turn an image, is made unreadable: no
    other decoder here turns images.
    """
    ends = np.cumsum([0, *map(len, data)]).tolist()
    memory = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=pinned)
    view = memory.numpy()
    for begin, each in zip(ends, data, strict=False):
        view[begin : begin + len(each)] = np.frombuffer(each, np.uint8)
        if held := _EXIF.search(each, 0, _HEADER_BYTES):
            view[begin + held.end()] = 0  # of its order of bytes
    return [memory[begin:end] for begin, end in pairwise(ends)]
