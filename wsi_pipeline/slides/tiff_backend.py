"""TIFF files by their native tiles, each decoded once: SVS, Philips, generic and OME-TIFF.

tifffile says where tiles lie; OpenSlide, where it knows the file, says what the slide is.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from wsi_pipeline.errors import SlideError, TileError
from wsi_pipeline.geometry import WHITE, Box, Rgb, Size
from wsi_pipeline.slides.mosaic import Piece, read_mosaic
from wsi_pipeline.slides.openslide_backend import OpenSlideReader
from wsi_pipeline.slides.reader import (
    RgbOrError,
    SlideInfo,
    SlideReader,
    check_window,
    level_of,
    only_one,
    plausible_mpp,
)
from wsi_pipeline.slides.tiff_pages import (
    UnfitPageError,
    check_complete,
    check_directories,
    is_bare_ycbcr,
    page_of,
)
from wsi_pipeline.slides.tiff_tiles import NativeTiles, with_doubtful

logging.getLogger("tifffile").setLevel(
    logging.CRITICAL
)  # what it would log, we raise or work around

BY_OPENSLIDE = "tiff tiles"
"""Name of the backend that decodes tiles of files that OpenSlide describes."""

_UM_PER = {"µm": 1.0, "\u03bcm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "nm": 1e-3}
_PLAIN_GRIDS = frozenset(
    {"aperio", "generic-tiff", "philips", "ventana"}
)  # of OpenSlide's TIFFs; others overlap or offset tiles


_SAMPLES = {
    tifffile.PHOTOMETRIC.MINISBLACK: (1,),
    tifffile.PHOTOMETRIC.RGB: (3, 4),
    tifffile.PHOTOMETRIC.YCBCR: (3,),
}
"""Samples a pixel by what they are."""


class LayoutError(SlideError):
    """A TIFF's pixels are not stored as 8-bit RGB or gray in one plane."""

    @property
    def got(self) -> str:
        """How they are stored."""
        return str(self).partition(", got ")[2].partition(";")[0]


class TiffReader:
    """Decodes native tiles (or strips), each once for all the windows that are read together."""

    def __init__(
        self,
        tiff: tifffile.TiffFile,
        pages: Sequence[Any],
        *,
        info: SlideInfo,
        other: SlideReader | None = None,
    ) -> None:
        """Take a page per level; ``other`` reads what the file leaves out, which is else white."""
        self.info = info
        self._tiff = tiff
        self._other = other
        by_tag = info.backend == BY_OPENSLIDE
        levels = (
            with_doubtful(pages)
            if other is not None
            else [NativeTiles(page, by_tag=by_tag) for page in pages]
        )
        self._levels = [self._mosaic(level, native) for level, native in enumerate(levels)]

    def read(self, level: int, window_px: Box) -> Rgb:
        """Return the window; tiles that the file leaves out are white."""
        return only_one(self.read_many(level, [window_px]))

    def read_many(self, level: int, windows_px: Sequence[Box]) -> Iterator[RgbOrError]:
        """Yield the windows; a native tile is let go when the last window that touches it was read."""
        for window_px in windows_px:
            check_window(self.info, level, window_px)
        return read_mosaic(self._levels[level], level, windows_px)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()
        if self._other is not None:
            self._other.close()

    def _mosaic(self, level: int, native: NativeTiles) -> "_Tiles":
        size_px, other = self.info.levels[level].size_px, self._other
        page_px = Box(x=0, y=0, width=size_px.width, height=size_px.height)
        handle = self._tiff.filehandle
        return _Tiles(native=native, level=level, page_px=page_px, handle=handle, other=other)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tiles:
    """A level's native tiles side by side."""

    native: NativeTiles
    level: int
    page_px: Box
    handle: Any
    other: SlideReader | None
    has_gaps: bool = False

    @property
    def picture_bytes(self) -> int:
        return self.native.width * self.native.height * 3

    def pictures(self, window_px: Box) -> Sequence[int]:
        return list(self.native.touched(window_px))

    def pieces(self, window_px: Box) -> Iterator[Piece]:
        for index in self.native.touched(window_px):
            yield Piece(picture=index, box_px=self.native.box_px(index))

    def decoded(self, picture: int) -> RgbOrError:
        box_px = self.native.box_px(picture).intersection(self.page_px) or self.page_px
        try:
            if self.native.is_missing(picture):
                if self.other is not None:
                    return self.other.read(self.level, box_px)
                return np.full((box_px.height, box_px.width, 3), WHITE, dtype=np.uint8)
            tile = self.native.decode(picture, self.handle)
        except TileError as error:
            return error
        if tile.shape[0] < box_px.height or tile.shape[1] < box_px.width:
            return TileError(
                f"native tile {picture}: expected {box_px}, got {tile.shape[1]} x {tile.shape[0]} px"
            )
        return tile


def is_ome_tiff(path: Path) -> bool:
    """Whether a TIFF carries OME-XML."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return bool(tiff.is_ome)
    except Exception:  # noqa: BLE001  whoever opens it says what is wrong with it
        return False


def check_one_plane(path: Path) -> None:
    """Refuse a TIFF without a vendor whose channels or focal planes are pages: one of them would be shown.

    Raises
    ------
    SlideError
        It has several gray pages of the size of its first one.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            shapes = [page.aspage().shape for page in tiff.pages]
    except Exception:  # noqa: BLE001  whoever opens it says what is wrong with it
        return
    planes = shapes.count(shapes[0])
    if planes > 1 and len(shapes[0]) == 2:
        height, width = shapes[0]
        raise SlideError(
            f"expected one picture, got {planes} gray pages of {width} x {height} px, which are channels "
            "or focal planes; export one of them, or all as 8-bit RGB"
        )


def is_one_picture(path: Path) -> bool:
    """Whether a TIFF holds a single picture of at most 8 bits, all of it in its first page."""
    with tifffile.TiffFile(path) as tiff:
        axes, dtype = tiff.series[0].axes, tiff.series[0].dtype
        return len(tiff.pages) == 1 and axes in {"YX", "YXS", "SYX"} and dtype.itemsize == 1


def is_deep_gray_tiff(path: Path) -> bool:
    """Whether a TIFF's first picture is gray of more than 8 bits."""
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            return bool(
                series.axes == "YX" and series.dtype != np.uint8 and series.dtype.kind in "uif"
            )
    except Exception:  # noqa: BLE001  whoever opens it says what is wrong with it
        return False


def open_tiff(path: Path, *, reason: str) -> TiffReader:
    """Return a reader of a TIFF by what tifffile says of it.

    Raises
    ------
    LayoutError
        It is no 8-bit picture of one plane.
    SlideError
        The file is damaged.
    """
    _check_directory(path)
    with ExitStack() as opened:
        try:
            tiff = opened.enter_context(tifffile.TiffFile(path))
            pages = [level.keyframe for level in tiff.series[0].levels]
            check_directories(tiff)
            info = _info(tiff, pages, reason)
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(f"tifffile cannot open it ({error}); is the file complete?") from error
        opened.pop_all()
        return TiffReader(tiff, pages, info=info)


def _check_directory(path: Path) -> None:
    """Refuse a file that ends before its first directory, which many writers put last."""
    with path.open("rb") as handle:
        head = handle.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    is_big = head[2:4] in {b"+\x00", b"\x00+"}
    offset = int.from_bytes(head[8:16] if is_big else head[4:8], order)
    if offset >= path.stat().st_size:
        raise SlideError(
            f"cut off: its directory is at byte {offset}, the file ends at {path.stat().st_size}; "
            "copy it again from its source"
        )


def native_tiles_of(path: Path, slide: OpenSlideReader) -> TiffReader | str:
    """Return a reader of the native tiles of a slide that OpenSlide describes, or why there is none."""
    if slide.info.format not in _PLAIN_GRIDS:
        return f"{slide.info.format} is no plain grid of TIFF tiles"
    with ExitStack() as opened:
        try:
            tiff = opened.enter_context(tifffile.TiffFile(path))
            pages = [page_of(tiff, at.size_px, level) for level, at in enumerate(slide.info.levels)]
        except UnfitPageError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  OpenSlide can read it, whatever tifffile thinks
            return f"tifffile cannot read its directory ({error})"
        check_complete(tiff, pages)
        opened.pop_all()
    info = replace(
        slide.info,
        backend=BY_OPENSLIDE,
        backend_reason=f"{slide.info.format} TIFF, native tiles decoded once; metadata by OpenSlide",
    )
    if (
        slide.info.format == "aperio"
    ):  # it paints tiles that the file leaves out from the next level
        return TiffReader(tiff, pages, info=info, other=slide)
    slide.close()
    return TiffReader(tiff, pages, info=info)


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
    if series.dtype != np.uint8 or series.axes not in {"YXS", "YX"}:
        raise _layout_error(f"{series.dtype} with axes {series.axes} {series.shape}")
    if page.samplesperpixel not in _SAMPLES.get(page.photometric, ()) or is_bare_ycbcr(page):
        raise _layout_error(f"{page.samplesperpixel} samples of {page.photometric.name} a pixel")
    if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        raise _layout_error(f"{page.samplesperpixel} separate planes")


def _layout_error(got: str) -> LayoutError:
    return LayoutError(
        f"expected 8-bit RGB or gray in one plane, got {got}; export the picture as 8-bit RGB"
    )


def _mpp(tiff: tifffile.TiffFile, page: Any) -> tuple[float | None, float | None]:
    """Return µm/px from OME-XML, Aperio's description, or resolution tags that state a length."""
    if tiff.is_svs and (stated := re.search(r"\bMPP = (\d+\.?\d*)", page.description)):
        return float(stated[1]), float(stated[1])
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
