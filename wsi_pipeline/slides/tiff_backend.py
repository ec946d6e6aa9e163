"""TIFF files through tifffile: OME-TIFF, and plain TIFF that OpenSlide refuses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import WHITE, Box, Rgb, Size
from wsi_pipeline.pixels import on_white
from wsi_pipeline.slides.reader import SlideInfo, check_window, level_of, plausible_mpp

_JPEG_END = b"\xff\xd9"
_UM_PER = {"µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "nm": 1e-3}


class TiffReader:
    """Reads the tiles or strips that a window touches, and no others."""

    def __init__(self, path: Path, *, reason: str) -> None:
        try:
            self._tiff = tifffile.TiffFile(path)
            self._pages = [level.keyframe for level in self._tiff.series[0].levels]
            self.info = _info(self._tiff, self._pages, reason)
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(f"tifffile cannot open it ({error}); is the file complete?") from error

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; tiles that the file leaves out are white."""
        check_window(self.info, level, window_px)
        page = self._pages[level]
        out = np.full((window_px.height, window_px.width, 3), WHITE, dtype=np.uint8)
        for index in _touched_segments(page, window_px):
            self._paste(page, index, window_px, out)
        return out

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def _paste(self, page: Any, index: int, window_px: Box, out: Rgb) -> None:
        """Decode one tile or strip and copy the part that is inside the window."""
        count = page.databytecounts[index]
        if count == 0:
            return
        try:
            data = self._bytes(page, index)
            pixels, position, shape = page.decode(data, index, jpegtables=page.jpegtables)
        except TileError:
            raise
        except Exception as error:
            raise TileError(f"segment {index}, {window_px}: {error}") from error
        segment_px = Box(x=position[3], y=position[2], width=shape[2], height=shape[1])
        if part := segment_px.intersection(window_px):
            out[
                part.y - window_px.y : part.y_end - window_px.y,
                part.x - window_px.x : part.x_end - window_px.x,
            ] = _as_rgb(pixels[0])[
                part.y - segment_px.y : part.y_end - segment_px.y,
                part.x - segment_px.x : part.x_end - segment_px.x,
            ]

    def _bytes(self, page: Any, index: int) -> bytes:
        count = page.databytecounts[index]
        handle = self._tiff.filehandle
        handle.seek(page.dataoffsets[index])
        data: bytes = handle.read(count)
        # libjpeg fills what is missing with gray and says nothing: look before it decodes.
        cut = page.compression == tifffile.COMPRESSION.JPEG and _JPEG_END not in data[-16:]
        if len(data) < count or cut:
            raise TileError(
                f"segment {index}: the file holds {len(data)} of {count} bytes, or its end is missing"
            )
        return data


def _touched_segments(page: Any, window_px: Box) -> list[int]:
    """Return the indices of the tiles or strips that a window touches, row by row."""
    width = page.tilewidth if page.is_tiled else page.imagewidth
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    across = -(-page.imagewidth // width)
    return [
        row * across + column
        for row in range(window_px.y // height, (window_px.y_end - 1) // height + 1)
        for column in range(window_px.x // width, (window_px.x_end - 1) // width + 1)
    ]


def _as_rgb(pixels: Any) -> Rgb:
    """Return one decoded segment ``(height, width, samples)`` as RGB, alpha laid over white."""
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        return on_white(pixels)
    rgb: Rgb = pixels
    return rgb


def _info(tiff: tifffile.TiffFile, pages: list[Any], reason: str) -> SlideInfo:
    series = tiff.series[0]
    page = pages[0]
    _check_layout(series, page)
    sizes = [Size(width=each.imagewidth, height=each.imagelength) for each in pages]
    mpp_x, mpp_y, note = plausible_mpp(*_mpp(tiff, page))
    return SlideInfo(
        backend="tifffile",
        backend_reason=reason,
        format="ome-tiff" if tiff.is_ome else "tiff",
        levels=tuple(level_of(size, sizes[0]) for size in sizes),
        bounds0=Box(x=0, y=0, width=sizes[0].width, height=sizes[0].height),
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        mpp_note=note,
        objective_power=_objective_power(tiff),
        channels=page.samplesperpixel,
        icc_profile=page.iccprofile,
    )


def _check_layout(series: Any, page: Any) -> None:
    """Refuse what is no 8-bit picture of one plane."""
    gray = page.photometric in {tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE}
    palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    expected = "expected 8-bit RGB or gray in one plane"
    if series.dtype != np.uint8 or series.axes not in {"YXS", "YX"} or palette:
        raise SlideError(
            f"{expected}, got {series.dtype} with axes {series.axes} {series.shape}; "
            "export the picture as 8-bit RGB"
        )
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE or page.samplesperpixel not in {1, 3, 4}:
        raise SlideError(
            f"{expected}, got {page.samplesperpixel} samples of {page.photometric.name}"
        )
    if page.samplesperpixel > 1 and (gray or page.planarconfig == tifffile.PLANARCONFIG.SEPARATE):
        raise SlideError(f"{expected}, got {page.samplesperpixel} separate planes")


def _mpp(tiff: tifffile.TiffFile, page: Any) -> tuple[float | None, float | None]:
    """Return µm/px from OME-XML, or from the resolution tags where they state a length."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_length(tiff.ome_metadata, "X"), _ome_length(tiff.ome_metadata, "Y")
    um_per_unit = {2: 25_400.0, 3: 10_000.0}.get(int(page.resolutionunit))  # inch, centimetre
    if um_per_unit is None or "XResolution" not in page.tags or not all(page.resolution):
        return None, None
    return um_per_unit / page.resolution[0], um_per_unit / page.resolution[1]


def _ome_length(xml: str, axis: str) -> float | None:
    size = re.search(rf'PhysicalSize{axis}="([^"]+)"', xml)
    if size is None:
        return None
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
    scale = _UM_PER.get(unit.group(1) if unit else "µm")
    try:
        return None if scale is None else float(size.group(1)) * scale
    except ValueError:
        return None


def _objective_power(tiff: tifffile.TiffFile) -> float | None:
    found = re.search(r'NominalMagnification="([0-9.]+)"', tiff.ome_metadata or "")
    return float(found.group(1)) if found else None
