from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import noise, seeds, smooth
from wsi_pipeline.errors import TileError
from wsi_pipeline.geometry import Rgb
from wsi_pipeline.store.codec import decode_tile, encode_tile
from wsi_pipeline.store.layout import SHARD_TILES, ArrayLayout, array_json, shard_name
from wsi_pipeline.store.reader import iterate_tiles, read_shard, read_tile
from wsi_pipeline.store.writer import checksum, open_group, publish_array, write_shard

SIDE = 8
CODECS = ("zstd", "jpegxl", "jpeg:90", "webp:90")
GOLDEN = Path(__file__).parents[2] / "golden/array_zarr.json"

chunks_of_a_shard = st.lists(st.none() | st.binary(max_size=40), max_size=SHARD_TILES)


@settings(max_examples=12)
@pytest.mark.parametrize("codec", CODECS)
@given(seed=seeds, tiles=st.sampled_from([1, 2, 63, 64, 65, 130]))
def test_plain_zarr_reads_every_tile_that_was_written(
    tmp_path_factory: pytest.TempPathFactory, codec: str, seed: int, tiles: int
) -> None:
    store = tmp_path_factory.mktemp("store") / "tiles.zarr"
    encoded = write(store, codec, [smooth(seed + number, side=SIDE) for number in range(tiles)])
    array = zarr.open_group(store, mode="r")["slide 1"]
    assert isinstance(array, zarr.Array)
    assert array.shape == (tiles, SIDE, SIDE, 3)
    expected = np.stack([decode_tile(data or b"", codec, tile_size=SIDE) for data in encoded])
    assert np.array_equal(np.asarray(array[:]), expected)
    assert np.array_equal(np.asarray(array[tiles - 1]), expected[tiles - 1])


@given(seed=seeds, tiles=st.sampled_from([1, 64, 65]))
def test_without_loss_zarr_gives_the_pixels_themselves(
    tmp_path_factory: pytest.TempPathFactory, seed: int, tiles: int
) -> None:
    store = tmp_path_factory.mktemp("store") / "tiles.zarr"
    pixels = [noise(seed + number, height=SIDE, width=SIDE) for number in range(tiles)]
    write(store, "zstd", pixels)
    array = zarr.open_group(store, mode="r")["slide 1"]
    assert isinstance(array, zarr.Array)
    assert np.array_equal(np.asarray(array[:]), np.stack(pixels))


@given(chunks_of_a_shard)
def test_a_shard_gives_back_the_bytes_that_were_put_into_it(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes | None]
) -> None:
    array = tmp_path_factory.mktemp("array")
    size_bytes = write_shard(array, 3, chunks)
    assert (array / shard_name(3)).stat().st_size == size_bytes
    whole = [*chunks, *[None] * (SHARD_TILES - len(chunks))]
    assert read_shard(array, 3) == whole
    first = 3 * SHARD_TILES
    assert [read_tile(array, first + place) for place in range(SHARD_TILES)] == whole


@pytest.mark.parametrize("kept_bytes", [0, 3, 500])
def test_a_tile_of_a_shard_that_is_cut_off_or_gone_is_an_error(
    tmp_path: Path, kept_bytes: int
) -> None:
    write_shard(tmp_path, 0, [b"pixels"])
    path = tmp_path / shard_name(0)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(TileError, match="its index is damaged or cut off"):
        read_tile(tmp_path, 0)
    path.unlink()
    with pytest.raises(TileError, match="cannot be read"):
        read_tile(tmp_path, 0)


@given(st.lists(st.none() | st.binary(max_size=9), max_size=150))
def test_tiles_come_in_order_over_all_shards(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes | None]
) -> None:
    array = tmp_path_factory.mktemp("array")
    for shard, first in enumerate(range(0, len(chunks), SHARD_TILES)):
        write_shard(array, shard, chunks[first : first + SHARD_TILES])
    assert list(iterate_tiles(array, tiles=len(chunks))) == list(enumerate(chunks))


@given(chunks_of_a_shard)
def test_the_same_tiles_make_the_same_shard(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes | None]
) -> None:
    first, second = (tmp_path_factory.mktemp("array") for _ in range(2))
    write_shard(first, 0, chunks)
    write_shard(second, 0, list(chunks))
    assert (first / shard_name(0)).read_bytes() == (second / shard_name(0)).read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_a_tile_that_is_left_out_reads_as_the_fill_value(tmp_path: Path, codec: str) -> None:
    store = tmp_path / "tiles.zarr"
    tile = smooth(5, side=SIDE)
    encoded = write(store, codec, [None, tile, None])
    array = zarr.open_group(store, mode="r")["slide 1"]
    assert isinstance(array, zarr.Array)
    found = np.asarray(array[:])
    assert (found[[0, 2]] == 0).all()
    assert encoded[1] is not None
    assert np.array_equal(found[1], decode_tile(encoded[1], codec, tile_size=SIDE))


def test_a_slide_without_tiles_is_an_array_of_length_0(tmp_path: Path) -> None:
    store = tmp_path / "tiles.zarr"
    write(store, "jpeg:90", [])
    array = zarr.open_group(store, mode="r")["slide 1"]
    assert isinstance(array, zarr.Array)
    assert array.shape == (0, SIDE, SIDE, 3)
    assert np.asarray(array[:]).size == 0
    assert list(iterate_tiles(store / "slide 1", tiles=0)) == []


def test_tiles_are_not_seen_before_their_array_is_published(tmp_path: Path) -> None:
    store = tmp_path / "tiles.zarr"
    open_group(store)
    write_shard(store / "slide 1", 0, [b"x"])
    assert "slide 1" not in zarr.open_group(store, mode="r")


def test_opening_the_group_again_changes_nothing(tmp_path: Path) -> None:
    open_group(tmp_path)
    before = (tmp_path / "zarr.json").stat().st_mtime_ns
    open_group(tmp_path)
    assert (tmp_path / "zarr.json").stat().st_mtime_ns == before


@given(place=st.integers(0, SHARD_TILES * 16 + 3), flip=st.integers(1, 255))
def test_a_damaged_index_is_an_error_of_the_tiles_of_its_shard(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    array = tmp_path_factory.mktemp("array")
    for shard in (0, 1):
        write_shard(array, shard, [b"tile"] * SHARD_TILES)
    path = array / shard_name(0)
    data = bytearray(path.read_bytes())
    data[-1 - place] ^= flip
    path.write_bytes(data)
    with pytest.raises(TileError, match="its index is damaged or cut off"):
        read_shard(array, 0)
    found = [chunk for _, chunk in iterate_tiles(array, tiles=70)]
    assert all(isinstance(chunk, TileError) for chunk in found[:SHARD_TILES])
    assert found[SHARD_TILES:] == [b"tile"] * 6


@given(st.floats(0, 1, exclude_max=True))
def test_a_shard_that_is_cut_off_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    array = tmp_path_factory.mktemp("array")
    write_shard(array, 0, [b"tile"] * SHARD_TILES)
    path = array / shard_name(0)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TileError, match="its index is damaged or cut off"):
        read_shard(array, 0)


def test_a_missing_shard_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"c.0.0.0.0: cannot be read \(No such file"):
        read_shard(tmp_path, 0)


def test_more_tiles_than_a_shard_holds_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        write_shard(tmp_path, 0, [b"tile"] * (SHARD_TILES + 1))
    assert not (tmp_path / shard_name(0)).exists()


def test_the_metadata_of_an_array_is_pinned() -> None:
    layout = ArrayLayout(tiles=130, tile_size=512, codec="jpeg:90")
    assert array_json(layout) == GOLDEN.read_bytes()


@pytest.mark.parametrize(
    ("tiles", "shards"), [(0, 0), (1, 1), (64, 1), (65, 2), (4_700_000, 73438)]
)
def test_a_shard_holds_64_tiles(tiles: int, shards: int) -> None:
    assert ArrayLayout(tiles=tiles, tile_size=1, codec="zstd").shards == shards


def test_an_array_of_no_size_is_refused() -> None:
    for tiles, tile_size in ((-1, 8), (1, 0)):
        with pytest.raises(ValueError, match="array: expected 0 or more tiles of at least 1 px"):
            ArrayLayout(tiles=tiles, tile_size=tile_size, codec="zstd")


def test_the_checksum_is_crc32c() -> None:
    assert checksum(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4


def write(store: Path, codec: str, tiles: Sequence[Rgb | None]) -> list[bytes | None]:
    """Write one slide's array as the tile stage does, and return its encoded tiles."""
    encoded = [None if tile is None else encode_tile(tile, codec) for tile in tiles]
    open_group(store)
    layout = ArrayLayout(tiles=len(tiles), tile_size=SIDE, codec=codec)
    for shard in range(layout.shards):
        chunks = encoded[shard * SHARD_TILES : (shard + 1) * SHARD_TILES]
        write_shard(store / "slide 1", shard, chunks)
    publish_array(store / "slide 1", layout)
    return encoded
