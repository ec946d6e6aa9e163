"""3DHISTECH MRXS: photos that overlap, cut into images, of which most of the canvas has none.

``NAME.mrxs`` is any small file; beside it a folder ``NAME`` holds ``Slidedat.ini`` (what there is),
``Index.dat`` (where each image lies) and ``Data0000.dat`` (the images, one after the other).

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
    data_file,
    index_file,
    positions_buffer,
    slidedat,
)
from wsi_pipeline.geometry import WHITE, Box, Rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """How the slide is scanned, in level-0 pixels."""

    image_px: int = 64
    """Side of an image."""
    images: int = 2
    """Images along each side of a photo."""
    overlap_px: int = 0
    """What a photo has in common with the next one, as planned."""
    moved_px: Mapping[Place, Place] = field(default_factory=dict)
    """How far photos lie from where they were planned; multiples of the coarsest level's shrink."""
    unscanned: Set[Place] = frozenset()
    """Photos that were not taken."""

    @property
    def photo_px(self) -> int:
        """Side of a photo."""
        return self.image_px * self.images

    def across(self, side_px: int) -> int:
        """Return how many photos cover a side of the slide."""
        return -(-(side_px - self.overlap_px) // (self.photo_px - self.overlap_px))

    def box0(self, photo: Place) -> Box:
        """Return where a photo lies."""
        step, (dx, dy) = self.photo_px - self.overlap_px, self.moved_px.get(photo, (0, 0))
        return Box(
            x=photo[0] * step + dx,
            y=photo[1] * step + dy,
            width=self.photo_px,
            height=self.photo_px,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mrxs:
    """A slide that was written, and what is true of it."""

    path: Path
    photos0: Mapping[Place, Box]
    """Where each photo lies, in level-0 pixels."""
    images: Places

    @property
    def data(self) -> Path:
        """The file of images."""
        return self.path.with_suffix("") / "Data0000.dat"


def write_mrxs(
    path: Path,
    rgb: Rgb,
    *,
    camera: Camera,
    zoom_levels: int = 3,
    image_format: ImageFormat = "JPEG",
) -> Mrxs:
    """Write a slide of the pixels of ``rgb``; what a photo sees past them is white."""
    across, down = (camera.across(rgb.shape[axis]) for axis in (1, 0))
    photos0 = {
        photo: camera.box0(photo)
        for photo in product(range(across), range(down))
        if photo not in camera.unscanned
    }
    levels = [_images(rgb, photos0, camera)]
    for zoom in range(1, zoom_levels):
        levels.append(_joined(levels[-1], 1 << zoom, camera.image_px))
    layout = Layout(
        images_across=across * camera.images,
        images_down=down * camera.images,
        images_per_photo=camera.images,
        image_px=camera.image_px,
        overlap_px=camera.overlap_px,
        zoom_levels=zoom_levels,
        image_format=image_format,
    )
    images = [_encoded(level, image_format) for level in levels]
    return Mrxs(path=path, photos0=photos0, images=_write(path, images, camera, layout))


def _write(
    path: Path, images: Sequence[Mapping[Place, bytes]], camera: Camera, layout: Layout
) -> Places:
    across, down = layout.images_across // camera.images, layout.images_down // camera.images
    boxes0 = [camera.box0((column, row)) for row, column in product(range(down), range(across))]
    data, places, positions = data_file(
        images, positions_buffer((box0.x, box0.y) for box0 in boxes0)
    )
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"MRXS")
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(index_file(places, positions, layout))
    (folder / "Slidedat.ini").write_text(slidedat(layout), encoding="utf-8")
    return places


def _images(rgb: Rgb, photos0: Mapping[Place, Box], camera: Camera) -> dict[Place, Rgb]:
    """Return the images of all photos."""
    side = camera.image_px
    found = {}
    for (column, row), box0 in photos0.items():
        photo = _seen(rgb, box0)
        for x, y in product(range(camera.images), repeat=2):
            place = (column * camera.images + x, row * camera.images + y)
            found[place] = photo[y * side : (y + 1) * side, x * side : (x + 1) * side]
    return found


def _seen(rgb: Rgb, box0: Box) -> Rgb:
    photo = np.full((box0.height, box0.width, 3), WHITE, np.uint8)
    part = rgb[max(box0.y, 0) : box0.y_end, max(box0.x, 0) : box0.x_end]
    top, left = max(-box0.y, 0), max(-box0.x, 0)
    photo[top : top + part.shape[0], left : left + part.shape[1]] = part
    return photo


def _joined(images: Mapping[Place, Rgb], shrink: int, side: int) -> dict[Place, Rgb]:
    """Return the next level: 2 x 2 images halved and joined, by the place of the first of them."""
    found: dict[Place, Rgb] = {}
    for (column, row), image in images.items():
        place = (column // shrink * shrink, row // shrink * shrink)
        whole = found.setdefault(place, np.full((side, side, 3), WHITE, np.uint8))
        half = side // 2
        x, y = (column - place[0]) * 2 // shrink * half, (row - place[1]) * 2 // shrink * half
        whole[y : y + half, x : x + half] = cv2.resize(
            image, (half, half), interpolation=cv2.INTER_AREA
        )
    return found


def _encoded(images: Mapping[Place, Rgb], image_format: ImageFormat) -> dict[Place, bytes]:
    def encode(image: Rgb) -> bytes:
        if image_format == "PNG":
            return bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))
        return encoded(image, colours="ycbcr", subsampling="444", quality=85, marks="jfif")

    return {place: encode(image) for place, image in images.items()}
