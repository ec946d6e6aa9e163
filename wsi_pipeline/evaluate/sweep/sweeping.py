"""Networks asked of the same tiles at many levels of many changes: decoded once, changed on the device.

What comes back is kept in parts as it comes, so that a pass that is cut off goes on after the last one.
Memory holds one part.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.policy import resized
from wsi_pipeline.evaluate.ask.observer import AskObserver
from wsi_pipeline.evaluate.ask.part_files import Cut, PartFiles, stretches
from wsi_pipeline.evaluate.sweep.answers import Level
from wsi_pipeline.evaluate.sweep.shift_config import Place
from wsi_pipeline.evaluate.sweep.shifts import sharpness, shifted
from wsi_pipeline.loader.averaging import area_weights, averaged
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.decode import image_into
from wsi_pipeline.loader.tensors import TensorBatch
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.learner import enough_memory
from wsi_pipeline.train.looking import Ask
from wsi_pipeline.train.model import Network
from wsi_pipeline.train.peers import Peers

PART_TILES = 4096
"""Tiles of a part, about: fewer than of predictions, as each is asked at every level."""

Floats: TypeAlias = NDArray[np.float32]


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
        self, batch: TensorBatch, levels: Sequence[Level]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield what networks are given, and how sharp what was changed is, ``(B,)``, at every level."""
        plain = self._plain(batch.images)
        whole = batch.images.to(self._device)
        places = {"source": whole}
        for level in levels:
            if level.apply_at not in places:
                places[level.apply_at] = self._resized(plain)
            images = places[level.apply_at]
            if not level.shift:
                yield plain, sharpness(images)
                continue
            changed = shifted(images, level.shift, level.level, batch.keys)
            yield self._given(changed, level.apply_at), sharpness(changed)

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


def sweep_cut(tiles: int, batch_size: int) -> Cut:
    """Return how tiles are cut into parts of whole batches."""
    return Cut(tiles=tiles, batch_size=batch_size, batches=max(1, PART_TILES // batch_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPass:
    """Several networks asked of all tiles of a loader, at several levels."""

    asks: Mapping[str, Ask]
    """By model, in evaluation mode."""
    images: Images
    levels: tuple[Level, ...]
    config: TrainConfig
    """Of one of them; says what to lower where memory is too little."""
    peers: Peers
    observer: AskObserver

    def ask(self, loader: TileDataLoader, parts: PartFiles) -> None:
        """Write the parts that are not there yet, each rank its share.

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
        missing = self.peers.word_of_first(_begun(parts) if self.peers.is_first else None)
        share = missing[self.peers.world.share(len(missing))]
        tiles = {number: parts.cut.tiles_of(number) for number in missing}
        there = parts.cut.tiles - sum(tiles.values())
        count = sum(tiles[number] for number in share)
        asked = f"{len(self.levels)} levels of each tile"
        self.observer.on_begin(list(self.asks), count, there=there, asked=asked)
        with closing(self._parts(loader, share, parts.cut)) as made:
            for _ in range(-(-len(missing) // self.peers.world.ranks)):
                if (part := next(made, None)) is not None:
                    parts.write_columns(*part)
                    self.observer.on_tiles(tiles[part[0]])
                self.peers.most(0)  # one that has ended is noticed here, and none waits for long

    def _parts(
        self, loader: TileDataLoader, numbers: Sequence[int], cut: Cut
    ) -> Generator[tuple[int, dict[str, Floats]]]:
        for stretch in stretches(list(numbers)):
            loader.set_epoch(0, cut.first_batch(stretch[0]))
            with closing(iter(loader)) as batches:
                for number in stretch:
                    yield number, self._part(islice(batches, cut.batches), cut.rows(number))

    def _part(self, batches: Iterable[TensorBatch], rows: slice) -> dict[str, Floats]:
        with torch.inference_mode(), enough_memory(self.config):
            found = [self._of(batch) for batch in batches]
        places = np.concatenate([each for each, _ in found])
        kept = places >= 0
        if not np.array_equal(places[kept], np.arange(rows.start, rows.stop)):
            raise RuntimeError(f"tiles {rows}: the loader gave others")
        return {
            name: np.concatenate([said[name] for _, said in found])[kept] for name in found[0][1]
        }

    def _of(self, batch: TensorBatch) -> tuple[NDArray[np.int64], dict[str, Floats]]:
        """Return rows of a batch, and what is said of them by column of the parts."""
        said: dict[str, torch.Tensor] = {}
        made = self.images.each(batch, self.levels)
        for level, (given, sharp) in zip(self.levels, made, strict=True):
            said[level.sharpness] = sharp.float()
            for name, ask in self.asks.items():
                said[level.logits(name)] = ask(given).float()
        told = {name: each.cpu().numpy() for name, each in said.items()}
        return batch.rows.cpu().numpy(), told


def _begun(parts: PartFiles) -> list[int]:
    """Return the numbers of the parts that are not there, what others have left removed."""
    parts.begin()
    return parts.missing()
