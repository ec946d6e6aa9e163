"""Small pictures as other programs leave them, for the tests of import and export."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from PIL import Image

from wsi_pipeline.geometry import Rgb
from wsi_pipeline.store.reader import iterate_tiles

SIDE = 48


def pixels(number: int, *, side: int = SIDE) -> Rgb:
    """Return a tile-like picture, another for every number."""
    random = np.random.default_rng([5, number])
    coarse = random.integers(90, 230, (side // 8 + 1, side // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR))


def encoded(
    number: int, kind: str = "JPEG", *, mode: str = "RGB", side: int = SIDE, **how: int
) -> bytes:
    """Return that picture as a file of some kind."""
    target = io.BytesIO()
    Image.fromarray(pixels(number, side=side)).convert(mode).save(target, format=kind, **how)
    return target.getvalue()


def class_folders(folder: Path, counts: dict[str, int]) -> dict[str, bytes]:
    """Write LABEL/number.jpg as NCT-CRC has them and return the bytes by name, in order of name."""
    written = {}
    number = 0
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for _ in range(count):
            name = f"{label}/{number:04d}.jpg"
            written[name] = encoded(number, quality=80)
            (folder / name).write_bytes(written[name])
            number += 1
    return dict(sorted(written.items()))


def histoprep_slide(folder: Path, *, tiles: int, csv: bool = False, level: int = 1) -> list[bytes]:
    """Write what HistoPrep 2.0.5 writes of one slide and return its tiles in the order of its table."""
    (folder / "tiles").mkdir(parents=True)
    rows, written = [], []
    for number in range(tiles):
        x, y = number % 3 * 80, number // 3 * 80
        name = f"x{x}_y{y}_w96_h96.jpeg"
        written.append(encoded(number + 100 * len(folder.name), quality=80))
        (folder / "tiles" / name).write_bytes(written[-1])
        place = {"x": x, "y": y, "w": 96, "h": 96, "path": f"/gone/{folder.name}/tiles/{name}"}
        measured = {"background": 0.25, "gray_mean": 1.0, "laplacian_std": 3.5}
        rows.append({**place, **measured})
    properties = {"num_tiles": tiles, "level": level, "level_downsample": [2.0, 2.0], "width": 96}
    (folder / "properties.json").write_text(json.dumps(properties))
    for name in ("thumbnail.jpeg", "thumbnail_tiles.jpeg", "thumbnail_tissue.jpeg"):
        (folder / name).write_bytes(encoded(7, side=64))
    table = pa.Table.from_pylist(rows)
    if csv:
        pacsv.write_csv(table, folder / "metadata.csv")
    else:
        pq.write_table(table, folder / "metadata.parquet")
    return written


def parquet_of_images(
    path: Path, images: list[bytes | None], *, row_group_size: int = 7, **columns: list[Any]
) -> None:
    """Write a Parquet file with a column ``jpeg`` of encoded images, and others."""
    table = pa.table({**columns, "jpeg": pa.array(images, type=pa.binary())})
    pq.write_table(table, path, row_group_size=row_group_size)


def stored_bytes(run: Path, slide_id: str) -> list[bytes | None]:
    """Return the encoded tiles of an array, straight from its shards."""
    rows = pq.read_table(run / "manifest" / f"{slide_id}.parquet", partitioning=None).num_rows
    tiles = iterate_tiles(run / "tiles.zarr" / slide_id, tiles=rows)
    return [chunk if isinstance(chunk, bytes) else None for _, chunk in tiles]
