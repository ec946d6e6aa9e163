"""What a source of existing tiles holds: a folder, a table of files, or a Parquet file with images inside."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import is_url
from wsi_pipeline.tiles.encoded import Origin
from wsi_pipeline.tiles.histoprep import histoprep_slides, histoprep_table
from wsi_pipeline.tiles.image_table import checked_table, image_column, read_image_table
from wsi_pipeline.tiles.import_config import ImportConfig

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})

_LISTED = ("metadata.parquet", "metadata.csv")
"""A folder that holds one of these is what it says, whatever else lies there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All images of a source and what is said of each, in the source's order."""

    kind: str
    """``HistoPrep folder``, ``folder``, ``table`` or ``Parquet column``."""
    path: Path
    name: str
    """What arrays without a slide are called."""
    origin: Origin
    images: pa.Table = field(repr=False)
    """``source_path`` or ``source_row``, then the columns of the source."""
    measured_again: tuple[str, ...] = ()
    """Columns of the source that the run measures or numbers itself."""


def read_catalog(source: str | Path, config: ImportConfig) -> Catalog:
    """Return what a source holds, without opening an image.

    Raises
    ------
    ConfigError
        It is no source, holds no image, or a column of it cannot be used.
    """
    if is_url(str(source)):
        raise ConfigError(f"{source}: expected a source on a file system, got a URL; copy it first")
    path = Path(os.path.abspath(source))  # noqa: PTH100  keeps the name of a link
    if not path.exists():
        raise ConfigError(f"{source}: no such file or folder; check the spelling")
    catalog = _of_folder(path, config) if path.is_dir() else _of_file(path, config)
    if not len(catalog.images):
        raise ConfigError(f"{source}: expected images, found none")
    return catalog


def _of_folder(path: Path, config: ImportConfig) -> Catalog:
    if (path / "run.json").exists() and (path / ".state").exists():
        raise ConfigError(
            f"{path}: is a run already; wsi-pipeline export --folder takes its tiles out of it"
        )
    if slides := histoprep_slides(path):
        table = histoprep_table(path, slides)
        return _catalog("HistoPrep folder", path, Origin(path=path), table, config)
    for listed in _LISTED:
        if (path / listed).is_file():
            return _of_file(path / listed, config, name=path.name)
    return _catalog("folder", path, Origin(path=path), _listed_images(path, config), config)


def _of_file(path: Path, config: ImportConfig, *, name: str | None = None) -> Catalog:
    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise ConfigError(
            f"{path}: expected a folder, a CSV or a Parquet file; for a slide use wsi-pipeline tile"
        )
    column = image_column(path, config) if path.suffix.lower() == ".parquet" else None
    table = read_image_table(path, config, images_in=column)
    kind = "table" if column is None else "Parquet column"
    here = path.parent if column is None else path
    origin = Origin(path=here, column=column)
    return _catalog(kind, path, origin, table, config, name=name)


def _catalog(
    kind: str,
    path: Path,
    origin: Origin,
    table: pa.Table,
    config: ImportConfig,
    *,
    name: str | None = None,
) -> Catalog:
    images, measured_again = checked_table(table, path, keep_metrics=config.keep_metrics)
    return Catalog(
        kind=kind,
        path=path,
        name=name or path.stem,
        origin=origin,
        images=images,
        measured_again=measured_again,
    )


def _listed_images(path: Path, config: ImportConfig) -> pa.Table:
    """Return the images below a folder by name, with what their folders say."""
    try:
        names = sorted(_image_names(path, "", frozenset()))
        columns: dict[str, Any] = {"source_path": pa.array(names, type=pa.string())}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{path}: expected names of files in UTF-8, got {error.object!r}; rename it"
        ) from error
    folders = config.folder_columns
    if folders:
        parts = [_folders_of(name, folders, path) for name in names]
        for number, column in enumerate(folders):
            words = [part[number] for part in parts]
            if any(word is not None for word in words):
                columns[column] = pa.array(words, type=pa.string())
    return pa.table(columns)


def _folders_of(name: str, folders: Sequence[str], path: Path) -> Sequence[str | None]:
    parts = name.split("/")[:-1]
    if not parts and folders == ("label",):
        return [None]
    if len(parts) != len(folders):
        raise ConfigError(
            f"{path}: expected {'/'.join([*folders, 'IMAGE'])}, got {name}; say with --folders what its "
            "folders are, as split/label, or none"
        )
    return parts


def _image_names(folder: Path, above: str, inside: frozenset[Path]) -> Iterator[str]:
    """Yield images below a folder, relative to it; hidden ones are left out, links in a circle too."""
    here = folder.resolve()
    if here in inside:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                below = f"{above}{entry.name}/"
                yield from _image_names(folder / entry.name, below, inside | {here})
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                yield above + entry.name
