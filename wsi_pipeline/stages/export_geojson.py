"""Tiles of a run, or outlines of its slides, as one GeoJSON file per slide."""

import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.colours import ColourClass, ColourScale, colour_scale
from wsi_pipeline.labels.qupath import Shown, feature, feature_collection, outline, rectangle
from wsi_pipeline.manifest import plain_column
from wsi_pipeline.slides.names import safe_names
from wsi_pipeline.stages.export_config import ExportConfig, Exported
from wsi_pipeline.stages.run_directory import RunDirectory, read_record
from wsi_pipeline.stages.selection import Selection

_BOX = ("x", "y", "width", "height")


def export_geojson(selection: Selection, config: ExportConfig, *, folder: Path) -> Exported:
    """Write a file per slide that has tiles, and return what was written.

    Raises
    ------
    ConfigError
        The column to colour by is not there, or the expression cannot be evaluated.
    """
    scale = _scale(selection, config)
    names = safe_names(selection.slides())
    ending = ".geojson.gz" if config.gz else ".geojson"
    notes: list[str] = []
    files = shown = 0
    for slide_id, table in selection.tables([config.colour_by] if config.colour_by else []):
        if not len(table):
            continue
        if _is_nowhere(table):
            notes.append(f"{slide_id}: all tiles lie at 0, 0: where they were cut is not known")
        corner0 = _corner0(selection, slide_id) if config.origin == "bounds" else (0, 0)
        if corner0 != (0, 0):
            notes.append(
                f"{slide_id}: counted from the corner of its scanned part at {corner0[0]}, {corner0[1]}, "
                "as QuPath does; --origin canvas counts as the manifest"
            )
        features = _outlines if config.slides else _tiles
        lines = feature_collection(features(slide_id, _moved(table, corner0), config, scale))
        _write(folder / f"{names[slide_id]}{ending}", lines, gz=config.gz)
        files += 1
        shown += 1 if config.slides else len(table)
    return Exported(
        kind="geojson", folder=str(folder), files=files, tiles=shown, notes=tuple(notes)
    )


def _corner0(selection: Selection, slide_id: str) -> tuple[int, int]:
    """Return the corner of a slide's scanned part, level-0 pixels of the canvas."""
    record = read_record(RunDirectory(path=selection.run_path), slide_id)
    values = {} if record is None else record.values
    return int(values.get("bounds_x") or 0), int(values.get("bounds_y") or 0)


def _moved(table: pa.Table, corner0: tuple[int, int]) -> pa.Table:
    """Return tiles whose places count from a corner."""
    for name, offset0 in zip(("x", "y"), corner0, strict=True):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pc.subtract(table.column(name), offset0))
    return table


def _is_nowhere(table: pa.Table) -> bool:
    """Whether the tiles are imported ones of which nobody said where they were."""
    places = np.column_stack([table.column(name).to_numpy() for name in ("x", "y")])
    return len(table) > 1 and not places.any()


def _scale(selection: Selection, config: ExportConfig) -> ColourScale | None:
    """Return one scale for all slides: their values are read once before anything is written."""
    column = config.colour_by
    if column is None:
        return None
    if column not in selection.schema.names:
        raise ConfigError(
            f"colour_by: the manifest has no column {column!r}; it has {', '.join(selection.schema.names)}"
        )
    if pa.types.is_nested(selection.schema.field(column).type):
        raise ConfigError(f"colour_by: expected words or numbers, {column!r} holds lists")
    shown = pa.concat_tables(
        [table.select([column]) for _, table in selection.tables([column])]
    ).column(column)
    return colour_scale(column, plain_column(shown))


def _tiles(
    _slide_id: str, table: pa.Table, config: ExportConfig, scale: ColourScale | None
) -> Iterator[dict[str, Any]]:
    boxes = zip(*(table.column(name).to_pylist() for name in _BOX), strict=True)
    classes = _classes(table, scale)
    values = _measured(table, scale)
    rows = zip(table.column("tile").to_pylist(), boxes, classes, values, strict=True)
    for tile, (x, y, width, height), classified, measurements in rows:
        shown = Shown(
            name=f"tile {tile}",
            kind=config.objects,
            classified=classified,
            measurements=measurements,
        )
        yield feature(rectangle(x, y, width=width, height=height), shown)


def _outlines(
    slide_id: str, table: pa.Table, _config: ExportConfig, scale: ColourScale | None
) -> Iterator[dict[str, Any]]:
    """Yield one outline around a slide's tiles, of the class of their mean, or of most of them."""
    boxes = np.column_stack([table.column(name).to_numpy() for name in _BOX]).astype(np.int64)
    measurements = {"tiles": float(len(table))}
    classified = None
    if scale is not None and scale.is_of_numbers:
        numbers = np.asarray(table.column(scale.column).cast(pa.float64()).to_numpy())
        if np.isfinite(numbers).any():
            mean = float(np.nanmean(numbers))
            measurements[f"{scale.column} mean"] = mean
            classified = scale.of(pa.array([mean]))[0]
    elif scale is not None:
        found = [each for each in _classes(table, scale) if each is not None]
        by_name = {each.name: each for each in found}
        names = [each.name for each in found]
        most = max(sorted(by_name), key=names.count, default=None)
        classified = None if most is None else by_name[most]
    shown = Shown(
        name=slide_id, kind="annotation", classified=classified, measurements=measurements
    )
    yield feature(outline(boxes), shown)


def _classes(table: pa.Table, scale: ColourScale | None) -> list[ColourClass | None]:
    return [None] * len(table) if scale is None else scale.of(table.column(scale.column))


def _measured(table: pa.Table, scale: ColourScale | None) -> Iterable[dict[str, float]]:
    if scale is None or not scale.is_of_numbers:
        return [{}] * len(table)
    values = table.column(scale.column).to_pylist()
    return [
        {scale.column: value} if value is not None and np.isfinite(value) else {}
        for value in values
    ]


def _write(path: Path, lines: Iterable[bytes], *, gz: bool) -> None:
    """Write a file; compressed, it holds no name and no time, so the same tiles give the same bytes."""
    with ExitStack() as stack:
        handle: Any = stack.enter_context(path.open("wb"))
        if gz:
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0)
            handle = stack.enter_context(io.BufferedWriter(stack.enter_context(packed)))
        handle.writelines(lines)
