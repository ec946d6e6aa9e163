"""A map of probabilities as a pyramidal OME-TIFF, which viewers lay over the slide by its size in µm.

8 bits of gray in place of floating point: every viewer shows 0 to 255 as it is, where it would stretch other
numbers between the least and the largest of each slide; and none agree on what NaN looks like.
"""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_pipeline.evaluate.maps.heat import MapFrame, SlideHeat, as_bytes, painted_rows
from wsi_pipeline.files import published

TILE_SIDE_PX = 256

_NAMESPACE = uuid.UUID(
    "c0b7d1d4-6c0f-5c5e-9d83-0a7c1f3d2b11"
)  # of ours: equal maps have equal bytes


def write_heat_tiff(
    path: Path, heat: SlideHeat, frames: Sequence[MapFrame], *, mpp: tuple[float, float] | None
) -> None:
    """Write a map whole or not at all; the same tiles give the same bytes.

    Every level is painted from the tiles, so a coarser one is as exact as the finest.

    Parameters
    ----------
    path
        Ends in ``.ome.tiff``.
    heat
        Tiles of the slide.
    frames
        Levels, the finest first, as ``map_frames`` gives them.
    mpp
        µm per level-0 pixel of both axes, None where unknown: then viewers cannot place the map.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    with (
        published(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as file,
    ):
        for level, frame in enumerate(frames):
            file.write(
                _native_tiles(heat, frame),
                shape=(frame.size_px.height, frame.size_px.width),
                dtype=np.uint8,
                tile=(TILE_SIDE_PX, TILE_SIDE_PX),
                photometric="minisblack",
                compression="zlib",
                subfiletype=int(level > 0),  # 1: a smaller copy of the first
                subifds=len(frames) - 1 if level == 0 else None,
                metadata=_about(heat, frame, mpp) if level == 0 else None,
                software="wsi-pipeline",
            )


def _native_tiles(heat: SlideHeat, frame: MapFrame) -> Iterator[NDArray[np.uint8]]:
    """Yield a level's tiles, a row of them painted at a time; those at the far edges are filled up."""
    for rows in painted_rows(heat.boxes0, heat.values, frame, rows=TILE_SIDE_PX):
        codes = as_bytes(rows)
        missing = [(0, -side % TILE_SIDE_PX) for side in codes.shape]
        whole = np.pad(codes, missing)
        for left in range(0, whole.shape[1], TILE_SIDE_PX):
            yield np.ascontiguousarray(whole[:, left : left + TILE_SIDE_PX])


def _about(heat: SlideHeat, frame: MapFrame, mpp: tuple[float, float] | None) -> dict[str, Any]:
    """Return what tifffile writes as OME-XML."""
    about: dict[str, Any] = {
        "axes": "YX",
        "Name": f"{heat.slide_id}: probability of {heat.class_name}",
        "Description": f"probability of {heat.class_name} = (value - 1) / 254; 0: no tile lies there",
        "Channel": {"Name": f"probability of {heat.class_name}"},
        "UUID": f"urn:uuid:{uuid.uuid5(_NAMESPACE, heat.slide_id + heat.class_name)}",
    }
    if mpp is not None:
        sizes = zip("XY", (mpp[0] * frame.pitch_x, mpp[1] * frame.pitch_y), strict=True)
        for axis, um_per_px in sizes:
            about |= {f"PhysicalSize{axis}": um_per_px, f"PhysicalSize{axis}Unit": "µm"}
    return about
