"""PNG, JPEG, deep TIFF and single DICOM pictures as slides of one level."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Gray, Rgb, Size
from wsi_pipeline.pixels import decode_jpeg, gray_to_rgb, on_white
from wsi_pipeline.slides.bands import read_in_bands
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, check_window, level_of
from wsi_pipeline.slides.window_level import to_eight_bits, window_of

MAX_PX = 1 << 28
"""Most pixels of a picture that has to be decoded whole: 16 384 x 16 384, 768 MiB as RGB."""

# Ours is the limit that counts, and it is looked at before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# A scanner's colour profile of 1.7 MB is no attack.
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 26

_EIGHT_BIT_MODES = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}
_DEEP_MODES = {"I;16": 1, "I;16B": 1, "I;16L": 1, "I": 1}


@dataclass(slots=True, kw_only=True)
class FlatReader:
    """A picture, decoded whole at the first read: these formats have no parts to seek to."""

    info: SlideInfo
    decode: Callable[[], Rgb]
    """Returns all of it, or raises SlideError."""
    _pixels: Rgb | None = field(default=None, repr=False)

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; transparent is white."""
        check_window(self.info, level, window_px)
        if self._pixels is None:
            self._pixels = self.decode()
        rows = slice(window_px.y, window_px.y_end)
        columns = slice(window_px.x, window_px.x_end)
        return np.array(self._pixels[rows, columns])

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows, neighbours read together."""
        return read_in_bands(self, level, windows_px)

    def close(self) -> None:
        """Let the pixels go."""
        self._pixels = None


def flat_info(size: Size, *, reason: str, kind: str, channels: int) -> SlideInfo:
    """Return what is known of a picture of one level."""
    return SlideInfo(
        backend="flat",
        backend_reason=reason,
        format=kind,
        levels=(level_of(size, size),),
        bounds0=Box(x=0, y=0, width=size.width, height=size.height),
        mpp_note="flat pictures do not say",  # their dots per inch are the screen's or the printer's
        channels=channels,
    )


def check_size(size: Size) -> None:
    """Refuse a picture that does not fit into memory.

    Raises
    ------
    SlideError
        It has more than ``MAX_PX`` pixels.
    """
    if size.width * size.height > MAX_PX:
        raise SlideError(
            f"{size.width} x {size.height} px in a format that must be decoded whole; "
            "convert it to a tiled TIFF, e.g. vips tiffsave --tile --pyramid"
        )


def open_picture(path: Path, *, reason: str) -> FlatReader:
    """Return a reader of a PNG, a JPEG or a small TIFF.

    Raises
    ------
    SlideError
        It is none, is too large, or its colours are of a kind that is not known.
    """
    with _opened(path) as image:
        size = Size(width=image.width, height=image.height)
        check_size(size)
        channels = (_EIGHT_BIT_MODES | _DEEP_MODES).get(image.mode)
        if channels is None:
            raise SlideError(
                f"expected gray or RGB of 8 or 16 bits, got mode {image.mode}; export it so"
            )
        kind = (image.format or "unknown").lower()
        info = flat_info(size, reason=reason, kind=kind, channels=channels)
        info = replace_icc(info, image.info.get("icc_profile"))
    return FlatReader(info=info, decode=lambda: _decoded(path))


def open_deep_tiff(path: Path, *, reason: str) -> FlatReader:
    """Return a reader of a gray TIFF deeper than 8 bits.

    Raises
    ------
    SlideError
        It is damaged, too large, or not one gray plane.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            shape, axes = series.shape, series.axes
            inverted = series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    except Exception as error:
        raise SlideError(f"tifffile cannot open it ({error}); is the file complete?") from error
    if axes != "YX":
        raise SlideError(
            f"expected one plane, got axes {axes} of {shape}; export the picture as 8-bit RGB"
        )
    size = Size(width=shape[1], height=shape[0])
    check_size(size)

    def decode() -> Rgb:
        try:
            values = tifffile.imread(path, key=0)
        except Exception as error:
            raise SlideError(
                f"its pixels cannot be decoded ({error}); the file is damaged or cut off"
            ) from error
        return gray_as_rgb(to_eight_bits(values, window_of(values), inverted=inverted))

    return FlatReader(info=flat_info(size, reason=reason, kind="tiff", channels=1), decode=decode)


def gray_as_rgb(gray: Gray) -> Rgb:
    """Return gray ``(height, width)`` as RGB."""
    return gray_to_rgb(gray[..., np.newaxis])


def replace_icc(info: SlideInfo, profile: bytes | None) -> SlideInfo:
    """Return the same picture with its colour profile."""
    return replace(info, icc_profile=profile)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise SlideError(f"not a picture that can be opened ({error})") from error


def _decoded(path: Path) -> Rgb:
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                values = np.asarray(image)
                return gray_as_rgb(to_eight_bits(values, window_of(values)))
            if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
                return on_white(np.asarray(image.convert("RGBA")))
            if image.format == "JPEG" and image.mode in {"RGB", "L"}:
                return decode_jpeg(path.read_bytes())
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise SlideError(
            f"its pixels cannot be decoded ({error}); the file is damaged or cut off"
        ) from error
