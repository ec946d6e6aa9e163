"""Networks asked part by part: each tile is decoded once for all networks that take the same images."""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.evaluate.ask.part_files import Cut, stretches
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.looking import Ask, one_pass
from wsi_pipeline.train.model import Network


def weights_digest(network: Network) -> str:
    """Return 16 hexadecimal digits that change with any weight or batch statistic."""
    hashed = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(network.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTold:
    """What some networks say of the tiles of a part."""

    number: int
    logits: Mapping[str, NDArray[np.float32]] = field(repr=False)
    """By network, ``(tiles,)`` or ``(tiles, C)``."""


def parts_told(
    asks: Mapping[str, Ask],
    loader: TileDataLoader,
    wanted: Mapping[int, Sequence[str]],
    *,
    cut: Cut,
    device: torch.device,
    config: TrainConfig,
) -> Generator[PartTold]:
    """Yield parts one after another as they are asked for.

    Every batch is asked whole by one process, so that its logits have the same last digits however many
    processes share the parts.

    Parameters
    ----------
    asks
        By name of the network.
    loader
        Unshuffled, of all tiles, whatever rank this is.
    wanted
        Numbers of parts in order, and the networks that are asked for each.
    config
        Of a network; says what to lower where memory is too little.

    Raises
    ------
    TileError
        A tile cannot be decoded.
    TrainError
        The device has too little memory.
    """
    for numbers in stretches(list(wanted)):
        loader.set_epoch(0, cut.first_batch(numbers[0]))
        with closing(iter(loader)) as batches:
            for number in numbers:
                some = {name: asks[name] for name in wanted[number]}
                found = one_pass(some, islice(batches, cut.batches), device=device, config=config)
                kept = found.rows >= 0
                rows = cut.rows(number)
                if not np.array_equal(found.rows[kept], np.arange(rows.start, rows.stop)):
                    raise RuntimeError(f"part {number}: the loader gave other tiles than its own")
                logits = {name: each[kept] for name, each in found.logits.items()}
                yield PartTold(number=number, logits=logits)
