"""A collage of every cluster and rule, drawn from the store, and a page that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.calls import Call, Pool, run_all
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.files import publish_bytes, remove_file
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.report.contact_sheet import SHEET_TILE_PX, draw_contact_sheet, quality_page
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.store.tile_pixels import tile_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Tiles that are shown together: those with a value in a column."""

    name: str
    """Of its file, without the suffix."""
    column: str
    value: int
    says: str
    """Its caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollageTask:
    """One collage to be drawn in some process."""

    run: RunDirectory
    config: TileConfig
    kind: Kind
    tiles: tuple[tuple[str, int], ...]
    """slide_id and tile, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collage:
    """A drawn collage."""

    jpeg: bytes
    failures: tuple[str, ...]
    """Tiles that could not be shown, and why."""


def publish_pictures(
    run: RunDirectory,
    tile_config: TileConfig,
    judged: pd.DataFrame,
    *,
    kinds: Sequence[Kind],
    config: QcConfig,
    pool: Pool,
) -> tuple[str, ...]:
    """Write ``RUN/qc/NAME.jpg`` for every kind and ``RUN/qc/index.html``; return what could not be drawn.

    Collages of an earlier call that would be out of date are removed.
    """
    folder = run.path / "qc"
    for path in [*folder.glob("cluster_*.jpg"), *folder.glob("rule_*.jpg")]:
        remove_file(path)
    problems: list[str] = []
    if tile_config.store == "none":
        problems.append("no collages: this run keeps no pixels (--store none)")
    else:
        calls = [
            Call(
                name=f"collage:{kind.name}",
                function=draw_collage,
                argument=CollageTask(
                    run=run, config=tile_config, kind=kind, tiles=_chosen(judged, kind, config)
                ),
            )
            for kind in kinds
        ]
        for answer in run_all(pool, calls):
            name = answer.call.argument.kind.name
            if isinstance(answer.value, Collage):
                publish_bytes(folder / f"{name}.jpg", answer.value.jpeg)
                problems += [f"{name}.jpg: {text}" for text in answer.value.failures[:1]]
            else:
                problems.append(f"{name}.jpg: could not be drawn ({answer.error})")
    drawn = {path.stem for path in folder.glob("*.jpg")}
    page = quality_page([(kind.name if kind.name in drawn else None, kind.says) for kind in kinds])
    publish_bytes(folder / "index.html", page.encode())
    return tuple(sorted(problems))


def draw_collage(task: CollageTask) -> Collage:
    """Return the collage of some stored tiles."""
    pictures: list[Rgb] = []
    failures: list[str] = []
    for slide_id, tile in task.tiles:
        try:
            pictures.append(_small(task, slide_id, tile))
        except TileError as error:
            failures.append(f"tile {tile} of {slide_id}: {error}")
    sheet = draw_contact_sheet(pictures, caption=task.kind.says)
    return Collage(jpeg=encode_tile(sheet, "jpeg:88"), failures=tuple(failures))


def _small(task: CollageTask, slide_id: str, tile: int) -> Rgb:
    array, config = task.run.array(slide_id), task.config
    return tile_pixels(array, tile, config.codec, tile_size=config.tile_size, most_px=SHEET_TILE_PX)


def _chosen(judged: pd.DataFrame, kind: Kind, config: QcConfig) -> tuple[tuple[str, int], ...]:
    """Return tiles of a kind drawn by the seed, the least sharp first."""
    rows = np.flatnonzero(
        (judged[kind.column].to_numpy() == kind.value)
        & (judged["status"].to_numpy() != "unreadable")
    )
    rng = np.random.default_rng([config.seed, *kind.name.encode()])
    picked: NDArray[np.intp] = rng.permutation(rows)[: config.collage_tiles]
    shown = judged.iloc[picked].sort_values(["qc_sharpness", "slide_id", "tile"])
    return tuple(zip(shown["slide_id"].astype(str), shown["tile"].astype(int), strict=True))
