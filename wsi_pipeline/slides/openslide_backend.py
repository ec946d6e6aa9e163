"""Everything OpenSlide opens."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import openslide
import tifffile

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.pixels import on_white
from wsi_pipeline.slides.bands import read_alone, read_in_bands
from wsi_pipeline.slides.reader import Level, RgbOrError, SlideInfo, check_window, plausible_mpp

_BETWEEN_PIXELS = {"mirax": 1, "leica": 1, "ventana": 0}
"""The first level on which photos or areas may lie between pixels, by OpenSlide's name of the format."""


class OpenSlideReader:
    """Reads through OpenSlide; reopens the handle after an error, because its errors are sticky."""

    def __init__(self, path: Path, *, reason: str) -> None:
        self._path = path
        slide = _open(path)
        self._slide: openslide.OpenSlide | None = slide
        self.info = _info(slide, reason=reason, channels=_channels(path, slide))

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; what is transparent becomes white."""
        check_window(self.info, level, window_px)
        slide = self._opened()
        at = self.info.levels[level]
        location0 = (round(window_px.x * at.downsample_x), round(window_px.y * at.downsample_y))
        try:
            image = slide.read_region(location0, level, (window_px.width, window_px.height))
        except openslide.OpenSlideError as error:
            self.close()
            raise TileError(f"level {level}, {window_px}: {error}") from error
        return on_white(np.asarray(image))

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows, neighbours read together where their pixels do not depend on the window."""
        return (read_in_bands if self._is_whole(level) else read_alone)(self, level, windows_px)

    def close(self) -> None:
        """Close the handle; the next read opens it anew."""
        if self._slide is not None:
            self._slide.close()
            self._slide = None

    def _is_whole(self, level: int) -> bool:
        """Whether windows and native tiles begin on whole pixels, so that OpenSlide interpolates nothing.

        Interpolated pixels differ by one now and then when they are read from another corner.
        """
        at = self.info.levels[level]
        if not (at.downsample_x.is_integer() and at.downsample_y.is_integer()):
            return False  # a window's corner is given in level-0 pixels
        return level < _BETWEEN_PIXELS.get(self.info.format, len(self.info.levels))

    def _opened(self) -> openslide.OpenSlide:
        if self._slide is None:
            try:
                self._slide = _open(self._path)
            except SlideError as error:
                raise TileError(f"cannot be opened again after an error: {error}") from error
        return self._slide


def _open(path: Path) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(
            f"OpenSlide cannot open it ({error}); is the file complete? compare its size with the original's"
        ) from error


def _info(slide: openslide.OpenSlide, *, reason: str, channels: int) -> SlideInfo:
    properties = slide.properties
    mpp_x, mpp_y, note = plausible_mpp(
        _number(properties.get(openslide.PROPERTY_NAME_MPP_X)),
        _number(properties.get(openslide.PROPERTY_NAME_MPP_Y)),
    )
    return SlideInfo(
        backend="openslide",
        backend_reason=reason,
        format=properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown"),
        levels=_levels(slide),
        bounds0=_bounds0(slide),
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        mpp_note=note,
        objective_power=_number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
        scanner=_scanner(slide),
        channels=channels,
        associated=tuple(slide.associated_images),
        icc_profile=_icc_profile(slide),
    )


def _channels(path: Path, slide: openslide.OpenSlide) -> int:
    """Return how many samples a pixel has; OpenSlide turns gray generic TIFFs into RGB and does not say."""
    if slide.properties.get(openslide.PROPERTY_NAME_VENDOR) != "generic-tiff":
        return 3
    with tifffile.TiffFile(path) as tiff:
        return int(tiff.pages.first.samplesperpixel)


def _levels(slide: openslide.OpenSlide) -> tuple[Level, ...]:
    return tuple(
        Level(
            size_px=Size(width=width, height=height),
            downsample_x=downsample,
            downsample_y=downsample,
        )
        for (width, height), downsample in zip(
            slide.level_dimensions, slide.level_downsamples, strict=True
        )
    )


def _bounds0(slide: openslide.OpenSlide) -> Box:
    """Return where the file says pixels are, cut to the canvas, or the whole canvas."""
    width, height = slide.dimensions
    canvas0 = Box(x=0, y=0, width=width, height=height)
    names = (
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    )
    x, y, bounds_width, bounds_height = (_number(slide.properties.get(name)) for name in names)
    if x is None or y is None or not bounds_width or not bounds_height:
        return canvas0
    bounds0 = Box(x=int(x), y=int(y), width=int(bounds_width), height=int(bounds_height))
    return canvas0.intersection(bounds0) or canvas0


def _scanner(slide: openslide.OpenSlide) -> str | None:
    """Return the scanner's name or serial, from the property that its vendor writes."""
    for name in (
        "aperio.ScanScope ID",
        "hamamatsu.Product",
        "tiff.Model",
        "mirax.NONHIERLAYER_0_LEVEL_0_SECTION.SCANNER_HARDWARE_ID",
        "dicom.ManufacturerModelName",
        "ventana.ScannerModel",
        "leica.device-model",
        "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    ):
        if value := slide.properties.get(name, "").strip():
            return value
    return None


def _icc_profile(slide: openslide.OpenSlide) -> bytes | None:
    profile = slide.color_profile
    return None if profile is None else profile.tobytes()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
