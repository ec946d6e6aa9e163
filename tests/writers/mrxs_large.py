"""Large MRXS slides, written row by row of photos: no more than one row is in the memory."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from tests.writers.jpeg import encoded
from tests.writers.mrxs import Camera
from tests.writers.mrxs_files import (
    Layout,
    Places,
    data_files,
    index_file,
    positions_buffer,
    slidedat,
)
from wsi_pipeline.geometry import WHITE, Box, Rgb, Size


def write_large_mrxs(
    path: Path,
    seen: Callable[[Box], Rgb],
    size0: Size,
    *,
    camera: Camera,
    zoom_levels: int = 6,
) -> Places:
    """Write a slide of at least this size and return where its images lie.

    ``seen`` gives the pixels of each photo; the last ones reach past the size. JPEG of quality 80 with
    halved colours.
    """
    across, down = camera.across(size0.width), camera.across(size0.height)
    layout = Layout(
        images_across=across * camera.images,
        images_down=down * camera.images,
        images_per_photo=camera.images,
        image_px=camera.image_px,
        overlap_px=camera.overlap_px,
        zoom_levels=zoom_levels,
        image_format="JPEG",
    )
    folder, side = path.with_suffix(""), camera.image_px
    folder.mkdir()
    with (folder / "Data0000.dat").open("wb") as data:
        data.write(data_files([], b"", 1)[0][0])  # its head
        pyramid = _Pyramid(data, layout)
        for row in range(down):
            photos = [seen(camera.box0((column, row))) for column in range(across)]
            whole = np.hstack(photos)  # (photo, across * photo, 3): images side by side
            for y in range(camera.images):
                pyramid.add(0, row * camera.images + y, whole[y * side : (y + 1) * side])
        boxes0 = [camera.box0((column, row)) for row, column in product(range(down), range(across))]
        positions = positions_buffer(((box0.x, box0.y) for box0 in boxes0), layout.positions)
        extent = (data.tell(), len(positions), 0)
        data.write(positions)
    (folder / "Index.dat").write_bytes(index_file(pyramid.places, extent, layout))
    (folder / "Slidedat.ini").write_text(slidedat(layout), encoding="utf-8")
    path.write_bytes(b"MRXS")
    return pyramid.places


class _Pyramid:
    """Writes rows of images, and each two rows, halved, as a row of the next zoom level."""

    def __init__(self, data: BinaryIO, layout: Layout) -> None:
        self.places: Places = {}
        self._data = data
        self._layout = layout
        self._upper: dict[int, Rgb] = {}

    def add(self, zoom: int, row: int, images: Rgb) -> None:
        """Write a row of images ``(side, count * side, 3)``; rows of a level come in order."""
        self._write(zoom, row, images)
        if zoom + 1 == self._layout.zoom_levels:
            return
        half = _halved(images, self._layout.image_px)
        if row % 2:
            self.add(zoom + 1, row // 2, np.vstack([self._upper.pop(zoom), half]))
        elif row + 1 == -(-self._layout.images_down >> zoom):
            self.add(zoom + 1, row // 2, np.vstack([half, np.full_like(half, WHITE)]))
        else:
            self._upper[zoom] = half

    def _write(self, zoom: int, row: int, images: Rgb) -> None:
        side = self._layout.image_px
        for column in range(images.shape[1] // side):
            image = np.ascontiguousarray(images[:, column * side : (column + 1) * side])
            stored = encoded(image, colours="ycbcr", subsampling="420", quality=80, marks="jfif")
            place = (column << zoom, row << zoom)
            self.places[zoom, place] = (self._data.tell(), len(stored), 0)
            self._data.write(stored)


def _halved(images: Rgb, side: int) -> Rgb:
    """Return a row at half its size, filled up with white to whole images."""
    half = cv2.resize(images, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.copyMakeBorder(
            half, 0, 0, 0, -half.shape[1] % side, cv2.BORDER_CONSTANT, value=[WHITE] * 3
        )
    )
