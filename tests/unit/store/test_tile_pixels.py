"""One stored tile as pixels: as they were written, shrunk by area, or a sentence."""

from pathlib import Path

import numpy as np
import pytest

from wsi_pipeline.errors import TileError
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.store.tile_pixels import tile_pixels
from wsi_pipeline.store.writer import write_shard

SIDE = 32


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """A shard of noise, of one that is left out, and of one that is damaged."""
    rgb = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    write_shard(tmp_path, 0, [encode_tile(rgb, "zstd"), None, b"no tile"])
    return tmp_path


def test_a_tile_is_what_was_written_or_its_means(array: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    for most_px in (None, SIDE, 1000):
        found = tile_pixels(array, 0, "zstd", tile_size=SIDE, most_px=most_px)
        assert np.array_equal(found, rgb)
    small = tile_pixels(array, 0, "zstd", tile_size=SIDE, most_px=8)
    assert np.array_equal(small, resized_by_area(rgb, width=8, height=8))


@pytest.mark.parametrize(
    ("tile", "said"),
    [
        (1, "no pixels are stored"),
        (2, "its 7 bytes are no zstd tile"),
        (64, "cannot be read"),
    ],
)
def test_what_is_not_there_or_damaged_is_an_error(tile: int, said: str, array: Path) -> None:
    with pytest.raises(TileError, match=said):
        tile_pixels(array, tile, "zstd", tile_size=SIDE, most_px=8)
