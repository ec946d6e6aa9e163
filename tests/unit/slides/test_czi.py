"""CZI: the stored pixels at their places, white elsewhere, and refusals that say why."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pylibCZIrw import czi

from tests.strategies import block_means, inner_boxes, noise
from tests.writers.czi import (
    CziCompression,
    Layout,
    Subblock,
    metadata_xml,
    mosaic,
    write_czi,
    write_subblocks,
)
from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import WHITE, Box, Rgb, Size
from wsi_pipeline.slides.czi_backend import CziReader
from wsi_pipeline.slides.drawn import draw_slide

SIZE = Size(width=700, height=533)  # no multiple of a tile or of a layer's step
MPP = (0.2201, 0.2199)
WHOLE = Box(x=0, y=0, width=SIZE.width, height=SIZE.height)
LAYOUT = Layout(
    tile_px=160,
    overlap_px=16,
    scenes=(Box(x=0, y=0, width=400, height=333), Box(x=432, y=92, width=268, height=441)),
    gaps=(Box(x=140, y=140, width=100, height=100),),
    origin=(-1013, 77),
    shrinks=(2, 4),
)
_Value = TypeVar("_Value", bound=np.generic)
COMPRESSIONS: tuple[CziCompression, ...] = get_args(CziCompression)


def tissue() -> Rgb:
    return draw_slide(SIZE, seed=5).rgb


def painted(subblocks: Sequence[Subblock], *, origin: tuple[int, int], shrink: int = 1) -> Rgb:
    """Return the tiles of a layer, each over those before it, on white."""
    canvas = np.full((-(-SIZE.height // shrink), -(-SIZE.width // shrink), 3), WHITE, np.uint8)
    for tile in subblocks:
        if tile.shrink == shrink:
            x, y = (tile.x - origin[0]) // shrink, (tile.y - origin[1]) // shrink
            part = canvas[y : y + tile.pixels.shape[0], x : x + tile.pixels.shape[1]]
            part[:] = tile.pixels[: part.shape[0], : part.shape[1]]
    return canvas


def cut_out(plane: NDArray[_Value], box: Box) -> NDArray[_Value]:
    return plane[box.y : box.y_end, box.x : box.x_end]


def opened(path: Path) -> CziReader:
    return CziReader(path, reason="a test")


@pytest.fixture(scope="module", params=COMPRESSIONS)
def slide(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CziReader, list[Subblock]]]:
    path = tmp_path_factory.mktemp("czi") / "slide.czi"
    tiles = write_czi(path, tissue(), mpp=MPP, compression=request.param, layout=LAYOUT)
    reader = opened(path)
    yield reader, tiles
    reader.close()


@given(data=st.data())
def test_every_window_is_the_stored_pixels_and_white_elsewhere(
    slide: tuple[CziReader, list[Subblock]], data: st.DataObject
) -> None:
    reader, tiles = slide
    window_px = data.draw(inner_boxes(SIZE))

    read = reader.read(0, window_px)

    assert read.dtype == np.uint8
    assert np.array_equal(read, cut_out(painted(tiles, origin=LAYOUT.origin), window_px))


@given(data=st.data())
def test_every_window_of_a_level_is_the_stored_pixels_of_its_layer(
    slide: tuple[CziReader, list[Subblock]], data: st.DataObject
) -> None:
    reader, tiles = slide
    level = data.draw(st.sampled_from([1, 2]))
    window_px = data.draw(inner_boxes(reader.info.levels[level].size_px))

    read = reader.read(level, window_px)

    scanned = cut_out(_scanned(tiles, 2**level), window_px)
    stored = cut_out(painted(tiles, origin=(-1013, 77), shrink=2**level), window_px)
    assert np.array_equal(read[scanned], stored[scanned])
    assert (read[~scanned] == WHITE).all()


def _scanned(tiles: Sequence[Subblock], shrink: int) -> NDArray[np.bool_]:
    """Return pixels of a level that some tile of level 0 touches."""
    black = [replace(tile, pixels=np.zeros_like(tile.pixels)) for tile in tiles]
    touched = painted(black, origin=LAYOUT.origin)[..., :1] == 0
    return block_means(np.repeat(touched.astype(np.uint8), 3, axis=2), shrink)[..., 0] > 0


@given(data=st.data())
def test_windows_read_together_are_those_read_alone(
    slide: tuple[CziReader, list[Subblock]], data: st.DataObject
) -> None:
    reader, _ = slide
    level = data.draw(st.sampled_from([0, 1, 2]))
    windows = st.lists(inner_boxes(reader.info.levels[level].size_px), max_size=6)
    windows_px = data.draw(windows)

    for window_px, read in zip(windows_px, reader.read_many(level, windows_px), strict=True):
        assert not isinstance(read, TileError)
        assert np.array_equal(read, reader.read(level, window_px))


def test_libczi_keeps_no_more_than_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 4 * 160 * 160 * 3
    monkeypatch.setattr("wsi_pipeline.slides.czi_backend.CACHE_BYTES", most)
    write_czi(tmp_path / "slide.czi", tissue(), mpp=MPP, layout=LAYOUT)
    reader = opened(tmp_path / "slide.czi")

    reader.read(0, WHOLE)
    kept = reader._czi.get_cache_info()
    reader.close()

    assert 0 < kept.memory_usage <= most


def test_what_it_says(slide: tuple[CziReader, list[Subblock]]) -> None:
    info = slide[0].info

    assert (info.size0, info.bounds0) == (SIZE, WHOLE)
    assert [info.mpp_x, info.mpp_y] == pytest.approx(list(MPP), rel=1e-3)
    assert (info.scanner, info.objective_power, info.channels) == ("Axio Scan.Z1", 20, 3)
    assert [level.downsample for level in info.levels] == [1, 2, 4]
    assert slide[0].scenes0 == dict(enumerate(LAYOUT.scenes))


@pytest.mark.parametrize("shrink", [2, 4])
def test_levels_are_block_means(tmp_path: Path, shrink: int) -> None:
    rgb = tissue()
    write_czi(tmp_path / "slide.czi", rgb, mpp=MPP, layout=Layout(tile_px=160, shrinks=(2, 4)))
    reader = opened(tmp_path / "slide.czi")

    width, height = SIZE.width // shrink, SIZE.height // shrink
    read = reader.read(shrink // 2, Box(x=0, y=0, width=width, height=height))
    reader.close()

    whole = rgb[: height * shrink, : width * shrink]
    assert np.abs(read - block_means(whole, shrink)).max() <= 0.51


def test_scenes_between_two_pixels_of_a_level_are_less_than_one_off(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0 : SIZE.height, 0 : SIZE.width]
    ramp = np.stack((rows // 3, columns // 3, rows // 3), axis=-1).astype(np.uint8)
    scenes = (Box(x=0, y=0, width=301, height=533), Box(x=301, y=3, width=399, height=530))
    layout = Layout(tile_px=160, scenes=scenes, origin=(-5, 7), shrinks=(4,))
    write_czi(tmp_path / "slide.czi", ramp, mpp=MPP, layout=layout)
    reader = opened(tmp_path / "slide.czi")

    read = reader.read(1, Box(x=10, y=10, width=150, height=110))
    reader.close()

    off = np.abs(read - block_means(ramp, 4)[10:120, 10:160])
    seam = slice(63, 67)  # where one scene ends and the next begins
    assert np.delete(off, seam, axis=1).max() <= 4 / 3 + 1


def test_a_scene_without_a_layer_is_averaged_from_its_finer_one(tmp_path: Path) -> None:
    rgb = tissue()
    layout = Layout(
        tile_px=160,
        scenes=(replace(WHOLE, width=400), replace(WHOLE, x=400, width=300)),
        shrinks=(2, 8),
    )
    tiles = [each for each in mosaic(rgb, layout) if (each.scene, each.shrink) != (1, 8)]
    write_subblocks(tmp_path / "slide.czi", tiles, xml=metadata_xml(mpp=MPP))
    reader = opened(tmp_path / "slide.czi")

    read = reader.read(2, Box(x=0, y=0, width=SIZE.width // 8, height=SIZE.height // 8))
    reader.close()

    assert [level.downsample for level in reader.info.levels] == [1, 2, 8]
    means = block_means(rgb, 8)[: read.shape[0], : read.shape[1]]
    assert np.abs(read - means).max() <= 1.01  # rounded twice


def test_a_layer_that_libczi_would_pass_over_is_no_level(tmp_path: Path) -> None:
    rgb = tissue()
    tiles = list(mosaic(rgb, Layout(tile_px=160)))
    narrow = Subblock(x=0, y=0, pixels=rgb[::3, ::3], shrink=3)
    write_subblocks(tmp_path / "slide.czi", [*tiles, narrow], xml=metadata_xml(mpp=MPP))
    reader = opened(tmp_path / "slide.czi")

    assert len(reader.info.levels) == 1
    assert np.array_equal(reader.read(0, WHOLE), rgb)
    reader.close()


def test_unscanned_pixels_of_a_black_pyramid_are_white(tmp_path: Path) -> None:
    black = Subblock(x=0, y=0, pixels=np.zeros((50, 100, 3), np.uint8), shrink=4)
    near = Subblock(x=0, y=0, pixels=np.full((200, 100, 3), 7, np.uint8))
    far = Subblock(x=300, y=0, pixels=np.full((200, 100, 3), 7, np.uint8))
    write_subblocks(tmp_path / "slide.czi", [near, far, black], xml=metadata_xml(mpp=MPP))
    reader = opened(tmp_path / "slide.czi")

    read = reader.read(1, Box(x=0, y=0, width=100, height=50))
    reader.close()

    assert (read[:, 25:75] == WHITE).all()
    assert (read[:, :25] == 0).all()


def test_the_highest_place_in_the_mosaic_lies_on_top(tmp_path: Path) -> None:
    over, under = (np.full((50, 50, 3), shade, np.uint8) for shade in (10, 200))
    tiles = [Subblock(x=0, y=0, pixels=over, m=1), Subblock(x=20, y=0, pixels=under, m=0)]
    write_subblocks(tmp_path / "slide.czi", tiles, xml=metadata_xml(mpp=None))
    reader = opened(tmp_path / "slide.czi")

    row = reader.read(0, Box(x=0, y=0, width=70, height=1))[0, :, 0].tolist()
    reader.close()

    assert row == [10] * 50 + [200] * 20
    assert (reader.info.mpp, reader.info.mpp_note) == (None, "the file does not say")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_gray_becomes_rgb(tmp_path: Path, compression: CziCompression) -> None:
    gray = tissue()[..., :1]
    tiles = [Subblock(x=x, y=5, pixels=gray, compression=compression) for x in (-9, 800)]
    write_subblocks(tmp_path / "slide.czi", tiles, xml=metadata_xml(mpp=MPP))
    reader = opened(tmp_path / "slide.czi")

    read = reader.read(0, replace(WHOLE, width=750))
    reader.close()

    assert reader.info.channels == 1
    assert np.array_equal(read[:, :700], np.repeat(gray, 3, axis=2))
    assert (read[:, 700:] == WHITE).all()


def test_a_file_by_pylibczirw_itself_reads_the_same(tmp_path: Path) -> None:
    rgb = tissue()
    path = tmp_path / "Gewebe 組織 ä.czi"
    with czi.create_czi(str(path), compression_options="zstd1:ExplicitLevel=1") as writer:
        for tile in mosaic(rgb, LAYOUT):
            if tile.shrink == 1 and tile.scene is not None:
                bgr = np.ascontiguousarray(tile.pixels[..., ::-1])
                writer.write(bgr, location=(tile.x, tile.y), scene=tile.scene)
        writer.write_metadata(scale_x=MPP[0] * 1e-6, scale_y=MPP[1] * 1e-6)
    reader = opened(path)

    read = reader.read(0, WHOLE)
    reader.close()
    reader.close()  # twice does no harm

    assert np.array_equal(read, painted(list(mosaic(rgb, LAYOUT)), origin=LAYOUT.origin))
    assert [reader.info.mpp_x, reader.info.mpp_y] == pytest.approx(list(MPP))
    assert reader.scenes0 == dict(enumerate(LAYOUT.scenes))


@pytest.mark.parametrize(
    ("dtype", "channels", "name"),
    [
        (np.uint16, 1, "Gray16"),
        (np.uint16, 3, "Bgr48"),
        (np.float32, 1, "Gray32Float"),
        (np.float32, 3, "Bgr96Float"),
    ],
)
def test_refuses_other_pixels(tmp_path: Path, dtype: type, channels: int, name: str) -> None:
    pixels: NDArray[Any] = np.zeros((20, 30, channels), dtype)
    tiles = [Subblock(x=0, y=0, pixels=pixels)]
    write_subblocks(tmp_path / "slide.czi", tiles, xml=metadata_xml(mpp=MPP))

    with pytest.raises(SlideError, match=rf"expected one plane of 8-bit .*, got {name}; export"):
        opened(tmp_path / "slide.czi")


@pytest.mark.parametrize(
    ("axis", "name"),
    [("C", "channels"), ("Z", "focal planes"), ("T", "time points"), ("H", "places along H")],
)
def test_refuses_more_than_one_plane(tmp_path: Path, axis: str, name: str) -> None:
    pixels = np.zeros((20, 30, 1), np.uint8)
    tiles = [Subblock(x=0, y=0, pixels=pixels, dimensions=((axis, at),)) for at in (0, 1)]
    write_subblocks(tmp_path / "slide.czi", tiles, xml=metadata_xml(mpp=MPP))

    with pytest.raises(SlideError, match=f"got 2 {name}; export one of them"):
        opened(tmp_path / "slide.czi")


def test_one_plane_may_have_any_number(tmp_path: Path) -> None:
    pixels = noise(1, height=20, width=30)
    tile = Subblock(x=0, y=0, pixels=pixels, dimensions=(("C", 2), ("Z", 5), ("T", 1)))
    write_subblocks(tmp_path / "slide.czi", [tile], xml=metadata_xml(mpp=MPP))
    reader = opened(tmp_path / "slide.czi")

    assert np.array_equal(reader.read(0, Box(x=0, y=0, width=30, height=20)), pixels)
    reader.close()


def test_refuses_a_file_without_tiles(tmp_path: Path) -> None:
    write_subblocks(tmp_path / "slide.czi", [], xml=metadata_xml(mpp=MPP))

    with pytest.raises(SlideError, match="expected tiles of level 0, got none"):
        opened(tmp_path / "slide.czi")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.3, 0.6, 0.9, 0.98, 0.999])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_cut_file_does_not_open(tmp_path: Path, compression: CziCompression, kept: float) -> None:
    path = tmp_path / "slide.czi"
    write_czi(path, tissue(), mpp=MPP, compression=compression, layout=LAYOUT)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])

    with pytest.raises(SlideError, match="is the file complete"):
        opened(path)


Damage: TypeAlias = Literal[
    "a hole over its header",
    "a hole over its data",
    "noise over its data",
    "it lies where the file is cut",
]


def damaged(path: Path, compression: CziCompression, tile: int, how: Damage) -> CziReader:
    """Return a reader of a mosaic of 2 x 2 tiles, one of which is damaged."""
    write_czi(path, tissue(), mpp=MPP, compression=compression, layout=Layout(tile_px=350))
    data = bytearray(path.read_bytes())
    starts = [at for at in range(0, len(data), 32) if data.startswith(b"ZISRAWSUBBLOCK", at)]
    at, used = starts[tile], struct.unpack_from("<q", data, starts[tile] + 24)[0]
    match how:
        case "a hole over its header":
            data[at : at + 4096] = bytes(4096)
        case "a hole over its data":
            data[at + 288 : at + 32 + used] = bytes(used - 256)
        case "noise over its data":
            data[at + 288 : at + 32 + used] = np.random.default_rng(0).bytes(used - 256)
        case "it lies where the file is cut":
            moved = data[at : at + 32 + used]
            data = data.replace(struct.pack("<q", at), struct.pack("<q", len(data)))
            data += moved[: len(moved) // 2]
    path.write_bytes(data)
    return opened(path)


@pytest.mark.parametrize(
    ("compression", "how"),
    [
        *[(each, "a hole over its header") for each in COMPRESSIONS],
        *[(each, "it lies where the file is cut") for each in COMPRESSIONS],
        *[(each, "a hole over its data") for each in COMPRESSIONS if each != "none"],
        *[(each, "noise over its data") for each in COMPRESSIONS if each != "none"],
    ],
)
def test_a_damaged_tile_spoils_only_what_touches_it(
    tmp_path: Path, compression: CziCompression, how: Damage
) -> None:
    reader = damaged(tmp_path / "slide.czi", compression, 1, how)
    windows_px = [Box(x=x, y=10, width=100, height=100) for x in (0, 200, 260, 355, 600)]

    read = list(reader.read_many(0, windows_px))

    for window_px, pixels in zip(windows_px, read, strict=True):
        if window_px.x_end > 350:
            assert isinstance(pixels, TileError)
            with pytest.raises(TileError, match="level 0"):
                reader.read(0, window_px)
        else:
            assert not isinstance(pixels, TileError)
            assert np.array_equal(pixels, cut_out(tissue(), window_px))
    reader.close()


def test_a_window_outside_is_the_callers_mistake(slide: tuple[CziReader, list[Subblock]]) -> None:
    with pytest.raises(ValueError, match="window: expected inside level 0"):
        slide[0].read(0, replace(WHOLE, x=1))
