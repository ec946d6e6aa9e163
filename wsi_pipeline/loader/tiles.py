"""Tiles of runs as shuffled batches, decoded ahead by threads; needs no torch.

>>> from wsi_pipeline.loader.tiles import TileLoader
>>> loader = TileLoader("RUN", where="split == 'train'", target="label", batch_size=256)  # doctest: +SKIP
>>> for batch in loader:  # doctest: +SKIP
...     print(batch.images.shape, batch.targets)
"""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.config import differences, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import sweep, temporaries
from wsi_pipeline.loader.ahead import AheadConfig, read_ahead
from wsi_pipeline.loader.batch import Batch, Target, check_weight, target_of
from wsi_pipeline.loader.buffers import Allocate, Buffers
from wsi_pipeline.loader.config import LoaderConfig
from wsi_pipeline.loader.epoch import (
    Epoch,
    Planned,
    epoch_of,
    groups_of,
    keys_of_tiles,
    tiles_per_epoch,
)
from wsi_pipeline.loader.fetch import Fetched, fetch_ahead
from wsi_pipeline.loader.objects import LocalCache
from wsi_pipeline.loader.order import Batches, Mixing, mixing
from wsi_pipeline.loader.rows import READABLE, choose_rows
from wsi_pipeline.loader.skipping import Skipping, counted, stand_in
from wsi_pipeline.loader.slide_source import SlideTiles
from wsi_pipeline.loader.source import CHECKSUM, Problem, Source, StoredTiles
from wsi_pipeline.loader.world import World, processes_here, this_world
from wsi_pipeline.manifest import Where
from wsi_pipeline.remote import is_remote

WAITING_LOCAL, WAITING_REMOTE = 8, 24
"""Threads beside those that decode, at the most: a disk answers soon, an object store after 20 ms."""


NO_TILE = -1
"""Row and number of what only fills a batch up."""


class Place(Protocol):
    """Where a batch is, as ``Batch`` and its tensors say."""

    @property
    def epoch(self) -> int:
        """Number of the epoch."""
        ...

    @property
    def number(self) -> int:
        """Number of the batch in it."""
        ...


class TileLoader:
    """Batches of tiles in an order that depends on the settings alone.

    Iterating gives the rest of the current epoch and goes on to the next one. Memory of a batch is used again
    once nothing refers to it or to a part of it.
    """

    def __init__(
        self,
        runs: str | Path | Sequence[str | Path],
        *,
        where: Where | None = READABLE,
        world: World | None = None,
        **settings: Any,  # noqa: ANN401  of LoaderConfig, which checks them
    ) -> None:
        """Choose tiles; nothing but the manifests is read.

        Parameters
        ----------
        runs
            One run directory or its URL, or several.
        where
            Which tiles: words as ``pandas.DataFrame.query`` takes them, or an expression of
            ``pyarrow.compute``; by default those whose status is ok.
        world
            Which rank of how many this is; as torch.distributed, torchrun or srun say if not given.
        **settings
            Fields of ``LoaderConfig``; ``batch_size`` is needed.

        Raises
        ------
        ConfigError
            A run, a column or a setting is not what is expected, or no tile is left.
        """
        self.config = make_config(LoaderConfig, settings)
        self.world = this_world() if world is None else world
        if self.config.batch_size < self.world.ranks:
            raise ConfigError(
                f"batch_size: expected at least a tile for each of {self.world.ranks} ranks, got "
                f"{self.config.batch_size}; it counts the tiles of all ranks together"
            )
        self.rows = choose_rows(_several(runs), where=where, columns=_columns(self.config))
        self.epoch = 0
        self.batch = 0
        """Number of the next batch in the epoch."""
        self._target = self._target_of_rows()
        if self.config.weight is not None:
            check_weight(self.config.weight, self.rows.columns[self.config.weight])
        self._batches = self._batches_of_epoch()
        self._made_epoch: Epoch | None = None
        self._source: tuple[int, Source] | None = None
        self._buffers = Buffers()

    @property
    def classes(self) -> tuple[str, ...]:
        """Words of the target in order of their number."""
        return () if self._target is None else self._target.classes

    @property
    def image_px(self) -> int:
        """Side of the images."""
        return self.config.side_px(self.source().tile_size)

    def __len__(self) -> int:
        """Return how many batches an epoch has, on every rank the same."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the epoch, and begin the next one when it has ended.

        Raises
        ------
        TileError
            A tile cannot be decoded; with ``on_error="skip"``, more than the share allowed.
        """
        with closing(self.batches(self.epoch, first=self.batch)) as batches:
            for batch in batches:
                self.batch = batch.number + 1
                yield batch
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """Go to the beginning of an epoch, or to a batch of it."""
        self.epoch, self.batch = epoch, batch

    def batches(
        self,
        epoch: int,
        *,
        first: int = 0,
        world: World | None = None,
        shared: Allocate | None = None,
    ) -> Generator[Batch]:
        """Yield a worker's batches of an epoch from number ``first`` on; changes nothing of the loader.

        With ``shared``, images are in memory that it gives, which is not used again.
        """
        if self.config.decoder != "cpu":
            raise ConfigError(
                f"decoder: {self.config.decoder} gives batches by "
                "wsi_pipeline.loader.dataset.TileDataLoader alone; use that, or take cpu"
            )
        world = self.world if world is None else world
        ahead = self._ahead(world)
        if shared is not None:
            ahead = replace(ahead, buffers=Buffers(allocate=shared), reuse=False)
        made_ahead = read_ahead(
            self.source(),
            self._plans(epoch, first=first, world=world),
            side_px=self.image_px,
            config=ahead,
        )
        skipping = self._skipping(world)
        with closing(made_ahead):
            for made in made_ahead:
                skipping.judge(made.planned.number, len(made.images), made.problems)
                stand_in(made.images, made.problems)
                fields = self.fields_of(made.planned, made.problems, epoch=epoch)
                yield Batch(images=made.images.transpose(0, 3, 1, 2), **fields)

    def fetched(self, epoch: int, *, first: int = 0) -> Generator[Fetched]:
        """Yield this rank's batches of an epoch as they are stored, for a device that decodes them.

        Raises
        ------
        ConfigError
            The run stores no pixels.
        """
        source = self.stored()
        config = self._ahead(self.world)
        depth = config.depth(self.config.batch_size // self.world.ranks * source.tile_size**2 * 3)
        plans = self._plans(epoch, first=first, world=self.world)
        yield from fetch_ahead(source, plans, depth=depth, config=config)

    def stored(self) -> StoredTiles:
        """Return what reads stored tiles.

        Raises
        ------
        ConfigError
            The run stores no pixels.
        """
        source = self.source()
        if not isinstance(source, StoredTiles):
            raise ConfigError(
                "decoder: cuda: expected stored JPEG tiles, got a run with --store none; take cpu"
            )
        return source

    def skipping(self) -> Skipping:
        """Return what counts the tiles that this rank leaves out of an epoch."""
        return self._skipping(self.world)

    def fields_of(
        self, planned: Planned, problems: Sequence[Problem], *, epoch: int
    ) -> dict[str, Any]:
        """Return all fields of a ``Batch`` but its images."""
        counts = counted(planned, problems)
        rows = np.where(counts, planned.rows, NO_TILE)
        columns = self.rows.columns
        return {
            "epoch": epoch,
            "number": planned.number,
            "targets": None if self._target is None else self._target.of(planned.rows),
            "weights": self._weights(planned.rows) * counts,
            "rows": rows,
            "tiles": np.where(counts, self.rows.tile[planned.rows], np.int32(NO_TILE)),
            "slide_ids": tuple(
                self.rows.slide_id(row) if row >= 0 else "" for row in rows.tolist()
            ),
            "keys": keys_of_tiles(self.rows, planned, seed=self.config.seed, epoch=epoch),
            "columns": {name: columns[name].of(planned.rows) for name in self.config.columns},
            "problems": tuple(str(error) for _, error in problems),
        }

    def state_dict(self, after: Place | None = None) -> dict[str, Any]:
        """Return where the loader is, in a few numbers and words; after a batch, if one is given.

        Through a ``DataLoader`` batches are made ahead in other processes: give the last one that was used.
        """
        epoch, batch = (
            (self.epoch, self.batch) if after is None else (after.epoch, after.number + 1)
        )
        made_by = {**self.config.batches.model_dump(mode="json"), **self._made_by()}
        return {"epoch": epoch, "batch": batch, "made_by": made_by}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another loader was; the number of ranks and workers may be another one.

        Raises
        ------
        ConfigError
            It had other tiles or another order: the message shows what differs.
        """
        now = self.state_dict()["made_by"]
        if changed := differences(state["made_by"], now):
            raise ConfigError(
                f"the state is of a loader with other settings ({'; '.join(changed)}); use the same ones"
            )
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])

    def mixing(self, epoch: int = 0) -> dict[str, Mixing]:
        """Return how many distinct shards and slides a batch has, beside a full permutation's."""
        order = self._epoch(epoch).order
        size = self.config.batch_size
        every = {"shards": self.rows.shards, "slides": self.rows.array}
        return {name: mixing(groups, order, batch_size=size) for name, groups in every.items()}

    def source(self) -> Source:
        """Return what reads tiles, made once in every process: open files are not for a fork."""
        if self._source is None or self._source[0] != os.getpid():
            self._source = (os.getpid(), self._new_source())
        return self._source[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: all but what reads tiles."""
        return {**self.__dict__, "_source": None, "_buffers": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Begin in a process with no memory of batches."""
        self.__dict__.update(state, _buffers=Buffers())

    def _new_source(self) -> Source:
        if not self.rows.runs[0].stores_pixels:
            return SlideTiles(self.rows, self.config.decoding)
        cache = None
        if self.config.cache is not None:
            folder = Path(self.config.cache)
            sweep(temporaries(folder), unless_in_use=True)
            cache = LocalCache(folder=folder, most_bytes=self.config.cache_bytes)
        return StoredTiles(self.rows, self.config.decoding, cache=cache)

    def _ahead(self, world: World) -> AheadConfig:
        cores = len(os.sched_getaffinity(0)) // processes_here()
        threads = self.config.threads or max(1, cores // world.workers)
        remote = any(is_remote(run.path) for run in self.rows.runs)
        return AheadConfig(
            decoding=threads,
            waiting=WAITING_REMOTE if remote else WAITING_LOCAL,
            waits=remote,
            most_bytes=self.config.ahead_bytes // world.workers,
            buffers=self._buffers,
        )

    def _target_of_rows(self) -> Target | None:
        name = self.config.target
        if name is None:
            return None
        return target_of(name, self.rows.columns[name], self.config.classes)

    def _batches_of_epoch(self) -> Batches:
        """Return how epochs are cut; every one has as many tiles."""
        if self.config.balance:
            groups_of(self.rows.columns, self.config.balance)  # says now what is wrong with them
        tiles = tiles_per_epoch(self.rows, self.config)
        size, drop_last = self.config.batch_size, self.config.drop_last
        batches = Batches(tiles=tiles, batch_size=size, drop_last=drop_last)
        if not len(batches):
            raise ConfigError(
                f"drop_last: leaves no batch of {size} of {tiles} tiles; take a smaller batch_size"
            )
        return batches

    def _plans(self, epoch: int, *, first: int, world: World) -> Iterator[Planned]:
        order = self._epoch(epoch)
        return (order.planned(number, world) for number in order.batches.of(world, first=first))

    def _skipping(self, world: World) -> Skipping:
        share = self.config.most_skipped * self._batches.tiles
        allowed = int(share / (world.ranks * world.workers))
        return Skipping(stops=self.config.on_error == "stop", allowed=allowed)

    def _epoch(self, number: int) -> Epoch:
        if self._made_epoch is None or self._made_epoch.number != number:
            self._made_epoch = epoch_of(self.rows, self.config, number)
        return self._made_epoch

    def _made_by(self) -> dict[str, Any]:
        """Return what else decides which tile is where, and how its image is made."""
        return {
            "tiles": len(self.rows),
            "tiles_digest": self.rows.digest(),
            **self.config.decoding.model_dump(mode="json"),
        }

    def _weights(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.config.weight is None:
            return np.ones(len(rows), np.float32)
        return np.asarray(self.rows.columns[self.config.weight].values[rows], np.float32)


def _several(runs: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Return runs as a list; a remote path is neither a list nor one of pathlib's."""
    if isinstance(runs, Sequence) and not isinstance(runs, str):
        return list(runs)
    return [runs]


def _columns(config: LoaderConfig) -> list[str]:
    """Return the columns that the settings name, each once."""
    named = (*config.columns, *config.balance, config.target, config.weight)
    if config.decoder != "cpu":
        named = (*named, CHECKSUM)
    return list(dict.fromkeys(name for name in named if name is not None))
