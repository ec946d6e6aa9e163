"""3DHISTECH MRXS by its JPEG images, each decoded once and strictly.

OpenSlide says what the slide is. It decodes leniently and passes more than a quarter of damaged images on as
a picture (docs/decisions/0006-strict-jpeg.md); here one is an error of the windows that touch it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.pixels import decode_jpeg
from wsi_pipeline.slides.mosaic import Piece, read_mosaic
from wsi_pipeline.slides.mrxs_index import Integers, MrxsIndex, read_index
from wsi_pipeline.slides.mrxs_layers import Layer, layers_of
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, check_window, only_one

BACKEND = "mrxs images"
FORMAT = "mirax"
"""As OpenSlide names it."""


class MrxsReader:
    """Decodes stored images, each once for all the windows that are read together.

    Where photos lie between the pixels of a level, OpenSlide interpolates: such levels are read through
    it, after their images were decoded and found whole.
    """

    def __init__(self, index: MrxsIndex, *, info: SlideInfo, slide: OpenSlideReader) -> None:
        """Take what the files say, and what OpenSlide says of the slide."""
        self.info = info
        self._slide = slide
        self._files = _Files(paths=index.files)
        self._levels = [
            _Images(layer=layer, records=records, files=self._files)
            for layer, records in zip(layers_of(index), index.records, strict=True)
        ]

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; what was not scanned is white."""
        return only_one(self.read_many(level, [window_px]))

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows; an image is let go when the last window that touches it was read."""
        for window_px in windows_px:
            check_window(self.info, level, window_px)
        if self._levels[level].layer.is_whole:
            return read_mosaic(self._levels[level], level, windows_px)
        return self._interpolated(level, windows_px)

    def close(self) -> None:
        """Close the files."""
        self._files.close()
        self._slide.close()

    def between_pixels(self) -> list[int]:
        """Return the levels that OpenSlide interpolates."""
        return [level for level, at in enumerate(self._levels) if not at.layer.is_whole]

    def _interpolated(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        images = self._levels[level]
        errors = [images.damage(window_px) for window_px in windows_px]
        whole = [at for at, error in zip(windows_px, errors, strict=True) if error is None]
        reads = self._slide.read_many(level, whole)
        for window_px, error in zip(windows_px, errors, strict=True):
            if error is None:
                yield next(reads)
            else:
                yield TileError(f"level {level}, {window_px}: {error}")


def native_images_of(path: Path, slide: OpenSlideReader) -> MrxsReader | str:
    """Return a reader of the images of a slide that OpenSlide describes, or why there is none.

    Raises
    ------
    SlideError
        A file of images is missing or cut off.
    """
    if slide.info.format != FORMAT:
        return f"{slide.info.format} is no MRXS"
    try:
        index = read_index(path)
    except (ValueError, OSError) as error:
        return f"its index is not as expected ({error})"
    formats = {zoom.image_format for zoom in index.zooms}
    if formats != {"JPEG"}:
        return f"its images are no JPEGs but {' and '.join(sorted(formats))}"
    _check_complete(index)
    reader = MrxsReader(index, info=slide.info, slide=slide)
    between = reader.between_pixels()
    reason = "MRXS images decoded once; metadata by OpenSlide"
    if between:
        names = ", ".join(map(str, between))
        reason += f"; photos lie between the pixels of level {names}, interpolated by OpenSlide"
    else:
        slide.close()
    reader.info = replace(slide.info, backend=BACKEND, backend_reason=reason)
    return reader


def _check_complete(index: MrxsIndex) -> None:
    """Refuse a slide of which images are missing.

    Raises
    ------
    SlideError
        A file is not there, or ends before its images do.
    """
    for file, needed in zip(index.files, index.bytes_needed(), strict=True):
        if needed == 0:
            continue
        try:
            size_bytes = file.stat().st_size
        except OSError as error:
            raise SlideError(
                f"{file.parent.name}/{file.name} cannot be read ({error.strerror}); "
                "copy the slide's folder again from its source"
            ) from error
        if needed > size_bytes:
            raise SlideError(
                f"cut off: its images reach to byte {needed} of {file.name}, which ends at {size_bytes}; "
                "copy it again from its source"
            )


@dataclass(slots=True, kw_only=True)
class _Files:
    """The files of images, opened when first read."""

    paths: Sequence[Path]
    _opened: dict[int, BinaryIO] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a file, fewer where it ends."""
        if number not in self._opened:
            self._opened[number] = self._closing.enter_context(self.paths[number].open("rb"))
        self._opened[number].seek(offset)
        return self._opened[number].read(length)

    def close(self) -> None:
        """Close them; the next read opens them anew."""
        self._opened.clear()
        self._closing.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """A level's stored images."""

    layer: Layer
    records: Integers
    files: _Files
    has_gaps: bool = True
    damages: dict[int, TileError | None] = field(default_factory=dict)
    """What was found of images that were decoded only to see whether they are whole."""

    @property
    def picture_bytes(self) -> int:
        width, height = self.layer.image_px
        return width * height * 3

    def pictures(self, window_px: Box) -> Sequence[int]:
        images: list[int] = self.layer.images[self.layer.touched(window_px)].tolist()
        return list(dict.fromkeys(images))

    def pieces(self, window_px: Box) -> Iterator[Piece]:
        layer, touched = self.layer, self.layer.touched(window_px)
        width, height = map(round, layer.piece_px)
        for picture, (x, y), (column, row) in zip(
            layer.images[touched].tolist(),
            np.rint(layer.corners[touched]).astype(np.int64).tolist(),
            np.rint(layer.inside[touched]).astype(np.int64).tolist(),
            strict=True,
        ):
            box_px = Box(x=x, y=y, width=width, height=height)
            yield Piece(picture=picture, box_px=box_px, corner=(column, row))

    def decoded(self, picture: int) -> RgbOrError:
        number, offset, length, file = self.records[picture].tolist()
        name = f"{self.files.paths[file].name}, image {number}"
        try:
            data = self.files.read(file, offset, length)
            if len(data) < length:
                return TileError(f"{name}: the file holds {len(data)} of its {length} bytes")
            rgb = decode_jpeg(data)
        except (OSError, ValueError) as error:
            return TileError(f"{name}: {error}")
        width, height = self.layer.image_px
        if rgb.shape != (height, width, 3):
            found = f"{rgb.shape[1]} x {rgb.shape[0]}"
            return TileError(f"{name}: expected {width} x {height} px, got {found}")
        return rgb

    def damage(self, window_px: Box) -> TileError | None:
        """Return why the first image that a window touches cannot be decoded, or None."""
        for picture in self.pictures(window_px):
            if picture not in self.damages:
                found = self.decoded(picture)
                self.damages[picture] = found if isinstance(found, TileError) else None
            if (error := self.damages[picture]) is not None:
                return error
        return None
