"""Networks asked of the same tiles at many levels of many changes: decoded once, changed on the device.

What comes back is kept in pieces as it comes, so that a pass that is cut off goes on after the last one.
While networks are asked memory holds one piece; at the end all logits of the pass, 4 bytes for each of tile,
level and network, and twice that while they are joined.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.policy import resized
from wsi_pipeline.evaluate.observer import AskObserver
from wsi_pipeline.evaluate.part_files import Cut, stretches
from wsi_pipeline.evaluate.shift_config import Place
from wsi_pipeline.evaluate.shifts import sharpness, shifted
from wsi_pipeline.evaluate.sweep_answers import Heard, Question
from wsi_pipeline.files import exists, names_below, publish_bytes, read_bytes, remove_tree
from wsi_pipeline.loader.averaging import area_weights, averaged
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.decode import image_into
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.remote import is_remote
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.learner import enough_memory
from wsi_pipeline.train.looking import Ask
from wsi_pipeline.train.model import Network
from wsi_pipeline.train.peers import Peers

PIECE_TILES = 4096
"""Tiles of a piece, about."""


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
class Pieces:
    """Answers in files of a folder, one for each piece of the tiles.

    Those of other questions, networks or tiles are in another folder: they never mix.
    """

    above: Path
    key: str
    """Digest of everything that changes an answer."""
    cut: Cut

    def begin(self) -> list[int]:
        """Remove what others have left; return the numbers of the pieces that are not there.

        Nobody else may be at work.
        """
        for name in _names(self.above):
            if not name.startswith(".") and name != self.key:
                remove_tree(self.above / name)
        there = set(_names(self.above / self.key))
        return [number for number in range(len(self.cut)) if self._path(number).name not in there]

    def add(self, number: int, heard: Heard) -> None:
        """Write a piece, whole or not at all."""
        publish_bytes(self._path(number), heard.to_bytes())

    def joined(self) -> Heard:
        """Return all of them as one."""
        paths = [self._path(number) for number in range(len(self.cut))]
        return Heard.joined([Heard.from_bytes(read_bytes(path)) for path in paths])

    def remove(self) -> None:
        """Remove them all."""
        remove_tree(self.above / self.key)

    def forget(self) -> None:
        """Remove the empty folders around them, once nobody holds a lease in them."""
        if is_remote(self.above):
            return
        for folder in (self.above / ".state" / "leases", self.above / ".state", self.above):
            with suppress(OSError):  # somebody has begun again meanwhile, or pieces are left
                folder.rmdir()

    def _path(self, number: int) -> Path:
        return self.above / self.key / f"{number:06d}.npz"


def sweep_cut(tiles: int, batch_size: int) -> Cut:
    """Return how tiles are cut into pieces of whole batches."""
    return Cut(tiles=tiles, batch_size=batch_size, batches=max(1, PIECE_TILES // batch_size))


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
    observer: AskObserver

    def ask(self, loader: TileDataLoader, pieces: Pieces) -> None:
        """Write the pieces that are not there yet, each rank its share.

        A batch is asked whole by one rank, so that logits have the same last digits however many there are.

        Parameters
        ----------
        loader
            Unshuffled, of all tiles, whatever rank this is.

        Raises
        ------
        TrainError
            The device has too little memory, or another rank has ended.
        """
        missing = self.peers.word_of_first(pieces.begin() if self.peers.is_first else None)
        share = missing[self.peers.world.share(len(missing))]
        tiles = {number: _length(pieces.cut.rows(number)) for number in missing}
        there = pieces.cut.tiles - sum(tiles.values())
        count = sum(tiles[number] for number in share)
        asked = f"{len(self.questions)} levels of each tile"
        self.observer.on_begin(list(self.asks), count, there=there, asked=asked)
        with closing(self._pieces(loader, share, pieces.cut)) as made:
            for _ in range(-(-len(missing) // self.peers.world.ranks)):
                if (piece := next(made, None)) is not None:
                    pieces.add(*piece)
                    self.observer.on_tiles(tiles[piece[0]])
                self.peers.most(0)  # one that has ended is noticed here, and none waits for long

    def _pieces(
        self, loader: TileDataLoader, numbers: Sequence[int], cut: Cut
    ) -> Generator[tuple[int, Heard]]:
        for stretch in stretches(list(numbers)):
            loader.set_epoch(0, cut.first_batch(stretch[0]))
            with closing(iter(loader)) as batches:
                for number in stretch:
                    yield number, self._piece(islice(batches, cut.batches), cut.rows(number))

    def _piece(self, batches: Iterable[TensorBatch], rows: slice) -> Heard:
        with torch.inference_mode(), enough_memory(self.config):
            found = [self._of(batch) for batch in batches]
        whole = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        kept = whole["rows"] >= 0
        if not np.array_equal(whole["rows"][kept], np.arange(rows.start, rows.stop)):
            raise RuntimeError(f"tiles {rows}: the loader gave others")
        return Heard(
            sharpness=whole["sharpness"][kept].T,
            logits={
                name: np.swapaxes(whole[f"logits of {name}"][kept], 0, 1) for name in self.asks
            },
        )

    def _of(self, batch: TensorBatch) -> dict[str, NDArray[Any]]:
        """Return what is said of a batch; the first axis is the tile, the second the question."""
        logits: dict[str, list[torch.Tensor]] = {name: [] for name in self.asks}
        sharp = []
        for given, sharpness_of in self.images.each(batch, self.questions):
            sharp.append(sharpness_of)
            for name, ask in self.asks.items():
                logits[name].append(ask(given).float())
        stacked = {f"logits of {name}": torch.stack(each, dim=1) for name, each in logits.items()}
        stacked["sharpness"] = torch.stack(sharp, dim=1).float()
        told = {name: each.cpu().numpy() for name, each in stacked.items()}
        return {**told, "rows": batch.rows.cpu().numpy()}


def _names(folder: Path) -> list[str]:
    return names_below(folder) if exists(folder) else []


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)
