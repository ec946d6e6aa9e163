"""Networks asked of the same tiles at many levels of many changes: decoded once, changed on the device.

What comes back is kept in pieces as it comes, so that a pass that is cut off goes on after the last one, and
memory holds one piece however many tiles there are.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.policy import resized
from wsi_pipeline.evaluate.shift_config import Place
from wsi_pipeline.evaluate.shifts import sharpness, shifted
from wsi_pipeline.files import exists, publish_bytes, read_bytes, remove_tree
from wsi_pipeline.loader.averaging import area_weights, averaged
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.decode import image_into
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.learner import enough_memory
from wsi_pipeline.train.model import Network
from wsi_pipeline.train.peers import Peers

Ask: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""uint8 images, or prepared ones, to logits ``(B,)`` or ``(B, C)``."""

Told: TypeAlias = Callable[[int, int], None]
"""Is called with how many tiles are done, and of how many."""

PIECE_TILES = 4096
"""Tiles of a piece, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One level of one change at one place; the clean level is the same of every change."""

    apply_at: Place
    shift: str = ""
    """No change if empty."""
    level: float = 0.0


class Images:
    """What networks are given of a batch of tiles, changed or not.

    Without a change it is what the plain evaluation gives them, to the bit: averaged where that does it, by
    the same function.
    """

    def __init__(
        self, network: Network, tiles: TileLoader, *, load_px: int, device: torch.device
    ) -> None:
        """Take how images were made in training.

        Parameters
        ----------
        network
            One of those asked: all of them take images of one size and stain.
        tiles
            Whole tiles, or those of ``load_px`` already.
        load_px
            To what side tiles were averaged when they were loaded.
        device
            Where images are changed.
        """
        self._network = network
        self._device = device
        self._tile_px, self._load_px = tiles.image_px, load_px
        self._decodes = tiles.config.decoder == "cuda"
        weights = area_weights(self._tile_px, load_px)
        self._weights = torch.from_numpy(weights).to(device)

    @property
    def wanted_on(self) -> torch.device:
        """Where a loader is to leave tiles: with the processor if that averages them, else on the device."""
        by_processor = self._tile_px > self._load_px and not self._decodes
        return torch.device("cpu") if by_processor else self._device

    def each(
        self, batch: TensorBatch, questions: Sequence[Question]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield what networks are given, and how sharp what was changed is, ``(B,)``, for every question."""
        plain = self._plain(batch.images)
        whole = batch.images.to(self._device)
        places = {"source": whole}
        for question in questions:
            if question.apply_at not in places:
                places[question.apply_at] = self._resized(plain)
            images = places[question.apply_at]
            if not question.shift:
                yield plain, sharpness(images)
                continue
            changed = shifted(images, question.shift, question.level, batch.keys)
            yield self._given(changed, question.apply_at), sharpness(changed)

    def _plain(self, images: torch.Tensor) -> torch.Tensor:
        """Return tiles as the loader of the plain evaluation gives them, on the device."""
        if self._decodes:
            return averaged(images.to(self._device), self._weights)
        return self._averaged_here(images).to(self._device)

    def _resized(self, plain: torch.Tensor) -> torch.Tensor:
        return resized(self._network.stained(plain), self._network.config.image_px)

    def _given(self, changed: torch.Tensor, apply_at: Place) -> torch.Tensor:
        if apply_at == "input":
            return self._network.prepared(changed)
        if self._device.type == "cpu":
            return self._averaged_here(changed)
        return averaged(changed, self._weights)

    def _averaged_here(self, images: torch.Tensor) -> torch.Tensor:
        """Return images averaged by OpenCV, as the loader averages them."""
        if self._tile_px == self._load_px:
            return images
        tiles = images.permute(0, 2, 3, 1).cpu().numpy()
        made = np.empty((len(tiles), self._load_px, self._load_px, 3), np.uint8)
        for out, tile in zip(made, tiles, strict=True):
            image_into(out, np.ascontiguousarray(tile))
        return torch.from_numpy(made).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What networks said of some tiles, in order of their rows."""

    rows: NDArray[np.int64]
    """Of the loader."""
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    """Variance of the Laplacian of what was changed, ``(questions, tiles)``."""
    logits: Mapping[str, NDArray[np.float32]]
    """By model, ``(questions, tiles)`` or ``(questions, tiles, C)``."""

    def to_bytes(self) -> bytes:
        """Return all of it as an .npz file."""
        arrays = {name: getattr(self, name) for name in _PLACES}
        arrays.update({f"{_LOGITS}{name}": each for name, each in self.logits.items()})
        content = BytesIO()
        np.savez(content, **{**arrays, "sharpness": self.sharpness})
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return what ``to_bytes`` was asked of."""
        with np.load(BytesIO(content)) as arrays:
            return cls(
                **{name: arrays[name] for name in (*_PLACES, "sharpness")},
                logits={
                    name.removeprefix(_LOGITS): arrays[name]
                    for name in arrays.files
                    if name.startswith(_LOGITS)
                },
            )


_PLACES = ("rows", "targets", "weights")
_LOGITS = "logits of "


class Pieces:
    """Answers in files of a folder, in order; they are those of one way of asking."""

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        """Take the folder and what decides the answers; answers of anything else are removed."""
        self._folder = folder
        self._asked = json.dumps(asked, indent=2, sort_keys=True, ensure_ascii=False).encode()

    def begin(self) -> int:
        """Return how many pieces are there."""
        about = self._folder / "asked.json"
        if not exists(about) or read_bytes(about) != self._asked:
            remove_tree(self._folder)
            publish_bytes(about, self._asked)
        count = 0
        while exists(self._path(count)):
            count += 1
        return count

    def add(self, number: int, heard: Heard) -> None:
        """Write a piece, whole or not at all."""
        publish_bytes(self._path(number), heard.to_bytes())

    def joined(self, count: int) -> Heard:
        """Return all of them as one."""
        parts = [Heard.from_bytes(read_bytes(self._path(number))) for number in range(count)]
        places = {name: np.concatenate([getattr(each, name) for each in parts]) for name in _PLACES}
        return Heard(
            **places,
            sharpness=np.concatenate([each.sharpness for each in parts], axis=1),
            logits={
                name: np.concatenate([each.logits[name] for each in parts], axis=1)
                for name in parts[0].logits
            },
        )

    def remove(self) -> None:
        """Remove them all."""
        remove_tree(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Several networks asked several questions of all tiles of a loader."""

    asks: Mapping[str, Ask]
    """By model, in evaluation mode."""
    images: Images
    questions: tuple[Question, ...]
    config: TrainConfig
    """Of one of them; says what to lower where memory is too little."""
    peers: Peers
    told: Told

    def heard(self, loader: TileDataLoader, pieces: Pieces) -> Heard:
        """Return the answers for all tiles; those that are there from an earlier pass are not asked again.

        Raises
        ------
        TrainError
            The device has too little memory, or another rank has ended.
        """
        tiles = loader.loader
        size = max(1, PIECE_TILES // tiles.config.batch_size)
        count = -(-len(tiles) // size)
        done = self.peers.word_of_first(pieces.begin() if self.peers.is_first else 0)
        loader.set_epoch(0)
        tiles.batch = min(len(tiles), done * size)
        with closing(iter(loader)) as batches:  # type: ignore[type-var]
            for number in range(done, count):
                heard = self._piece(islice(batches, size))
                if self.peers.is_first:
                    pieces.add(number, heard)
                asked = (number + 1) * size * tiles.config.batch_size
                self.told(min(len(tiles.rows), asked), len(tiles.rows))
        self.peers.most(0)  # the first has written
        return pieces.joined(count)

    def _piece(self, batches: Iterable[TensorBatch]) -> Heard:
        with torch.inference_mode(), enough_memory(self.config):
            found = [self._of(batch) for batch in batches]
        own = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        gathered = self.peers.gather(own)  # the tile is the first axis of each
        kept = np.flatnonzero(gathered["rows"] >= 0)
        order = kept[np.argsort(gathered["rows"][kept], kind="stable")]
        whole = {name: each[order] for name, each in gathered.items()}
        return Heard(
            **{name: whole[name] for name in _PLACES},
            sharpness=whole["sharpness"].T,
            logits={name: np.swapaxes(whole[f"{_LOGITS}{name}"], 0, 1) for name in self.asks},
        )

    def _of(self, batch: TensorBatch) -> dict[str, NDArray[Any]]:
        """Return what is said of a batch; the first axis is the tile, the second the question."""
        logits: dict[str, list[torch.Tensor]] = {name: [] for name in self.asks}
        sharp = []
        for given, sharpness_of in self.images.each(batch, self.questions):
            sharp.append(sharpness_of)
            for name, ask in self.asks.items():
                logits[name].append(ask(given).float())
        stacked = {f"{_LOGITS}{name}": torch.stack(each, dim=1) for name, each in logits.items()}
        stacked["sharpness"] = torch.stack(sharp, dim=1).float()
        return {
            **{name: each.cpu().numpy() for name, each in stacked.items()},
            "rows": batch.rows.cpu().numpy(),
            "weights": batch.weights.cpu().numpy(),
            "targets": _targets(batch),
        }


def _targets(batch: TensorBatch) -> NDArray[np.int64]:
    given = torch.full_like(batch.rows, -1) if batch.targets is None else batch.targets
    return np.asarray(given.cpu().numpy(), np.int64)


def said_of(questions: Iterable[Question]) -> list[dict[str, Any]]:
    """Return questions as JSON has them."""
    return [asdict(each) for each in questions]
