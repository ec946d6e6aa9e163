"""Tiles of a run for other programs: the stage behind ``wsi-pipeline export``.

>>> from wsi_pipeline.stages.export import ExportConfig, export_run
>>> export_run("missing", ExportConfig(), {"folder": "OUT"})
Traceback (most recent call last):
    ...
wsi_pipeline.errors.ConfigError: missing: expected a run directory, found no run.json in it
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import published_folder
from wsi_pipeline.remote import absolute, is_url
from wsi_pipeline.stages.export_config import ExportConfig, Exported, TileSource
from wsi_pipeline.stages.export_files import export_folder, export_webdataset
from wsi_pipeline.stages.export_geojson import export_geojson
from wsi_pipeline.stages.run_directory import RunDirectory, read_run_json
from wsi_pipeline.stages.selection import select_tiles
from wsi_pipeline.stages.steady import settle

__all__ = ["ExportConfig", "Exported", "export_run"]

Kind: TypeAlias = Literal["geojson", "webdataset", "folder"]


def export_run(
    run_path: str | Path, config: ExportConfig, folders: Mapping[Kind, str | Path]
) -> tuple[Exported, ...]:
    """Write tiles of a run for other programs and return what was written.

    Parameters
    ----------
    run_path
        The run directory or its URL; only read.
    config
        Which tiles, and how they look.
    folders
        Where each kind of export goes; a folder appears whole or not at all.

    Raises
    ------
    ConfigError
        There is no such run, a folder is not free, or the settings do not fit the run.
    OutputError
        A folder cannot be written.
    """
    run = RunDirectory(path=absolute(run_path))
    tiles = _tile_config(run, run_path)
    if not folders:
        raise ConfigError("expected --geojson DIR, --webdataset DIR or --folder DIR, got none")
    targets = {kind: _free(folder) for kind, folder in folders.items()}
    if len(set(targets.values())) < len(targets):
        raise ConfigError("expected a folder of its own for each kind of export, got one twice")
    pixels = [kind for kind in targets if kind != "geojson"]
    if pixels and tiles.store == "none":
        raise ConfigError(
            f"{run_path}: {pixels[0]} needs the tiles' pixels, and this run keeps none (store: none); cut "
            "them with wsi-pipeline tile --store zarr into another run, or export --geojson"
        )
    settle(run)
    return tuple(_export(run, tiles, config, kind, target) for kind, target in targets.items())


def _export(
    run: RunDirectory, tiles: TileConfig, config: ExportConfig, kind: Kind, target: Path
) -> Exported:
    selection = select_tiles(run.path, config.where)
    source = TileSource(run=run, tiles=tiles, config=config, selection=selection)
    with published_folder(target) as folder:
        match kind:
            case "geojson":
                done = export_geojson(selection, config, folder=folder)
            case "webdataset":
                done = export_webdataset(source, folder=folder)
            case "folder":
                done = export_folder(source, folder=folder)
        if not done.tiles and not done.problems:
            raise ConfigError(
                f"{run.path}: no tile is meant by {selection.where!r}; nothing was written"
            )
    return Exported(
        kind=kind,
        folder=str(target),
        files=done.files,
        tiles=done.tiles,
        problems=done.problems,
        notes=done.notes,
    )


def _tile_config(run: RunDirectory, run_path: str | Path) -> TileConfig:
    content = read_run_json(run)
    if content is None:
        raise ConfigError(f"{run_path}: expected a run directory, found no run.json in it")
    return make_config(TileConfig, content["config"])


def _free(folder: str | Path) -> Path:
    """Return where an export goes: a folder that is not there yet, or is empty."""
    if is_url(str(folder)):
        raise ConfigError(f"{folder}: expected a folder on a file system, got a URL")
    path = Path(os.path.abspath(folder))  # noqa: PTH100  keeps the name of a link
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ConfigError(
            f"{folder}: expected a new or empty folder, got one with files in it; choose another, or "
            "remove it first"
        )
    return path
