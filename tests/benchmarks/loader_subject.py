"""Runs to load from: tiles of tissue in shards, and the same bytes as single files; made once."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.benchmarks.peers import PLACE
from tests.benchmarks.subjects import seamless_tissue
from wsi_pipeline.config import TileConfig
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.store.layout import SHARD_TILES, ArrayLayout
from wsi_pipeline.store.writer import checksum, open_group, publish_array, write_shard

CODEC = "jpeg:90"
SLIDE_TILES = 7_840
"""Tiles of each slide of the large runs: 98 x 80; 600 of them are 4.7 million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Tiles of one size."""

    tile_size: int
    tiles: int

    @property
    def folder(self) -> Path:
        """Where it is: ``RUN``, and ``images/0/N.jpg`` with the same bytes."""
        return PLACE / f"loader-{self.tile_size}-{self.tiles}"


def made(subject: Subject) -> Path:
    """Return the folder of a subject."""
    if not subject.folder.exists():
        PLACE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            _write(Path(folder) / "whole", subject)
            (Path(folder) / "whole").rename(subject.folder)
    return subject.folder


def _write(folder: Path, subject: Subject) -> None:
    images = folder / "images" / "0"
    images.mkdir(parents=True)
    tissue = seamless_tissue()
    rng = np.random.default_rng(1)
    side = subject.tile_size
    chunks = []
    for number in range(subject.tiles):
        y, x = (int(rng.integers(0, length - side)) for length in tissue.shape[:2])
        chunks.append(encode_tile(np.ascontiguousarray(tissue[y : y + side, x : x + side]), CODEC))
        (images / f"{number:06d}.jpg").write_bytes(chunks[-1])
    write_run(folder / "RUN", chunks, tile_size=side, slides=1)


def write_run(folder: Path, chunks: list[bytes], *, tile_size: int, slides: int) -> None:
    """Write a run of so many slides that all have these tiles; their arrays are one, by links."""
    config = TileConfig(tile_size=tile_size, codec=CODEC)
    (folder / "manifest").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": config.model_dump(mode="json")}))
    store = folder / "tiles.zarr"
    open_group(store)
    first = store / "slide_0000"
    for shard in range(-(-len(chunks) // SHARD_TILES)):
        write_shard(first, shard, chunks[shard * SHARD_TILES : (shard + 1) * SHARD_TILES])
    publish_array(first, ArrayLayout(tiles=len(chunks), tile_size=tile_size, codec=CODEC))
    sums = pa.array([checksum(chunk) for chunk in chunks], pa.uint32())
    for number in range(slides):
        name = f"slide_{number:04d}"
        if number:
            (store / name).symlink_to(first.name)
        rows = _manifest(name, len(chunks)).append_column("crc32c", sums)
        pq.write_table(rows, folder / "manifest" / f"{name}.parquet")


def _manifest(slide_id: str, tiles: int) -> pa.Table:
    words = {"slide_id": slide_id, "status": "ok", "split": "train"}
    columns = {
        name: pa.DictionaryArray.from_arrays(_zeros(tiles), pa.array([word]))
        for name, word in words.items()
    }
    label = (np.arange(tiles) % 10 == 0).astype(np.int32)
    columns["label"] = pa.DictionaryArray.from_arrays(
        pa.array(label), pa.array(["benign", "cancer"])
    )
    return pa.table({**columns, "tile": pa.array(np.arange(tiles, dtype=np.int32))})


def _zeros(count: int) -> NDArray[np.int32]:
    return np.zeros(count, np.int32)


def large_run(tiles: int) -> Path:
    """Return a run of about so many tiles of 256 px, all slides with the same pixels; made once."""
    slides = max(1, round(tiles / SLIDE_TILES))
    run = PLACE / f"loader-large-{slides}"
    if not run.exists():
        base = made(Subject(tile_size=256, tiles=2_000)) / "images" / "0"
        chunks = [path.read_bytes() for path in sorted(base.iterdir())]
        repeated = [chunks[number % len(chunks)] for number in range(SLIDE_TILES)]
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            write_run(Path(folder) / "RUN", repeated, tile_size=256, slides=slides)
            (Path(folder) / "RUN").rename(run)
    return run
