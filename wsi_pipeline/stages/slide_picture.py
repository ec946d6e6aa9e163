"""Where a slide of a run lies, and the picture of it that maps are laid over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsi_pipeline.errors import SlideError
from wsi_pipeline.evaluate.maps.heat import MapFrame
from wsi_pipeline.files import read_bytes
from wsi_pipeline.geometry import WHITE, Box, Boxes, Rgb, Size
from wsi_pipeline.remote import is_url
from wsi_pipeline.report.overlay import CAPTION_PX
from wsi_pipeline.schema import IMPORTED
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.overview import overview_level, read_overview
from wsi_pipeline.stages.run_directory import RunDirectory, read_record

_LEAST_SIDE_PX = 800  # smaller pictures are enlarged: captions and outlines need room


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidePlace:
    """Where a slide's file and its pixels are."""

    slide_id: str
    path: str | None
    """Of the file; None for tiles that were imported."""
    bounds0: Box
    """The scanned part in level-0 pixels of the canvas; around all tiles where it is not known."""
    canvas0: Box
    mpp: tuple[float, float] | None
    """µm per level-0 pixel of both axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A picture of a slide, and where its pixels lie."""

    rgb: Rgb = field(repr=False)
    frame: MapFrame
    note: str | None = None
    """Why it is not from the slide itself."""


def place_of(run: Path, slide_id: str, boxes0: Boxes) -> SlidePlace:
    """Return what the run knows of where a slide is.

    Parameters
    ----------
    boxes0
        Its tiles, ``(tiles, 4)``, for a slide whose size is not known.
    """
    record = read_record(RunDirectory(path=run), slide_id)
    known = {} if record is None else record.values
    bounds0 = _bounds0(known, boxes0)
    mpp = known.get("mpp_x"), known.get("mpp_y")
    is_file = record is not None and known.get("backend") != IMPORTED
    return SlidePlace(
        slide_id=slide_id,
        path=record.path if record is not None and is_file else None,
        bounds0=bounds0,
        canvas0=Box(
            x=0,
            y=0,
            width=int(known.get("width") or bounds0.x_end),
            height=int(known.get("height") or bounds0.y_end),
        ),
        mpp=(float(mpp[0]), float(mpp[1])) if mpp[0] and mpp[1] else None,
    )


def ground_of(run: Path, place: SlidePlace, *, side_px: int) -> Ground:
    """Return the slide's picture: from its file, else as the run keeps it, else blank; never an error.

    Parameters
    ----------
    side_px
        Longest side, at the most.
    """
    try:
        return _enlarged(_from_file(place, side_px), side_px)
    except SlideError as error:
        why = str(error)
    rgb, what = _kept(run, place, side_px)
    return _enlarged(_over(rgb, place, f"{why}; its map lies over {what}"), side_px)


def _kept(run: Path, place: SlidePlace, side_px: int) -> tuple[Rgb, str]:
    """Return the run's own picture of a slide, or a blank one, and what it is."""
    kept = RunDirectory(path=run)
    plain = _read_image(kept.thumbnail(place.slide_id))
    if plain is not None:
        return plain, "the small picture that the run keeps"
    marked = _read_image(kept.overlay(place.slide_id))
    if marked is not None and marked.shape[0] > CAPTION_PX:
        return marked[:-CAPTION_PX], "the run's picture with its tiles drawn in"
    sides = place.bounds0.width, place.bounds0.height
    width, height = (max(1, round(side * min(1.0, side_px / max(sides)))) for side in sides)
    return np.full((height, width, 3), WHITE, np.uint8), "nothing"


def _from_file(place: SlidePlace, side_px: int) -> Ground:
    """Return the overview of a slide's file.

    Raises
    ------
    SlideError
        It is gone, remote or damaged, or there never was one.
    """
    if place.path is None:
        raise SlideError("its tiles were imported and there is no slide")
    if is_url(place.path):
        raise SlideError(f"{place.path} is remote")
    reader = open_slide(Path(place.path))
    try:
        if reader.info.bounds0 != place.bounds0:
            raise SlideError(
                f"{place.path} is not the slide that was cut: its scanned part differs"
            )
        level, shrink = overview_level(reader.info, max_side_px=side_px)
        overview = read_overview(reader, level=level, shrink=shrink)
    finally:
        reader.close()
    height, width = overview.rgb.shape[:2]
    frame = MapFrame(
        x0=overview.x0,
        y0=overview.y0,
        pitch_x=overview.downsample_x,
        pitch_y=overview.downsample_y,
        size_px=Size(width=width, height=height),
    )
    return Ground(rgb=overview.rgb, frame=frame)


def _over(rgb: Rgb, place: SlidePlace, note: str) -> Ground:
    """Return a picture of the scanned part."""
    height, width = rgb.shape[:2]
    frame = MapFrame(
        x0=place.bounds0.x,
        y0=place.bounds0.y,
        pitch_x=place.bounds0.width / width,
        pitch_y=place.bounds0.height / height,
        size_px=Size(width=width, height=height),
    )
    return Ground(rgb=rgb, frame=frame, note=note)


def _enlarged(ground: Ground, side_px: int) -> Ground:
    """Return a small picture a whole number of times as large."""
    height, width = ground.rgb.shape[:2]
    times = -(-min(_LEAST_SIDE_PX, side_px) // max(width, height))
    if times <= 1:
        return ground
    size_px = Size(width=width * times, height=height * times)
    frame = MapFrame(
        x0=ground.frame.x0,
        y0=ground.frame.y0,
        pitch_x=ground.frame.pitch_x / times,
        pitch_y=ground.frame.pitch_y / times,
        size_px=size_px,
    )
    rgb = cv2.resize(ground.rgb, (size_px.width, size_px.height), interpolation=cv2.INTER_LINEAR)
    return Ground(rgb=np.asarray(rgb, np.uint8), frame=frame, note=ground.note)


def _bounds0(known: Mapping[str, Any], boxes0: Boxes) -> Box:
    """Return the scanned part, or the box around tiles where it is not known."""
    sides = [known.get(f"bounds_{name}") for name in ("x", "y", "width", "height")]
    if all(side is not None for side in sides):
        x, y, width, height = (int(side) for side in sides if side is not None)
        return Box(x=x, y=y, width=width, height=height)
    x, y = (int(each) for each in boxes0[:, :2].min(axis=0))
    x_end, y_end = (int(each) for each in (boxes0[:, :2] + boxes0[:, 2:]).max(axis=0))
    return Box(x=x, y=y, width=x_end - x, height=y_end - y)


def _read_image(path: Path) -> Rgb | None:
    try:
        data = np.frombuffer(read_bytes(path), dtype=np.uint8)
    except OSError:
        return None
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
