"""3DHISTECH MRXS: photos that overlap, cut into images, of which most of the canvas has none.

``NAME.mrxs`` is any small file; beside it a folder ``NAME`` holds ``Slidedat.ini`` (what there is),
``Index.dat`` (where each image lies) and ``Data0000.dat``, ``Data0001.dat``, … (the images, one after the
other).

The camera takes photos of ``images`` x ``images`` images each, at positions of their own; images of one
photo never overlap. Each coarser zoom level halves images and joins 2 x 2 of them to one of the same size,
whichever photo they come from, so that overlaps lie inside the joined images; OpenSlide takes those
apart again. Sources: https://openslide.org/formats/mirax/, and B. Gilbert, "Introduction to MIRAX/MRXS",
openslide-users, 2012-07-24.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import cv2
import imagecodecs
import numpy as np

from tests.writers.jpeg import encoded
from tests.writers.mrxs_files import (
    ImageFormat,
    Layout,
    Place,
    Places,
    PositionRecord,
    data_files,
    data_name,
    index_file,
    positions_buffer,
    slidedat,
)
from wsi_pipeline.geometry import WHITE, Box, Rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """How the slide is scanned, in level-0 pixels."""

    image_px: int = 64
    """Side of an image, or its width."""
    image_height_px: int | None = None
    """None where images are squares."""
    images: int = 2
    """Images along each side of a photo."""
    overlap_px: int = 0
    """What a photo has in common with the next one, as planned."""
    moved_px: Mapping[Place, Place] = field(default_factory=dict)
    """How far photos lie from where they were planned; levels whose shrink is no divisor of it lie between
    pixels."""
    unscanned: Set[Place] = frozenset()
    """Photos that were not taken."""
    lost: Set[Place] = frozenset()
    """Images of level 0 that are left out of the index, each by its column and row."""
    own_light: bool = False
    """Whether each photo is brighter or darker than its neighbours, so that overlap tells them apart."""

    @property
    def image_size_px(self) -> Place:
        """Width and height of an image."""
        return self.image_px, self.image_height_px or self.image_px

    def across(self, side_px: int) -> int:
        """Return how many photos cover the width of the slide."""
        return self._count(side_px, self.image_size_px[0] * self.images)

    def down(self, side_px: int) -> int:
        """Return how many photos cover the height of the slide."""
        return self._count(side_px, self.image_size_px[1] * self.images)

    def _count(self, side_px: int, photo_px: int) -> int:
        return -(-(side_px - self.overlap_px) // (photo_px - self.overlap_px))

    def box0(self, photo: Place) -> Box:
        """Return where a photo lies."""
        width, height = (side * self.images for side in self.image_size_px)
        dx, dy = self.moved_px.get(photo, (0, 0))
        return Box(
            x=photo[0] * (width - self.overlap_px) + dx,
            y=photo[1] * (height - self.overlap_px) + dy,
            width=width,
            height=height,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """How a slide is laid down in files."""

    positions: PositionRecord = "VIMSLIDE_POSITION_BUFFER"
    data_files: int = 1
    page_items: int | None = None
    """Most images on a page of the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mrxs:
    """A slide that was written, and what is true of it."""

    path: Path
    photos0: Mapping[Place, Box]
    """Where each photo lies, in level-0 pixels."""
    images: Places
    """Where each image's bytes lie."""

    @property
    def data(self) -> Path:
        """The first file of images."""
        return self.folder / data_name(0)

    @property
    def folder(self) -> Path:
        """The folder of everything but the slide's name."""
        return self.path.with_suffix("")


def write_mrxs(
    path: Path,
    rgb: Rgb,
    *,
    camera: Camera,
    zoom_levels: int = 3,
    image_format: ImageFormat = "JPEG",
    files: Files | None = None,
) -> Mrxs:
    """Write a slide of the pixels of ``rgb``; what a photo sees past them is white."""
    across, down, how = camera.across(rgb.shape[1]), camera.down(rgb.shape[0]), files or Files()
    photos0 = {
        photo: camera.box0(photo)
        for photo in product(range(across), range(down))
        if photo not in camera.unscanned
    }
    levels = [_images(rgb, photos0, camera)]
    for zoom in range(1, zoom_levels):
        levels.append(_joined(levels[-1], 1 << zoom, camera))
    levels[0] = {place: image for place, image in levels[0].items() if place not in camera.lost}
    layout = Layout(
        images_across=across * camera.images,
        images_down=down * camera.images,
        images_per_photo=camera.images,
        image_px=camera.image_px,
        image_height_px=camera.image_height_px,
        overlap_px=camera.overlap_px,
        zoom_levels=zoom_levels,
        image_format=image_format,
        positions=how.positions,
        data_files=how.data_files,
        page_items=how.page_items,
    )
    images = [_encoded(level, image_format) for level in levels]
    return Mrxs(path=path, photos0=photos0, images=_write(path, images, camera, layout))


def _write(
    path: Path, images: Sequence[Mapping[Place, bytes]], camera: Camera, layout: Layout
) -> Places:
    across, down = layout.images_across // camera.images, layout.images_down // camera.images
    boxes0 = [camera.box0((column, row)) for row, column in product(range(down), range(across))]
    corners0 = [(box0.x, box0.y) for box0 in boxes0]
    data, places, positions = data_files(
        images, positions_buffer(corners0, layout.positions), layout.data_files
    )
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"MRXS")
    for number, content in enumerate(data):
        (folder / data_name(number)).write_bytes(content)
    (folder / "Index.dat").write_bytes(index_file(places, positions, layout))
    (folder / "Slidedat.ini").write_text(slidedat(layout), encoding="utf-8")
    return places


def _images(rgb: Rgb, photos0: Mapping[Place, Box], camera: Camera) -> dict[Place, Rgb]:
    """Return the images of all photos."""
    width, height = camera.image_size_px
    found = {}
    for (column, row), box0 in photos0.items():
        photo = _seen(rgb, box0)
        if camera.own_light:
            photo = photo // 2 + np.uint8((column * 5 + row * 3) % 8 * 16)
        for x, y in product(range(camera.images), repeat=2):
            place = (column * camera.images + x, row * camera.images + y)
            found[place] = photo[y * height : (y + 1) * height, x * width : (x + 1) * width]
    return found


def _seen(rgb: Rgb, box0: Box) -> Rgb:
    photo = np.full((box0.height, box0.width, 3), WHITE, np.uint8)
    part = box0.intersection(Box(x=0, y=0, width=rgb.shape[1], height=rgb.shape[0]))
    if part is not None:
        top, left = part.y - box0.y, part.x - box0.x
        seen = rgb[part.y : part.y_end, part.x : part.x_end]
        photo[top : top + part.height, left : left + part.width] = seen
    return photo


def _joined(images: Mapping[Place, Rgb], shrink: int, camera: Camera) -> dict[Place, Rgb]:
    """Return the next level: 2 x 2 images halved and joined, by the place of the first of them."""
    width, height = camera.image_size_px
    wide, high = width // 2, height // 2
    found: dict[Place, Rgb] = {}
    for (column, row), image in images.items():
        place = (column // shrink * shrink, row // shrink * shrink)
        whole = found.setdefault(place, np.full((height, width, 3), WHITE, np.uint8))
        x, y = (column - place[0]) * 2 // shrink * wide, (row - place[1]) * 2 // shrink * high
        whole[y : y + high, x : x + wide] = cv2.resize(
            image, (wide, high), interpolation=cv2.INTER_AREA
        )
    return found


def _encoded(images: Mapping[Place, Rgb], image_format: ImageFormat) -> dict[Place, bytes]:
    def encode(image: Rgb) -> bytes:
        if image_format == "PNG":
            return bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))
        if image_format == "BMP24":
            return cv2.imencode(".bmp", image[..., ::-1])[1].tobytes()
        return encoded(image, colours="ycbcr", subsampling="444", quality=85, marks="jfif")

    return {place: encode(image) for place, image in images.items()}
