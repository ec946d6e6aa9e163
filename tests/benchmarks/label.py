"""``python -m tests.benchmarks label``: shares of classes, and labels of a manifest of a million rows."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import tifffile

from tests.benchmarks.measure import Plan, Result, figures_of, judged
from tests.benchmarks.peers import PLACE
from tests.written_runs import Tiling, slide_record, slide_table, write_slides
from wsi_pipeline.config import TileConfig
from wsi_pipeline.files import make_folder
from wsi_pipeline.geometry import Box, Boxes, Size
from wsi_pipeline.labels.annotated import SlideFrame, annotated
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.manifest import manifest_files
from wsi_pipeline.schema import TILE_COLUMNS
from wsi_pipeline.stages.label import label_run
from wsi_pipeline.stages.run_directory import SlideRecord

SHAPES_BAR_S, ROWS_BAR_S, MEMORY_BAR_MIB = 10.0, 60.0, 4096.0
CORNERS = 60
"""Of a shape; QuPath's brush gives some 50 to 500."""

_COMMAND = "python -m tests.benchmarks label"
_STRIDE, _SIDE = 819, 1024
_WAVES = 8  # of an outline around its circle; a hand's tremble is added
_CLASSES = ("tumor", "stroma", "necrosis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is labelled."""

    shapes: int = 10_000
    across: int = 125
    down: int = 120
    """Tiles of a slide along both sides: 15 000."""
    slides: int = 128
    slide_across: int = 98
    slide_down: int = 80
    """Of each slide of the large manifest: 7840 tiles, 1 003 520 of 128."""
    mask_scale: int = 4
    """Level-0 pixels of a mask's pixel."""


QUICK = Load(shapes=300, across=20, down=15, slides=3, slide_across=10, slide_down=8, mask_scale=16)


def run(plan: Plan) -> Iterator[Result]:
    """Yield a result per figure."""
    load = QUICK if plan.quick else Load()
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        yield from (
            each for each in results(Path(folder), load, runs=plan.runs) if plan.wants(each.name)
        )


def results(folder: Path, load: Load, *, runs: int) -> Iterator[Result]:
    """Yield a result per figure, measured below a folder."""
    tiles = grid(load.across, load.down)
    shapes, mask = folder / "shapes.geojson", folder / "mask.tif"
    draw_shapes(shapes, load.shapes, tiles, seed=1)
    said = (
        f"{load.shapes} shapes of {CORNERS} corners in 3 classes, {len(tiles)} tiles of {_SIDE} px"
    )
    yield judged(
        "label: polygons",
        _cpu_s(shapes, tiles, runs),
        bar=SHAPES_BAR_S,
        unit="CPU s",
        command=_COMMAND,
        against=said,
    )
    outline = folder / "outline.geojson"
    draw_shapes(outline, 3, tiles, seed=2, corners=load.shapes * 10)
    said = f"3 shapes of {load.shapes * 10} corners over most of the slide, {len(tiles)} tiles"
    yield judged(
        "label: long outlines",
        _cpu_s(outline, tiles, runs),
        bar=None,
        unit="CPU s",
        command=_COMMAND,
        against=said,
    )
    mask_px = draw_mask(mask, frame_of(tiles).canvas0, load.mask_scale)
    said = f"{mask_px.width} x {mask_px.height} px, 3 classes, tiles of 512 px, deflate; {len(tiles)} tiles"
    yield judged(
        "label: mask",
        _cpu_s(mask, tiles, runs),
        bar=None,
        unit="CPU s",
        command=_COMMAND,
        against=said,
    )
    made = folder / "run"
    make_run(made, load)
    figures = [figures_of("label", str(made), str(folder / "drawings")) for _ in range(runs)]
    said = f"{load.slides} slides, {load.slides * load.slide_across * load.slide_down} rows; one process"
    wall_s = [each["wall_s"] for each in figures]
    yield judged(
        "label: a large manifest", wall_s, bar=ROWS_BAR_S, unit="s", command=_COMMAND, against=said
    )
    peaks = [each["peak_bytes"] / 2**20 for each in figures]
    yield judged(
        "label: memory", peaks, bar=MEMORY_BAR_MIB, unit="MiB", command=_COMMAND, against=said
    )


def _cpu_s(path: Path, tiles: Boxes, runs: int) -> list[float]:
    """Return CPU seconds from file to shares."""
    config = LabelConfig(mask_values={"tumor": (1,), "stroma": (2,), "necrosis": (3,)})
    taken = []
    for _ in range(runs):
        begun = time.process_time()
        found = annotated(path, tiles, frame_of(tiles), config)
        taken.append(time.process_time() - begun)
        if set(found.shares) != set(_CLASSES):
            raise RuntimeError(f"{path}: expected shares of all classes, got {list(found.shares)}")
    return taken


def frame_of(tiles: Boxes) -> SlideFrame:
    """Return the frame of a slide that ends with its last tiles."""
    ends = tiles[:, :2] + tiles[:, 2:]
    width, height = int(ends[:, 0].max()), int(ends[:, 1].max())
    whole = Box(x=0, y=0, width=width, height=height)
    return SlideFrame(canvas0=Size(width=width, height=height), bounds0=whole)


def grid(across: int, down: int) -> Boxes:
    """Return tiles row by row."""
    x, y = np.meshgrid(np.arange(across) * _STRIDE, np.arange(down) * _STRIDE)
    sides = np.full(x.size, _SIDE)
    return np.stack([x.ravel(), y.ravel(), sides, sides], axis=1).astype(np.int32)


def draw_shapes(path: Path, count: int, tiles: Boxes, *, seed: int, corners: int = CORNERS) -> None:
    """Write rough circles in three classes, whose areas come to about half of the slide; many overlap."""
    rng = np.random.default_rng(seed)
    size0 = frame_of(tiles).canvas0
    radius = np.sqrt(size0.width * size0.height / 2 / count / np.pi)
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    features = []
    for number in range(count):
        waves = (
            rng.uniform(0, 2 * np.pi, _WAVES)[:, None] + np.arange(2, 2 + _WAVES)[:, None] * angles
        )
        radii = radius * (
            1 + 0.06 * np.sin(waves).sum(axis=0) + 0.001 * rng.standard_normal(corners)
        )
        centre = rng.uniform(0, (size0.width, size0.height))
        points = centre + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        ring = np.round(np.concatenate((points, points[:1])), 2).tolist()
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": _CLASSES[number % 3]},
                },
            }
        )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def draw_mask(path: Path, canvas0: Size, scale: int) -> Size:
    """Write patches of the values 0 to 3, and return the mask's size."""
    rng = np.random.default_rng(3)
    width, height = canvas0.width // scale, canvas0.height // scale
    small = rng.integers(0, 4, (-(-height // 100), -(-width // 100)), dtype=np.uint8)
    pixels = np.kron(small, np.ones((100, 100), dtype=np.uint8))[:height, :width]
    tifffile.imwrite(path, pixels, tile=(512, 512), compression="deflate", metadata=None)
    return Size(width=width, height=height)


def make_run(path: Path, load: Load) -> None:
    """Write records and manifests of a run without pixels, and its drawings beside it."""
    boxes0 = grid(load.slide_across, load.slide_down)
    run = write_slides(path, _slides(load, frame_of(boxes0).canvas0), TileConfig())
    make_folder(path.parent / "drawings")
    for number, name in enumerate(manifest_files(run.path)):
        draw_shapes(path.parent / "drawings" / f"{name}.geojson", 100, boxes0, seed=number)


def _slides(load: Load, size0: Size) -> Iterator[tuple[SlideRecord, pa.Table]]:
    tiles = load.slide_across * load.slide_down
    tiling = Tiling(across=load.slide_across, tiles=tiles, tile_px=_SIDE, stride_px=_STRIDE)
    size = {"width": size0.width, "height": size0.height}
    metrics = [column.name for column in TILE_COLUMNS if str(column.type) == "float"]
    rng = np.random.default_rng(4)
    for number in range(load.slides):
        slide_id = f"slide-{number:04d}"
        drawn = {name: rng.random(tiles) for name in metrics}
        record = slide_record(slide_id, number, tiles=tiles, **size)
        yield record, slide_table(slide_id, tiling, drawn)


def main(run_path: str, drawings: str) -> None:
    """Label a run in this process and print what it took."""
    begun = time.perf_counter()
    label_run(run_path, LabelConfig(annotations=drawings))
    wall_s = time.perf_counter() - begun
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall_s": wall_s, "peak_bytes": peak_bytes}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
