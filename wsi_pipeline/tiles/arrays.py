"""Which images share an array: one per slide, else per patient, scanner, centre and split."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.schema import SLIDE_WORDS
from wsi_pipeline.slides.names import checked_id, safe_names

ARRAY_IMAGES = 65_536
"""Images of no known slide that share an array: a million are 16 arrays of 1 024 shard files."""

_TOGETHER = ("split", *SLIDE_WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageArray:
    """Images that become one array of a run."""

    slide_id: str
    rows: NDArray[np.int64] = field(repr=False)
    """Of the source's table, ascending."""


def image_arrays(images: pa.Table, *, name: str, most: int = ARRAY_IMAGES) -> list[ImageArray]:
    """Return the arrays of a source, every image in one of them, in the source's order.

    Without a column ``slide_id`` images of one split, patient, scanner and centre share arrays of at most
    ``most``, so that no array lies in two splits and each has its own words in slides.parquet.

    Parameters
    ----------
    images
        The source's table.
    name
        What begins the names of arrays that no slide names.

    Raises
    ------
    ConfigError
        A slide has no name, one that cannot name a file, or two patients, scanners or centres.
    """
    if "slide_id" in images.column_names:
        return _by_slide(images)
    known = [column for column in _TOGETHER if column in images.column_names]
    pieces = {
        "\0".join([name, *(word or "" for word in key), number]): rows
        for key, together in _groups(images, known).items()
        for number, rows in _pieces(together, most)
    }
    names = safe_names(pieces)
    return [ImageArray(slide_id=names[text], rows=rows) for text, rows in pieces.items()]


def _by_slide(images: pa.Table) -> list[ImageArray]:
    arrays = []
    for (slide_id,), rows in _groups(images, ["slide_id"]).items():
        if slide_id is None:
            raise ConfigError(f"row {rows[0] + 1}: slide_id: expected a name, got none")
        checked_id(slide_id, f"row {rows[0] + 1}")
        _refuse_two_words(images, slide_id, rows)
        arrays.append(ImageArray(slide_id=slide_id, rows=rows))
    return sorted(arrays, key=lambda array: array.slide_id)


def _refuse_two_words(images: pa.Table, slide_id: str, rows: NDArray[np.int64]) -> None:
    for word in SLIDE_WORDS:
        if word not in images.column_names:
            continue
        found = images.column(word).take(rows).unique().to_pylist()
        if len(found) > 1:
            raise ConfigError(
                f"slide {slide_id}: expected one {word}, got {found[0]} and {found[1]}; "
                "correct the table, or give the two their own slide_id"
            )


def _groups(
    images: pa.Table, columns: Sequence[str]
) -> dict[tuple[str | None, ...], NDArray[np.int64]]:
    """Return the rows of every combination of words."""
    rows: dict[tuple[str | None, ...], list[int]] = {}
    words = [images.column(column).to_pylist() for column in columns]
    keys = zip(*words, strict=True) if words else iter([()] * len(images))
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return {key: np.array(found, dtype=np.int64) for key, found in rows.items()}


def _pieces(rows: NDArray[np.int64], most: int) -> list[tuple[str, NDArray[np.int64]]]:
    """Return rows in pieces of at most ``most``, with a number where there are several."""
    if len(rows) <= most:
        return [("", rows)]
    pieces = [rows[first : first + most] for first in range(0, len(rows), most)]
    return [(f"{number:04d}", piece) for number, piece in enumerate(pieces)]
