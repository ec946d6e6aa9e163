"""What an import would do: which arrays a source becomes, and how large its tiles are."""

from dataclasses import dataclass
from pathlib import Path

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError, TileError
from wsi_pipeline.geometry import Size
from wsi_pipeline.store.pictures import picture_size
from wsi_pipeline.tiles.arrays import ImageArray, image_arrays
from wsi_pipeline.tiles.catalog import Catalog, read_catalog
from wsi_pipeline.tiles.encoded import encoded_images
from wsi_pipeline.tiles.import_config import ImportConfig

_LOOKED_AT = 64
"""Images whose headers say how large tiles are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import would do."""

    catalog: Catalog
    arrays: tuple[ImageArray, ...]
    config: TileConfig
    """Of the run."""


def plan_import(source: str | Path, settings: ImportConfig) -> ImportPlan:
    """Return which arrays a source becomes, and their tile size; writes nothing.

    Raises
    ------
    ConfigError
        The source cannot be used; the message says what to change.
    """
    catalog = read_catalog(source, settings)
    arrays = image_arrays(catalog.images, name=catalog.name)
    tile_size = settings.tile_size or _side(catalog)
    return ImportPlan(catalog=catalog, arrays=tuple(arrays), config=settings.tile_config(tile_size))


def _side(catalog: Catalog) -> int:
    """Return the side of a source's images, as the first of them say.

    Raises
    ------
    ConfigError
        None can be read, they are no squares, or they differ.
    """
    names = _names(catalog)
    sizes: dict[Size, list[str]] = {}
    reasons: list[str] = []
    first = catalog.images.slice(0, _LOOKED_AT)
    for name, data in zip(names, encoded_images(catalog.origin, first), strict=False):
        try:
            if isinstance(data, TileError):
                raise data
            sizes.setdefault(picture_size(data), []).append(name)
        except TileError as error:
            reasons.append(f"{name}: {error}")
    if not sizes:
        raise ConfigError(
            f"{catalog.path}: none of its first {len(reasons)} images can be read; {reasons[0]}"
        )
    if len(sizes) > 1:
        found = ", ".join(
            f"{each.width} x {each.height} ({given[0]})" for each, given in sizes.items()
        )
        raise ConfigError(
            f"{catalog.path}: expected images of one size, got {found}; say with --tile-size which are "
            "tiles, the others are then unreadable"
        )
    (size,) = sizes
    if size.width != size.height:
        raise ConfigError(
            f"{catalog.path}: expected square tiles, got {size.width} x {size.height} px "
            f"({names[0]}); cut or pad them to squares first"
        )
    return size.width


def _names(catalog: Catalog) -> list[str]:
    images = catalog.images.slice(0, _LOOKED_AT)
    if catalog.origin.column is None:
        return [str(name) for name in images.column("source_path").to_pylist()]
    return [f"row {row + 1}" for row in images.column("source_row").to_numpy().tolist()]
