"""PNG and JPEG pictures as slides of one level."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.pixels import decode_jpeg, on_white
from wsi_pipeline.slides.bands import read_in_bands
from wsi_pipeline.slides.reader import RgbOrError, SlideInfo, check_window, level_of

MAX_PX = 1 << 28
"""Most pixels of a picture that has to be decoded whole: 16 384 x 16 384, 768 MiB as RGB."""

# Ours is the limit that counts, and it is looked at before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# A scanner's colour profile of 1.7 MB is no attack.
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 26

_EIGHT_BIT_MODES = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}


class FlatReader:
    """A picture, decoded whole at the first read: these formats have no parts to seek to."""

    def __init__(self, path: Path, *, reason: str) -> None:
        self._path = path
        self._pixels: Rgb | None = None
        with _open(path) as image:
            size = Size(width=image.width, height=image.height)
            self.info = SlideInfo(
                backend="flat",
                backend_reason=reason,
                format=(image.format or "unknown").lower(),
                levels=(level_of(size, size),),
                bounds0=Box(x=0, y=0, width=size.width, height=size.height),
                mpp_note="flat pictures do not say",  # their dots per inch are the screen's or the printer's
                channels=_EIGHT_BIT_MODES[image.mode],
                icc_profile=image.info.get("icc_profile"),
            )

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; transparent is white."""
        check_window(self.info, level, window_px)
        if self._pixels is None:
            self._pixels = _decode(self._path)
        rows = slice(window_px.y, window_px.y_end)
        columns = slice(window_px.x, window_px.x_end)
        return np.array(self._pixels[rows, columns])

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows, neighbours read together."""
        return read_in_bands(self, level, windows_px)

    def close(self) -> None:
        """Let the pixels go."""
        self._pixels = None


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise SlideError(f"not a picture that can be opened ({error})") from error
    if image.width * image.height > MAX_PX:
        image.close()
        raise SlideError(
            f"{image.width} x {image.height} px in a format that must be decoded whole; "
            "convert it to a tiled TIFF, e.g. vips tiffsave --tile --pyramid"
        )
    if image.mode not in _EIGHT_BIT_MODES:
        image.close()
        raise SlideError(
            f"expected 8 bits a channel, got mode {image.mode}; export it as 8-bit RGB or gray"
        )
    return image


def _decode(path: Path) -> Rgb:
    try:
        with _open(path) as image:
            if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
                return on_white(np.asarray(image.convert("RGBA")))
            if image.format == "JPEG" and image.mode in {"RGB", "L"}:
                return decode_jpeg(path.read_bytes())
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise SlideError(
            f"its pixels cannot be decoded ({error}); the file is damaged or cut off"
        ) from error
