"""3DHISTECH MRXS by its images: the pixels that OpenSlide shows, and every damage that it does not see."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.writers.mrxs import Camera, Files, Mrxs, write_mrxs
from tests.writers.mrxs_files import ImageFormat, Place, PositionRecord
from tests.writers.pixels import tissue
from tests.writers.reference import ByOpenSlide, edge_windows, grid_windows, random_windows, whole
from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import WHITE, Box, Rgb
from wsi_pipeline.pixels import decode_jpeg
from wsi_pipeline.slides import mosaic, mrxs_backend
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import SlideReader

Opened: TypeAlias = Callable[[Path], SlideReader]

RGB = tissue(400, 300)
BETWEEN = Camera(image_px=32, overlap_px=12, own_light=True, moved_px={(1, 1): (3, -5)})
"""Photos at odd places, between the pixels of coarser levels."""


@st.composite
def cameras(draw: DrawFn) -> Camera:
    """Draw how a slide is scanned: photos that overlap, lie out of place, were not taken."""
    images = draw(st.sampled_from([1, 2, 4]))
    sides = st.sampled_from([16, 24, 32, 48])
    camera = Camera(
        image_px=draw(sides),
        image_height_px=draw(sides),
        images=images,
        overlap_px=draw(st.integers(0, 15)),
        own_light=True,
    )
    photos = st.tuples(
        st.integers(0, camera.across(RGB.shape[1]) - 1),
        st.integers(0, camera.down(RGB.shape[0]) - 1),
    )
    places = st.tuples(st.integers(0, 10 * images), st.integers(0, 10 * images))
    step = draw(st.sampled_from([1, 4]))
    moves = st.integers(-40 // step, 40 // step).map(lambda by: by * step)
    return replace(
        camera,
        moved_px=draw(st.dictionaries(photos, st.tuples(moves, moves), max_size=6)),
        unscanned=draw(st.sets(photos, max_size=6)),
        lost=draw(st.sets(places, max_size=4)),
    )


files = st.builds(
    Files,
    positions=st.sampled_from(get_args(PositionRecord)),
    data_files=st.integers(1, 3),
    page_items=st.one_of(st.none(), st.integers(1, 40)),
)


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Open slides that are closed after the test."""
    with ExitStack() as readers:

        def reader_of(path: Path) -> SlideReader:
            return readers.enter_context(closing(open_slide(path)))

        yield reader_of


@settings(max_examples=40, deadline=None)
@given(cameras(), files, st.integers(1, 5))
def test_every_window_of_every_level_is_what_openslide_shows(
    camera: Camera, how: Files, zoom_levels: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.mrxs"
        slide = write_mrxs(path, RGB, camera=camera, files=how, zoom_levels=zoom_levels)
        assert_as_openslide(slide.path)


def assert_as_openslide(path: Path) -> None:
    reference = ByOpenSlide(path)
    with (
        closing(open_slide(path)) as reader,
        closing(OpenSlideReader(path, reason="a test")) as other,
    ):
        assert reader.info.backend == "mrxs images"
        said = replace(reader.info, backend="", backend_reason="")
        assert said == replace(other.info, backend="", backend_reason="")
        for level, at in enumerate(reader.info.levels):
            windows = [
                *edge_windows(at.size_px),
                *random_windows(at.size_px, seed=level),
                *grid_windows(at.size_px, side=90, stride=70),
            ]
            for window_px, read in zip(windows, reader.read_many(level, windows), strict=True):
                assert isinstance(read, np.ndarray), read
                np.testing.assert_array_equal(read, reference.read(level, window_px))


def test_levels_between_pixels_are_left_to_openslide_and_the_reason_says_so(
    opened: Opened, tmp_path: Path
) -> None:
    path = write_mrxs(tmp_path / "a.mrxs", RGB, camera=BETWEEN).path
    reason = opened(path).info.backend_reason
    assert "photos lie between the pixels of level 1, 2, interpolated by OpenSlide" in reason
    assert_as_openslide(path)


def test_a_photo_at_the_corner_that_is_not_the_first_was_not_taken(tmp_path: Path) -> None:
    camera = Camera(image_px=32, own_light=True)
    moved = {photo: (-camera.box0(photo).x, -camera.box0(photo).y) for photo in ((2, 1), (4, 4))}
    camera = replace(camera, moved_px=moved, unscanned={(4, 4)})
    assert_as_openslide(write_mrxs(tmp_path / "a.mrxs", RGB, camera=camera).path)


def test_an_image_is_decoded_once_for_all_windows(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(overlap_px=16))
    reader, decodings = opened(slide.path), Decodings(monkeypatch)
    for level, at in enumerate(reader.info.levels):
        decodings.count = 0
        list(reader.read_many(level, grid_windows(at.size_px, side=90, stride=70)))
        assert decodings.count == sum(zoom == level for zoom, _ in slide.images)


def test_less_memory_gives_the_same_pixels(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(overlap_px=16, own_light=True))
    reader = opened(slide.path)
    windows = grid_windows(reader.info.size0, side=90, stride=70)
    expected = list(reader.read_many(0, windows))
    decodings = Decodings(monkeypatch)
    monkeypatch.setattr(mosaic, "KEPT_BYTES", 5 * 64 * 64 * 3)
    for read, wanted in zip(reader.read_many(0, windows), expected, strict=True):
        np.testing.assert_array_equal(read, wanted)
    assert decodings.count > sum(zoom == 0 for zoom, _ in slide.images)


class Decodings:
    """How often an image was decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def counted(data: bytes) -> Rgb:
            self.count += 1
            return decode_jpeg(data)

        monkeypatch.setattr(mrxs_backend, "decode_jpeg", counted)


def test_nothing_scanned_is_white_and_decodes_nothing(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera(unscanned={(1, 1)})
    reader = opened(write_mrxs(tmp_path / "a.mrxs", RGB, camera=camera).path)
    decodings = Decodings(monkeypatch)
    assert reader.read(0, camera.box0((1, 1))).min() == WHITE
    assert decodings.count == 0


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda data: bytes(len(data)),
    "random": lambda data: np.random.default_rng(4).bytes(len(data)),
    "no header": lambda data: bytes(64) + data[64:],
    "zeros from the middle on": lambda data: data[: len(data) // 2].ljust(len(data), b"\0"),
    "zeros within": lambda data: data[:-400] + bytes(300) + data[-100:],
}
BAD: tuple[Place, ...] = ((4, 3), (5, 3), (8, 0))


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("camera", [Camera(image_px=32, overlap_px=12), BETWEEN], ids=repr)
def test_exactly_the_windows_that_touch_a_damaged_image_fail_and_name_it(
    camera: Camera, harm: str, opened: Opened, tmp_path: Path
) -> None:
    how = Files(data_files=2)
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=camera, files=how)
    windows = grid_windows(opened(slide.path).info.size0, side=50, stride=30)
    before = list(opened(slide.path).read_many(0, windows))
    for place in BAD:
        spoil(slide, 0, place, HARMS[harm])
    reader = opened(slide.path)
    across = camera.across(RGB.shape[1]) * camera.images
    names = {
        f"Data{slide.images[0, place][2]:04}.dat, image {place[1] * across + place[0]}: ": box0_of(
            camera, place
        )
        for place in BAD
    }
    for window_px, read, expected in zip(
        windows, reader.read_many(0, windows), before, strict=True
    ):
        touched = [name for name, box0 in names.items() if box0.intersection(window_px)]
        if touched:
            assert isinstance(read, TileError), f"{window_px} touches {touched} and was read"
            assert str(read).startswith(f"level 0, {window_px}: {touched[0]}")
        else:
            np.testing.assert_array_equal(read, expected)
    with pytest.raises(TileError):
        reader.read(0, box0_of(camera, BAD[0]))
    half = whole(reader.info.levels[1].size_px)
    np.testing.assert_array_equal(reader.read(1, half), opened(slide.path).read(1, half))


def test_damage_of_an_interpolated_level_is_noticed_though_openslide_reads_it(
    opened: Opened, tmp_path: Path
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=BETWEEN)
    size_px = opened(slide.path).info.levels[1].size_px
    windows = grid_windows(size_px, side=20, stride=15)
    before = list(opened(slide.path).read_many(1, windows))
    spoil(slide, 1, (4, 4), HARMS["zeros within"])
    found = list(opened(slide.path).read_many(1, windows))
    bad = [box0_of(BETWEEN, (4 + x, 4 + y)) for x in range(2) for y in range(2)]
    for window_px, read, expected in zip(windows, found, before, strict=True):
        box0 = Box(x=window_px.x * 2, y=window_px.y * 2, width=40, height=40)
        if any(image0.intersection(box0) for image0 in bad):
            assert isinstance(read, TileError), window_px
            assert "Data0000.dat, image " in str(read)
        else:
            np.testing.assert_array_equal(read, expected)


def test_an_image_of_another_size_is_an_error(opened: Opened, tmp_path: Path) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(image_px=32))
    other = write_mrxs(tmp_path / "b.mrxs", RGB, camera=Camera(image_px=16))
    small = extent_of(other, 0, (0, 0))
    spoil(slide, 0, (2, 1), lambda data: small[: len(data)].ljust(len(data), b"\0"))
    with pytest.raises(TileError, match=r"image 16: expected 32 x 32 px, got 16 x 16"):
        opened(slide.path).read(0, Box(x=64, y=32, width=9, height=9))


def box0_of(camera: Camera, image: Place) -> Box:
    """Return where an image of level 0 lies."""
    photo = camera.box0((image[0] // camera.images, image[1] // camera.images))
    width, height = camera.image_size_px
    return Box(
        x=photo.x + image[0] % camera.images * width,
        y=photo.y + image[1] % camera.images * height,
        width=width,
        height=height,
    )


def extent_of(slide: Mrxs, zoom: int, image: Place) -> bytes:
    offset, length, number = slide.images[zoom, image]
    return (slide.folder / f"Data{number:04}.dat").read_bytes()[offset : offset + length]


def spoil(slide: Mrxs, zoom: int, image: Place, harm: Callable[[bytes], bytes]) -> None:
    offset, length, number = slide.images[zoom, image]
    data = harm(extent_of(slide, zoom, image))
    assert len(data) == length
    with (slide.folder / f"Data{number:04}.dat").open("r+b") as handle:
        handle.seek(offset)
        handle.write(data)


def test_a_missing_file_of_images_is_an_error_of_the_slide(tmp_path: Path) -> None:
    how = Files(data_files=3)
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(), files=how, zoom_levels=1)
    (slide.folder / "Data0002.dat").unlink()
    with pytest.raises(SlideError, match=r"Data0002\.dat|OpenSlide cannot open it"):
        open_slide(slide.path)


def test_a_file_of_images_that_vanishes_later_is_an_error_of_the_tile(
    opened: Opened, tmp_path: Path
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera())
    reader = opened(slide.path)
    slide.data.unlink()
    with pytest.raises(TileError, match=r"Data0000\.dat, image 0: .*No such file"):
        reader.read(0, Box(x=0, y=0, width=9, height=9))


@pytest.mark.parametrize("left", [0.3, 0.9, 0.999])
def test_a_file_of_images_that_is_cut_off_is_an_error_of_the_slide(
    left: float, tmp_path: Path
) -> None:
    how = Files(data_files=2)
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(), files=how)
    cut(slide.folder / "Data0001.dat", left)
    with pytest.raises(SlideError, match=r"cut off: its images reach to byte|OpenSlide cannot"):
        open_slide(slide.path)


@pytest.mark.parametrize("name", ["Index.dat", "Slidedat.ini"])
@settings(max_examples=60, deadline=None)
@given(left=st.floats(0, 1))
def test_a_slide_whose_index_is_cut_off_opens_whole_or_not_at_all(name: str, left: float) -> None:
    with TemporaryDirectory() as folder:
        slide = write_mrxs(Path(folder) / "a.mrxs", RGB, camera=Camera(), zoom_levels=2)
        cut(slide.folder / name, left)
        reader = opened_or_error(slide.path)
        if isinstance(reader, SlideError):
            assert "cut off" in str(reader) or "is the file complete" in str(reader)
        else:
            reader.close()
            assert_as_openslide(slide.path)


def opened_or_error(path: Path) -> SlideReader | SlideError:
    try:
        return open_slide(path)
    except SlideError as error:
        return error


def cut(path: Path, left: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])


@pytest.mark.parametrize("image_format", ["PNG", "BMP24"])
def test_other_images_are_left_to_openslide(
    image_format: ImageFormat, opened: Opened, tmp_path: Path
) -> None:
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=Camera(), image_format=image_format)
    reader = opened(slide.path)
    assert reader.info.backend == "openslide"
    assert f"its images are no JPEGs but {image_format}" in reader.info.backend_reason
    assert isinstance(next(reader.read_many(0, [whole(reader.info.size0)])), np.ndarray)


@pytest.mark.parametrize(
    ("stated", "restated", "reason"),
    [
        ("CONCAT_FACTOR = 0", "CONCAT_FACTOR = 1", "expected level 0 of single images, got 2"),
        ("PerSide = 2", "PerSide = 4", "expected whole photos of 4 x 4 images, got 8 x 6"),
    ],
)
def test_what_no_slide_is_known_to_say_is_left_to_openslide(
    stated: str, restated: str, reason: str, opened: Opened, tmp_path: Path
) -> None:
    unscanned = {(column, row) for column in range(4) for row in range(3)} - {(0, 0)}
    lost = {(1, 0), (0, 1), (1, 1)}
    camera, how = Camera(unscanned=unscanned, lost=lost), Files(positions="nothing")
    slide = write_mrxs(tmp_path / "a.mrxs", RGB, camera=camera, zoom_levels=1, files=how)
    about = slide.folder / "Slidedat.ini"
    assert stated in about.read_text(encoding="utf-8")
    about.write_text(about.read_text(encoding="utf-8").replace(stated, restated), encoding="utf-8")
    info = opened(slide.path).info
    assert info.backend == "openslide"
    assert reason in info.backend_reason
