"""Stain vectors of every group from a few stored tiles of each of its slides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from wsi_pipeline.calls import Call, Pool, run_all
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.stain import Floats, angle_degrees, macenko_vectors
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, read_run_json
from wsi_pipeline.store.tile_pixels import tile_pixels

_SIDE_PX = 96
"""Rows and columns taken of a tile, evenly: neighbours say the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStain:
    """Stain vectors of one group: unit vectors of optical density in red, green, blue."""

    group: str
    slides: int
    """Slides whose vectors were found."""
    hematoxylin: tuple[float, ...]
    eosin: tuple[float, ...]
    """The means of the slides' vectors; empty without slides."""
    hematoxylin_spread: float | None
    eosin_spread: float | None
    """Median angle between a slide's vector and the mean, in degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAngles:
    """Angles between the stain vectors of two groups, in degrees."""

    first: str
    second: str
    hematoxylin: float
    eosin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StainTask:
    """Some tiles of one slide and group."""

    run: RunDirectory
    config: TileConfig
    slide_id: str
    group: str
    tiles: tuple[int, ...]


def group_stains(
    run: RunDirectory,
    tiles: pd.DataFrame,
    *,
    records: Mapping[str, SlideRecord],
    config: CompareConfig,
    pool: Pool,
) -> tuple[tuple[GroupStain, ...], tuple[str, ...]]:
    """Return every group's stain, and why there is none of some slides.

    ``tiles`` has ``slide_id``, ``tile`` and ``group``. Slides in dark field have no such stain.
    """
    content = read_run_json(run)
    if config.stain_tiles == 0 or content is None:
        return (), ()
    tile_config = make_config(TileConfig, content["config"])
    if tile_config.store == "none":
        return (), ("no stain vectors: this run keeps no pixels (--store none)",)
    bright = {name for name, record in records.items() if not record.values.get("dark_field")}
    tasks = _tasks(run, tiles[tiles["slide_id"].isin(bright)], config, tile_config)
    calls = (
        Call(name=f"stain:{task.slide_id}", function=slide_stain, argument=task) for task in tasks
    )
    found: dict[str, list[tuple[str, Floats]]] = {}
    problems: list[str] = []
    for answer in run_all(pool, calls):
        task: StainTask = answer.call.argument
        if isinstance(answer.value, np.ndarray):
            found.setdefault(task.group, []).append((task.slide_id, answer.value))
        else:
            why = answer.value if answer.error is None else answer.error
            problems.append(f"no stain vectors of {task.slide_id} in {task.group}: {why}")
    groups = [str(name) for name in tiles["group"].cat.categories]
    stains = [_group_stain(group, sorted_vectors(found.get(group, []))) for group in groups]
    return tuple(stains), tuple(sorted(problems))


def slide_stain(task: StainTask) -> Floats | str:
    """Return one slide's vectors ``(2, 3)``, or why there are none."""
    try:
        pixels = np.concatenate([_pixels(task, tile) for tile in task.tiles])
        return macenko_vectors(pixels)
    except (TileError, ValueError) as error:
        return str(error)


def group_angles(stains: Sequence[GroupStain]) -> tuple[PairAngles, ...]:
    """Return the angles between every two groups that have vectors."""
    return tuple(
        PairAngles(
            first=first.group,
            second=second.group,
            hematoxylin=_angle(first.hematoxylin, second.hematoxylin),
            eosin=_angle(first.eosin, second.eosin),
        )
        for first, second in combinations([stain for stain in stains if stain.slides], 2)
    )


def sorted_vectors(found: Sequence[tuple[str, Floats]]) -> list[Floats]:
    """Return vectors in order of slide, in which they are added up whatever came first."""
    return [vectors for _, vectors in sorted(found, key=lambda each: each[0])]


def _tasks(
    run: RunDirectory, tiles: pd.DataFrame, config: CompareConfig, tile_config: TileConfig
) -> Iterator[StainTask]:
    for (slide_id, group), rows in tiles.groupby(["slide_id", "group"], observed=True):
        rng = np.random.default_rng([config.seed, *str(slide_id).encode()])
        numbers = rng.permutation(rows["tile"].to_numpy())[: config.stain_tiles]
        yield StainTask(
            run=run,
            config=tile_config,
            slide_id=str(slide_id),
            group=str(group),
            tiles=tuple(sorted(numbers.tolist())),
        )


def _pixels(task: StainTask, tile: int) -> Rgb:
    """Return evenly chosen pixels of a stored tile, ``(pixels, 3)``."""
    array, config = task.run.array(task.slide_id), task.config
    try:
        rgb = tile_pixels(array, tile, config.codec, tile_size=config.tile_size)
    except TileError as error:
        raise TileError(f"tile {tile}: {error}") from error
    step = max(1, task.config.tile_size // _SIDE_PX)
    return rgb[::step, ::step].reshape(-1, 3)


def _group_stain(group: str, vectors: Sequence[Floats]) -> GroupStain:
    if not vectors:
        return GroupStain(
            group=group,
            slides=0,
            hematoxylin=(),
            eosin=(),
            hematoxylin_spread=None,
            eosin_spread=None,
        )
    together = np.stack(vectors)  # (slides, stain, channel)
    means = together.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    spreads = [
        float(np.median([angle_degrees(each[stain], means[stain]) for each in together]))
        for stain in (0, 1)
    ]
    return GroupStain(
        group=group,
        slides=len(vectors),
        hematoxylin=tuple(means[0].tolist()),
        eosin=tuple(means[1].tolist()),
        hematoxylin_spread=spreads[0],
        eosin_spread=spreads[1],
    )


def _angle(first: Sequence[float], second: Sequence[float]) -> float:
    return angle_degrees(np.array(first), np.array(second))
