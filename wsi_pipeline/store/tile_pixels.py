"""One stored tile as pixels, for pictures and for what is measured on a few tiles."""

from pathlib import Path

from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.store.codec import decode_tile
from wsi_pipeline.store.reader import read_tile


def tile_pixels(
    array: Path, tile: int, codec: str, *, tile_size: int, most_px: int | None = None
) -> Rgb:
    """Return a tile ``(side, side, 3)``.

    Parameters
    ----------
    array
        The slide's folder in the store.
    tile
        Its number.
    codec, tile_size
        Of the run.
    most_px
        Largest side wanted: a larger tile is shrunk to it, each pixel the mean of what it covers.

    Raises
    ------
    TileError
        No pixels of it are stored, its shard cannot be read, or its bytes are damaged.
    """
    data = read_tile(array, tile)
    if data is None:
        raise TileError("no pixels are stored")
    rgb = decode_tile(data, codec, tile_size=tile_size)
    side_px = min(most_px or tile_size, tile_size)
    return resized_by_area(rgb, width=side_px, height=side_px)
