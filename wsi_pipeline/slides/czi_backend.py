"""Zeiss CZI, through pylibCZIrw: one plane of 8-bit colour or gray, stored as tiles of a mosaic.

Level-0 pixels here begin at the top-left corner of what was scanned, all scenes together; in the
file that corner lies anywhere, also at negative places. What no tile covers is white.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray
from pylibCZIrw import czi

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import WHITE, Box, Mask, Rgb, Size
from wsi_pipeline.pixels import resized_by_area
from wsi_pipeline.slides.bands import read_in_bands
from wsi_pipeline.slides.reader import Level, RgbOrError, SlideInfo, check_window, plausible_mpp

CACHE_BYTES = 320 << 20
"""Most decoded tiles kept: two rows of a scan 24 000 px wide (docs/concepts/czi.md, speed)."""

STRIP_PX = 1 << 24
"""Most pixels read at once where a level is averaged from a finer layer: 48 MiB."""

_CHANNELS = {"Bgr24": 3, "Gray8": 1}
_TO_RGB = {"Bgr24": cv2.COLOR_BGR2RGB, "Gray8": cv2.COLOR_GRAY2RGB}
_LAYERS = tuple(1 << power for power in range(16))
_AXES = {"C": "channels", "Z": "focal planes", "T": "time points"}
_DISTANCE = "Metadata/Scaling/Items/Distance"
_INSTRUMENT = "Metadata/Information/Instrument"
_SLACK = 1.02  # edge tiles of a layer are rounded up to whole stored pixels

_Rects: TypeAlias = NDArray[np.int64]
"""Left, top, right, bottom of tiles in level-0 pixels, ``(count, 4)``."""


class CziReader:
    """Reads 8-bit CZI mosaics. libCZI keeps decoded tiles, so one thread uses one reader.

    ``scenes0`` says what each scene covers, by its number; it is empty where the file has none.
    """

    def __init__(self, path: Path, *, reason: str) -> None:
        self._closing = ExitStack()
        try:
            cache = czi.CacheOptions(max_memory_usage=CACHE_BYTES)
            self._czi = self._closing.enter_context(czi.open_czi(str(path), cache_options=cache))
            self._mosaic = _mosaic(self._czi)
            self.scenes0 = self._mosaic.scenes0
            self.info = _info(self._mosaic, self._czi.raw_metadata, reason=reason)
        except Exception as error:  # libCZI raises what its parsers happen to raise
            self.close()
            if isinstance(error, SlideError):
                raise
            raise SlideError(
                f"pylibCZIrw cannot open it ({_words(error)}); is the file complete? "
                "compare its size with the original's"
            ) from error

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; what was not scanned is white.

        libCZI does not notice damage inside a JPEG XR or an uncompressed tile (docs/concepts/czi.md).
        """
        check_window(self.info, level, window_px)
        try:
            if level == 0:
                return self._stored(1, window_px)
            return self._level(round(self.info.levels[level].downsample_x), window_px)
        except Exception as error:  # libCZI raises what its decoders happen to raise
            raise TileError(f"level {level}, {window_px}: {_words(error)}") from error

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows, neighbours read together; libCZI keeps decoded tiles for the next row."""
        return read_in_bands(
            self, level, windows_px, at_once=lambda hull: self._is_of_one_layer(level, hull)
        )

    def close(self) -> None:
        """Close the file."""
        self._closing.close()

    def _is_of_one_layer(self, level: int, window_px: Box) -> bool:
        """Whether every part of a window is read from the layer that the whole is read from."""
        shrink = round(self.info.levels[level].downsample_x)
        return level == 0 or self._mosaic.deepest(shrink, window_px) == shrink

    def _level(self, shrink: int, window_px: Box) -> Rgb:
        """Return a window from the coarsest layer that holds all of it: scenes differ in depth."""
        layer = self._mosaic.deepest(shrink, window_px)
        rgb = self._averaged(layer, shrink, window_px)
        touched = self._mosaic.covered(1, shrink, window_px, outward=True)
        if not touched.all():
            rgb[~touched] = WHITE  # whatever the pyramid was filled with
        return rgb

    def _averaged(self, layer: int, shrink: int, window_px: Box) -> Rgb:
        ratio, width = shrink // layer, window_px.width
        if ratio == 1:
            return self._stored(layer, window_px)
        rgb = np.empty((window_px.height, width, 3), dtype=np.uint8)
        rows = max(1, STRIP_PX // (width * ratio * ratio))
        for row in range(0, window_px.height, rows):
            height = min(rows, window_px.height - row)
            strip_px = Box(x=window_px.x, y=window_px.y + row, width=width, height=height)
            strip = self._stored(layer, _scaled(strip_px, ratio))
            rgb[row : row + height] = resized_by_area(strip, width=width, height=height)
        return rgb

    def _stored(self, layer: int, window_px: Box) -> Rgb:
        """Return a window of a layer tile by tile: libCZI leaves some seams white between several."""
        if layer == 1:
            return self._painted(1, window_px)
        rgb = np.full((window_px.height, window_px.width, 3), WHITE, dtype=np.uint8)
        for tile0 in self._mosaic.meeting(layer, _scaled(window_px, layer)):
            x, y, x_end, y_end = ((place + layer // 2) // layer for place in tile0)
            part = Box(x=x, y=y, width=x_end - x, height=y_end - y).intersection(window_px)
            if part is not None:
                inside = _scaled(replace(part, x=part.x - x, y=part.y - y), layer)
                part0 = replace(inside, x=tile0[0] + inside.x, y=tile0[1] + inside.y)
                rows = slice(part.y - window_px.y, part.y_end - window_px.y)
                columns = slice(part.x - window_px.x, part.x_end - window_px.x)
                rgb[rows, columns] = self._painted(layer, part0)
        return rgb

    def _painted(self, layer: int, window0: Box) -> Rgb:
        """Return level-0 pixels at a layer's zoom as libCZI paints them, the highest M on top."""
        left, top = self._mosaic.corner
        pixels = self._czi.read(
            roi=(left + window0.x, top + window0.y, window0.width, window0.height),
            zoom=1 / layer,
            pixel_type=self._mosaic.pixel_type,
            background_pixel=(1.0, 1.0, 1.0),
        )
        rgb: Rgb = cv2.cvtColor(pixels, _TO_RGB[self._mosaic.pixel_type])
        return rgb


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mosaic:
    """Where tiles lie, as the file's directory says."""

    layers: dict[int, _Rects]
    """Tiles of level 0 and of the pyramid, by level-0 pixels per stored pixel: 1, 2, 4 and on."""
    scenes0: Mapping[int, Box]
    corner: tuple[int, int]
    """Left and top of level-0 pixels in the file's."""
    pixel_type: str

    def meeting(self, layer: int, box0: Box) -> list[list[int]]:
        """Return the tiles of a layer that have pixels in a box."""
        rects = self.layers[layer]
        meets = (rects[:, :2] < (box0.x_end, box0.y_end)) & (rects[:, 2:] > (box0.x, box0.y))
        found: list[list[int]] = rects[meets.all(axis=1)].tolist()
        return found

    def deepest(self, shrink: int, window_px: Box) -> int:
        """Return the coarsest layer up to a level's that holds all that was scanned of a window."""
        scanned = self.covered(1, shrink, window_px, outward=False)
        return next(
            layer
            for layer in reversed(self.layers)
            if layer <= shrink
            and not (scanned & ~self.covered(layer, shrink, window_px, outward=True)).any()
        )

    def covered(self, layer: int, shrink: int, window_px: Box, *, outward: bool) -> Mask:
        """Return which pixels of a window a layer's tiles touch, or, not outward, cover whole."""
        mask = np.zeros((window_px.height, window_px.width), dtype=np.bool_)
        more = (0, shrink - 1) if outward else (shrink - 1, 0)  # of starts and ends, to round them
        for x0, y0, x0_end, y0_end in self.meeting(layer, _scaled(window_px, shrink)):
            x, y = ((at + more[0]) // shrink for at in (x0, y0))
            x_end, y_end = ((at + more[1]) // shrink for at in (x0_end, y0_end))
            rows = slice(max(0, y - window_px.y), max(0, y_end - window_px.y))
            mask[rows, max(0, x - window_px.x) : max(0, x_end - window_px.x)] = True
        return mask


def _mosaic(opened: czi.CziReader) -> _Mosaic:
    """Return where tiles lie, or raise SlideError where they are no 8-bit picture of one plane."""
    entries: Any = []
    opened.enumerate_subblocks(lambda _, entry: entries.append(entry) is None)  # True: go on
    layers = np.array([_layer(entry.get_zoom()) for entry in entries])
    if 1 not in layers:
        raise SlideError("expected tiles of level 0, got none; export the slide again from ZEN")
    _check_plane(entries)
    boxes = [(each.x, each.y, each.w, each.h) for each in (entry.logicalRect for entry in entries)]
    starts, sizes = np.hsplit(np.array(boxes, dtype=np.int64), 2)  # (count, 2) each
    left, top = starts[layers == 1].min(axis=0).tolist()
    rects = np.hstack((starts, starts + sizes)) - (left, top, left, top)
    scenes = np.array([entry.coordinate.to_dict().get("S", -1) for entry in entries])
    return _Mosaic(
        layers={layer: rects[layers == layer] for layer in _LAYERS if layer in layers},
        scenes0={
            scene: _hull(rects[(scenes == scene) & (layers == 1)])
            for scene in sorted(set(scenes[layers == 1].tolist()) - {-1})
        },
        corner=(left, top),
        pixel_type=entries[0].pixelType.name,
    )


def _check_plane(entries: list[Any]) -> None:
    """Refuse what is no 8-bit picture of one plane."""
    expected = "expected one plane of 8-bit colour (Bgr24) or gray (Gray8)"
    types = sorted({entry.pixelType.name for entry in entries})
    if len(types) > 1 or not _CHANNELS.keys() >= set(types):
        raise SlideError(f"{expected}, got {' and '.join(types)}; export it from ZEN as 8-bit RGB")
    coordinates = [entry.coordinate.to_dict() for entry in entries]
    for axis in sorted({axis for each in coordinates for axis in each} - {"S"}):  # S is the scene
        if (count := len({each.get(axis) for each in coordinates})) > 1:
            name = _AXES.get(axis, f"places along {axis}")
            raise SlideError(f"{expected}, got {count} {name}; export one of them from ZEN")


def _layer(zoom: float) -> int:
    """Return level-0 pixels per stored pixel, or 0 where libCZI would pass over the tile.

    At a zoom of 1/4 it paints tiles of 1/4 and more, and at no power of two its sizes are not exact.
    """
    layer = round(1 / zoom)
    return layer if layer in _LAYERS and 1 <= zoom * layer <= _SLACK else 0


def _hull(rects: _Rects) -> Box:
    x, y, x_end, y_end = np.hstack((rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0))).tolist()
    return Box(x=x, y=y, width=x_end - x, height=y_end - y)


def _scaled(box: Box, by: int) -> Box:
    return Box(x=box.x * by, y=box.y * by, width=box.width * by, height=box.height * by)


def _info(mosaic: _Mosaic, xml: str, *, reason: str) -> SlideInfo:
    bounds0 = _hull(mosaic.layers[1])
    sizes_px = {by: (-(-bounds0.width // by), -(-bounds0.height // by)) for by in mosaic.layers}
    about = ElementTree.fromstring(xml)  # noqa: S314  expat bounds what entities may grow to
    metres = [about.findtext(f"{_DISTANCE}[@Id='{axis}']/Value") for axis in "XY"]
    mpp_x, mpp_y, note = plausible_mpp(*(_number(text, times=1e6) for text in metres))
    microscope = about.find(f"{_INSTRUMENT}/Microscopes/Microscope")
    power = about.findtext(f"{_INSTRUMENT}/Objectives/Objective/NominalMagnification")
    return SlideInfo(
        backend="pylibCZIrw",
        backend_reason=reason,
        format="czi",
        levels=tuple(
            Level(size_px=Size(width=width, height=height), downsample_x=by, downsample_y=by)
            for by, (width, height) in sizes_px.items()
        ),
        bounds0=bounds0,
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        mpp_note=note,
        objective_power=_number(power, times=1),
        scanner=None if microscope is None else microscope.get("Name"),
        channels=_CHANNELS[mosaic.pixel_type],
    )


def _number(text: str | None, *, times: float) -> float | None:
    try:
        return None if text is None else float(text) * times
    except ValueError:
        return None


def _words(error: Exception) -> str:
    """Return the first line of what libCZI says, which may be a page with control characters."""
    return " ".join(str(error).partition("\n")[0].split())
