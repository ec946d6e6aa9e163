"""Pictures of the report: slides with their tiles, and the tiles that are extreme in something."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.labels.audited import FOOTPRINT
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.report.html import data_script
from wsi_pipeline.report.maps import packed
from wsi_pipeline.report.overlay import CAPTION_PX
from wsi_pipeline.report.parts import Collage, Maps, Picture, SlideMap
from wsi_pipeline.report.scales import Codes, Scale, scale_of
from wsi_pipeline.report.settings import ReportConfig
from wsi_pipeline.stages.report_cohort import Cohort
from wsi_pipeline.stages.report_tiles import RunTiles, coloured_columns
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.store.tile_pixels import tile_pixels

_SIDES_PX = ((60, 512), (200, 400))
_SMALLEST_SIDE_PX = 288
_PICTURE_QUALITY = 62  # WebP: half of a JPEG's bytes at the same looks
_TILE_SIDE_PX = 160
_TILE_QUALITY = 80
_FROM_ONE_SLIDE = 2  # tiles of a collage, while there are others: one bad slide is not the cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """One kind of tiles that are worth a look."""

    title: str
    text: str
    values: NDArray[np.float64] = field(repr=False)
    """What is ranked, ``(tiles,)``; the largest are shown, NaN never."""
    unit: str
    shown: NDArray[np.float64] = field(repr=False)
    """What is written below the tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnMaps:
    """Maps that fit, and how many slides did not."""

    maps: Maps
    left_out: int
    from_overlays: int
    """Slides whose only picture has marks drawn in."""


def slide_maps(
    run: RunDirectory, tiles: RunTiles, cohort: Cohort, config: ReportConfig, *, most_bytes: int
) -> DrawnMaps:
    """Return the slides with their tiles; where not all fit, a choice that the seed decides."""
    scales, columns = _scales(tiles, config)
    frames, abouts = cohort.frames(), cohort.abouts()
    side_px = _side_px(len(tiles.slide_ids))
    boxes0 = np.stack([_integers(tiles, name) for name in FOOTPRINT], axis=1)
    drawn: dict[str, Mapping[str, Any]] = {}
    used_bytes = from_overlays = 0
    rows = dict(tiles.slides())
    for slide_id in sorted(rows, key=lambda each: _lot(config.seed, each)):
        own = rows[slide_id]
        picture, marked = _picture(run, slide_id, side_px)
        slide = packed(
            SlideMap(
                slide_id=slide_id,
                about=abouts.get(slide_id, ""),
                frame0=frames.get(slide_id) or _around(boxes0[own]),
                boxes0=boxes0[own],
                codes=[codes[own] for codes in columns],
                picture=picture,
            )
        )
        used_bytes += len(data_script("", slide))  # a little more than it takes in the list
        if used_bytes > most_bytes:
            break
        drawn[slide_id] = slide
        from_overlays += marked
    return DrawnMaps(
        maps=Maps(scales=scales, slides=tuple(drawn[name] for name in sorted(drawn))),
        left_out=len(rows) - len(drawn),
        from_overlays=from_overlays,
    )


def _scales(tiles: RunTiles, config: ReportConfig) -> tuple[tuple[Scale, ...], list[Codes]]:
    scales: list[Scale] = []
    columns: list[Codes] = []
    for name in coloured_columns(tiles, config.columns):
        scale = scale_of(name, tiles.column(name))
        if scale is not None:
            scales.append(scale)
            columns.append(scale.codes(tiles.column(name)))
    return tuple(scales), columns


def _integers(tiles: RunTiles, name: str) -> NDArray[np.int32]:
    values: NDArray[np.int32] = tiles.column(name).to_numpy().astype(np.int32)
    return values


def _side_px(slides: int) -> int:
    """Return the longest side of pictures: the more slides, the smaller, so that a page stays small."""
    return next((side for most, side in _SIDES_PX if slides <= most), _SMALLEST_SIDE_PX)


def _lot(seed: int, *names: object) -> str:
    """Return a number that depends on these names alone, as text that sorts."""
    return hashlib.sha256("\0".join(map(str, (seed, *names))).encode(errors="replace")).hexdigest()


def _around(boxes0: NDArray[np.int32]) -> Box:
    """Return the box around tiles, for a slide whose size is not known."""
    if not len(boxes0):
        return Box(x=0, y=0, width=1, height=1)
    x, y = (int(each) for each in boxes0[:, :2].min(axis=0))
    x_end, y_end = (int(each) for each in (boxes0[:, :2] + boxes0[:, 2:]).max(axis=0))
    return Box(x=x, y=y, width=x_end - x, height=y_end - y)


def _picture(run: RunDirectory, slide_id: str, side_px: int) -> tuple[bytes | None, bool]:
    """Return a slide's picture, and whether it is the one with marks: runs of old have no other."""
    plain = _read_image(run.thumbnail(slide_id))
    if plain is not None:
        return _webp(plain, side_px), False
    marked = _read_image(run.overlay(slide_id))
    if marked is None or marked.shape[0] <= CAPTION_PX:
        return None, False
    return _webp(marked[:-CAPTION_PX], side_px), True


def _read_image(path: Path) -> Rgb | None:
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError:
        return None
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _webp(rgb: Rgb, side_px: int) -> bytes:
    return _encoded(_shrunk(rgb, side_px), ".webp", [cv2.IMWRITE_WEBP_QUALITY, _PICTURE_QUALITY])


def _shrunk(rgb: Rgb, side_px: int) -> Rgb:
    height, width = rgb.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    return resized_by_area(
        rgb, width=max(1, round(width * scale)), height=max(1, round(height * scale))
    )


def _encoded(rgb: Rgb, ending: str, how: list[int]) -> bytes:
    return cv2.imencode(ending, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), how)[1].tobytes()


def collages(
    run: RunDirectory, tiles: RunTiles, tiling: TileConfig, config: ReportConfig
) -> list[Collage]:
    """Return the tiles that are extreme in something, cut from the store."""
    ok = tiles.ok
    made = []
    for extreme in _extremes(tiles):
        values = np.where(ok, extreme.values, np.nan)
        chosen = _most(values, tiles, extreme.title, config)
        pictures = tuple(_tile_pictures(run, tiles, tiling, chosen, extreme))
        if pictures:
            made.append(Collage(title=extreme.title, text=extreme.text, pictures=pictures))
    return made


def _extremes(tiles: RunTiles) -> Iterator[Extreme]:
    sharp, gray, tissue = (tiles.numbers(name) for name in ("laplacian_var", "gray_mean", "tissue"))
    red, green, blue = (tiles.numbers(f"{name}_mean") for name in ("red", "green", "blue"))
    redness = red - (green + blue) / 2
    mostly = np.where(tissue >= 0.5, sharp, np.nan)
    for title, text, values, unit, shown in (
        ("Sharpest", "Largest laplacian_var.", sharp, "", sharp),
        (
            "Blurriest",
            "Smallest laplacian_var among tiles that are at least half tissue.",
            -mostly,
            "",
            sharp,
        ),
        ("Reddest", "Largest red_mean - (green_mean + blue_mean) / 2.", redness, "", redness),
        ("Darkest", "Smallest gray_mean.", -gray, "", gray),
        (
            "Most tissue",
            "Largest tissue share; the seed chooses among equals.",
            tissue,
            "%",
            tissue,
        ),
        ("Least tissue", "Smallest tissue share that was kept.", -tissue, "%", tissue),
    ):
        yield Extreme(title=title, text=text, values=values, unit=unit, shown=shown)


def _most(
    values: NDArray[np.float64], tiles: RunTiles, title: str, config: ReportConfig
) -> list[int]:
    """Return the rows of the largest values, few of one slide; the seed decides between equals."""
    count = min(config.extremes, int(np.count_nonzero(~np.isnan(values))))
    if count == 0:
        return []
    generator = np.random.default_rng([config.seed, *title.encode()])
    order = np.lexsort((generator.random(len(values)), -values))  # NaN last
    order = order[: int(np.count_nonzero(~np.isnan(values)))]
    slides = np.searchsorted(tiles.starts, order, side="right") - 1
    first = _first_of_each(slides, _FROM_ONE_SLIDE, count)
    rest = [place for place in range(min(len(order), 2 * count)) if place not in set(first)]
    return [int(order[place]) for place in sorted((first + rest)[:count])]


def _first_of_each(slides: NDArray[np.int64], most: int, count: int) -> list[int]:
    """Return places of a ranking, at most so many of one slide."""
    taken: dict[int, int] = {}
    chosen = []
    for place, slide in enumerate(slides.tolist()):
        if taken.get(slide, 0) < most:
            taken[slide] = taken.get(slide, 0) + 1
            chosen.append(place)
            if len(chosen) == count:
                break
    return chosen


def _tile_pictures(
    run: RunDirectory, tiles: RunTiles, tiling: TileConfig, rows: Sequence[int], extreme: Extreme
) -> Iterator[Picture]:
    numbers = tiles.column("tile")
    for row in rows:
        slide_id = tiles.slide_ids[int(np.searchsorted(tiles.starts, row, side="right")) - 1]
        tile = int(numbers[row].as_py())
        array, size = run.array(slide_id), tiling.tile_size
        try:
            rgb = tile_pixels(array, tile, tiling.codec, tile_size=size, most_px=_TILE_SIDE_PX)
        except TileError:  # the store has lost it: verify says so
            continue
        how = [cv2.IMWRITE_JPEG_QUALITY, _TILE_QUALITY]
        value = float(extreme.shown[row])
        yield Picture(
            jpeg=_encoded(rgb, ".jpg", how),
            title=f"{slide_id}, tile {tile}",
            value=f"{100 * value:.0f} %" if extreme.unit == "%" else f"{value:.4g}",
        )
