"""A sweep and plain evaluations of the same tiles in one process: ``python -m tests.benchmarks.sweeping``.

Prints its figures as JSON. A small network with fresh weights; what is the same for both, such as starting
and writing tables, is not counted.
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.pipeline.images import parquet_of_images
from wsi_pipeline.evaluate.ask.observer import SilentAskObserver
from wsi_pipeline.evaluate.ask.part_files import PartFiles
from wsi_pipeline.evaluate.sweep.answers import Level, level_of
from wsi_pipeline.evaluate.sweep.shift_config import sweeps_of
from wsi_pipeline.evaluate.sweep.sweeping import Images, SweepPass, sweep_cut
from wsi_pipeline.geometry import Size
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.slides.drawn import draw_slide
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.looking import one_pass
from wsi_pipeline.train.model import Network, make_model
from wsi_pipeline.train.model_config import ModelConfig
from wsi_pipeline.train.peers import Peers, device_of

NETWORK = "test_efficientnet"
SIZES = {"stored": (512, 224), "small": (96, 96)}
"""Sides of tiles and of images."""

_BATCH = 16


def main(size: str, tiles: int) -> dict[str, float]:
    """Return milliseconds a tile of all levels, once by a sweep and once by plain evaluations."""
    torch.set_num_threads(1)
    tile_px, image_px = SIZES[size]
    levels = tuple(
        dict.fromkeys(
            level_of(sweep.shift, "source", level)
            for sweep in sweeps_of(("box_blur", "sharpen"))
            for level in sweep.levels
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        run = _run(Path(folder), tile_px, tiles)
        network = _network(image_px)
        plain = len(levels) * _second(lambda _: _plain(run, network, image_px))
        swept = _second(lambda key: _swept(run, network, image_px, levels, key))
        return {
            "plain_ms": 1e3 * plain / tiles,
            "sweep_ms": 1e3 * swept / tiles,
        }


def _run(folder: Path, tile_px: int, tiles: int) -> Path:
    slide = draw_slide(Size(width=4 * tile_px, height=tile_px), seed=1).rgb
    images: list[bytes | None] = []
    for number in range(tiles):
        target = io.BytesIO()
        tile = np.roll(slide, 37 * number, axis=1)[:, :tile_px]
        Image.fromarray(tile).save(target, format="JPEG", quality=90)
        images.append(target.getvalue())
    parquet_of_images(folder / "tiles.parquet", images, label=["a"] * tiles)
    import_tiles(folder / "tiles.parquet", folder / "RUN", ImportConfig())
    return folder / "RUN"


def _network(image_px: int) -> Network:
    network = make_model(ModelConfig(name=NETWORK, image_px=image_px), 2)
    network.to(device_of("auto")).eval()
    return network


def _second(work: Callable[[str], None]) -> float:
    """Return what the second of two times takes."""
    taken = []
    for key in ("first", "second"):
        began = time.perf_counter()
        work(key)
        taken.append(time.perf_counter() - began)
    return taken[-1]


def _plain(run: Path, network: Network, image_px: int) -> None:
    loader = TileDataLoader(_tiles(run, image_px))
    one_pass({"net": network}, loader, device=device_of("auto"), config=TrainConfig())


def _swept(run: Path, network: Network, image_px: int, levels: tuple[Level, ...], key: str) -> None:
    device, tiles = device_of("auto"), _tiles(run, None)
    asking = SweepPass(
        asks={"net": network},
        images=Images(network, tiles, load_px=image_px, device=device),
        levels=levels,
        config=TrainConfig(),
        peers=Peers(world=World(), device=device),
        observer=SilentAskObserver(),
    )
    cut = sweep_cut(len(tiles.rows), _BATCH)
    asking.ask(TileDataLoader(tiles), PartFiles(above=run / key, key=key, cut=cut))


def _tiles(run: Path, load_px: int | None) -> TileLoader:
    return TileLoader(
        run, world=World(), batch_size=_BATCH, shuffle=False, image_px=load_px, threads=1
    )


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
