"""A sweep and plain evaluations of the same tiles in one process: ``python -m tests.benchmarks.sweeping``.

Prints its figures as JSON. A small network with fresh weights; what is the same for both, such as starting
and writing tables, is not counted.
"""

import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.pipeline.images import parquet_of_images
from wsi_pipeline.evaluate.observer import SilentAskObserver
from wsi_pipeline.evaluate.shift_config import sweeps_of
from wsi_pipeline.evaluate.sweep_answers import Question, question_of
from wsi_pipeline.evaluate.sweeping import Images, Pass, Pieces, sweep_cut
from wsi_pipeline.geometry import Size
from wsi_pipeline.loader.dataset import TileDataLoader
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.slides.drawn import draw_slide
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles
from wsi_pipeline.train.config import TrainConfig
from wsi_pipeline.train.model import make_model
from wsi_pipeline.train.model_config import ModelConfig
from wsi_pipeline.train.peers import Peers, device_of

NETWORK = "test_efficientnet"
SIZES = {"stored": (512, 224), "small": (96, 96)}
"""Sides of tiles and of images."""

_BATCH = 16


def main(size: str, tiles: int) -> dict[str, float | str]:
    """Return milliseconds a tile of all levels, once by a sweep and once by plain evaluations."""
    torch.set_num_threads(1)
    tile_px, image_px = SIZES[size]
    questions = tuple(
        dict.fromkeys(
            question_of(sweep.shift, "source", level)
            for sweep in sweeps_of(("box_blur", "sharpen"))
            for level in sweep.levels
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        run = _run(Path(folder), tile_px, tiles)
        plain = len(questions) * _seconds(run, (Question(apply_at="source"),), image_px, image_px)
        return {
            "plain_ms": 1e3 * plain / tiles,
            "sweep_ms": 1e3 * _seconds(run, questions, None, image_px) / tiles,
            "device": device_of("auto").type,
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


def _seconds(
    run: Path, questions: tuple[Question, ...], load_px: int | None, image_px: int
) -> float:
    """Return the time for all tiles; a first pass over them is not counted."""
    device = device_of("auto")
    network = make_model(ModelConfig(name=NETWORK, image_px=image_px), 2).eval().to(device)
    tiles = TileLoader(
        run, world=World(), batch_size=_BATCH, shuffle=False, image_px=load_px, threads=1
    )
    asking = Pass(
        asks={"net": network},
        images=Images(network, tiles, load_px=image_px, device=device),
        questions=questions,
        config=TrainConfig(),
        peers=Peers(world=World(), device=device),
        observer=SilentAskObserver(),
    )
    cut = sweep_cut(len(tiles.rows), _BATCH)
    taken = []
    for key in ("first", "second"):
        began = time.perf_counter()
        asking.ask(TileDataLoader(tiles), Pieces(above=run / key, key=key, cut=cut))
        taken.append(time.perf_counter() - began)
    return taken[-1]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
