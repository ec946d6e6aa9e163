"""What one annotation says of one slide's tiles, and everything about it that a person should know."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Boxes, Size
from wsi_pipeline.labels.annotations import Annotation, UnfitShapeError, read_geojson, unpacked
from wsi_pipeline.labels.asap import read_asap
from wsi_pipeline.labels.coverage import (
    Shapes,
    Shares,
    covered_shares,
    mended,
    outside,
    overlaps,
    united,
)
from wsi_pipeline.labels.masks import MASK_ENDINGS, mask_shares
from wsi_pipeline.labels.rules import MOST_CLASSES, LabelConfig, class_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about an annotation that did not stop it from being used."""

    kind: str
    """A word or two, the same for all findings of the kind."""
    name: str
    """The class, value or kind of shape that it is about."""
    count: int
    text: str
    """The sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFrame:
    """Where a slide's pixels are, in level-0 pixels."""

    canvas0: Size
    bounds0: Box
    """The scanned part; all of the canvas where the slide does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """Shares of classes, ``(tiles,)`` each, and what was found on the way."""

    shares: Mapping[str, Shares]
    shapes: int
    """Shapes that counted; 0 of a mask."""
    findings: tuple[Finding, ...]


def annotated(path: Path, boxes0: Boxes, frame: SlideFrame, config: LabelConfig) -> Annotated:
    """Return what a file says of footprints.

    Raises
    ------
    SlideError
        The file cannot be read, or does not fit the slide.
    """
    if is_mask(path.name):
        return _from_mask(path, boxes0, frame, config)
    data = unpacked(path)
    try:
        annotation = (read_asap if data.lstrip()[:1] == b"<" else read_geojson)(data)
    except UnfitShapeError as error:
        raise SlideError(f"annotation {path.name}: {error}") from error
    corner = _corner(annotation, frame, config)
    if any(corner):
        moved = shapely.transform(annotation.shapes, lambda points: points + corner)
        annotation = Annotation(
            program=annotation.program,
            names=annotation.names,
            shapes=moved,
            without_area=annotation.without_area,
        )
    return from_shapes(annotation, boxes0, frame.canvas0, config)


def is_mask(name: str) -> bool:
    """Whether a file is read as pixels, by its name."""
    return name.lower().endswith(MASK_ENDINGS)


def from_shapes(
    annotation: Annotation, boxes0: Boxes, canvas0: Size, config: LabelConfig
) -> Annotated:
    """Return the shares of classes that shapes in level-0 pixels give.

    Raises
    ------
    SlideError
        There are too many names to be classes.
    """
    meant = [None if name is None else _meaning(name, config) for name in annotation.names]
    counted = np.array([each is not None for each in meant], dtype=np.bool_)
    names = [each for each in meant if each is not None]
    repaired = mended(annotation.shapes[counted])
    findings = [
        *_left_out(annotation, meant),
        *_repaired(names, repaired.crossed),
        *_outside(names, repaired.shapes, canvas0),
    ]
    is_hole = np.array([name == _HOLE for name in names], dtype=np.bool_)
    holes, shapes = repaired.shapes[is_hole], repaired.shapes[~is_hole]
    classes = [name for name in names if name != _HOLE]
    if len(set(classes)) > MOST_CLASSES:
        raise SlideError(
            f"annotation: expected at most {MOST_CLASSES} classes, got {len(set(classes))} names; name "
            "those that are wanted with --classes"
        )
    findings += _overlaps(shapes, classes)
    shares = {}
    called = np.array(classes, dtype=np.str_)
    for name in sorted(set(classes)):
        own = shapes[called == name]
        shares[name] = covered_shares(united(own, holes), boxes0, canvas0)
    return Annotated(shares=shares, shapes=len(names), findings=tuple(findings))


_HOLE = ""
"""Stands for what is cut out of every class; no class is called so."""


def _meaning(name: str, config: LabelConfig) -> str | None:
    return _HOLE if name in config.holes else class_of(name, config)


def _corner(annotation: Annotation, frame: SlideFrame, config: LabelConfig) -> tuple[int, int]:
    """Return where shapes count from, in level-0 pixels.

    Raises
    ------
    SlideError
        QuPath may have counted from either corner.
    """
    corner = (frame.bounds0.x, frame.bounds0.y)
    if config.origin is None and annotation.program == "geojson" and any(corner):
        raise SlideError(
            f"annotation: the scanned part of the slide begins at {corner[0]}, {corner[1]} px, and QuPath "
            "counts from there unless it was told not to crop; say which with --origin bounds or canvas"
        )
    return corner if config.origin == "bounds" else (0, 0)


def _left_out(annotation: Annotation, meant: list[str | None]) -> Iterator[Finding]:
    for kind, count in annotation.without_area.items():
        text = f"{kind}: {count} left out, for they have no area"
        yield Finding(kind="without area", name=kind, count=count, text=text)
    left = Counter(name for name, each in zip(annotation.names, meant, strict=True) if each is None)
    for name, count in sorted(left.items(), key=lambda each: each[0] or ""):
        if name is None:
            text = f"shapes without a class: {count} left out"
            yield Finding(kind="without class", name="", count=count, text=text)
        else:
            text = f"shapes of the unknown class {name!r}: {count} left out"
            yield Finding(kind="unknown class", name=name, count=count, text=text)


def _repaired(names: list[str], crossed: NDArray[np.bool_]) -> Iterator[Finding]:
    counts = Counter(name for name, each in zip(names, crossed, strict=True) if each)
    for name, count in sorted(counts.items()):
        text = f"outlines of {_called(name)} that cross themselves: {count} repaired"
        yield Finding(kind="repaired", name=name, count=count, text=text)


def _outside(names: list[str], shapes: Shapes, canvas0: Size) -> Iterator[Finding]:
    found = outside(shapes, canvas0)
    for name in sorted({name for name, each in zip(names, found.partly, strict=True) if each}):
        own = np.array(names, dtype=np.str_) == name
        count, wholly = int((own & found.partly).sum()), int((own & found.wholly).sum())
        text = (
            f"shapes of {_called(name)} that reach past the slide's {canvas0.width} x {canvas0.height} "
            f"px: {count}, {wholly} of them wholly outside, the furthest by "
            f"{found.furthest_px[own].max():.0f} px"
        )
        yield Finding(kind="outside", name=name, count=count, text=text)


def _overlaps(shapes: Shapes, classes: list[str]) -> Iterator[Finding]:
    found = overlaps(shapes, classes)
    for name, count in found.same.items():
        text = f"pairs of shapes of {name} that overlap: {count}; what they share is counted once"
        yield Finding(kind="overlap", name=name, count=count, text=text)
    for (one, other), count in found.different.items():
        text = f"pairs of shapes of {one} and {other} that overlap: {count}; what they share counts for both"
        yield Finding(kind="overlap of classes", name=f"{one}, {other}", count=count, text=text)


def _called(name: str) -> str:
    return name or "holes"


def _from_mask(path: Path, boxes0: Boxes, frame: SlideFrame, config: LabelConfig) -> Annotated:
    if not config.mask_values:
        raise SlideError(
            f"mask {path.name}: nothing says what its values mean; give mask_values in a file for --config, "
            "such as 'mask_values: {stroma: 1, cancer: 2}'"
        )
    canvas0 = frame.canvas0
    whole = Box(x=0, y=0, width=canvas0.width, height=canvas0.height)
    found = mask_shares(
        path,
        boxes0,
        frame0=frame.bounds0 if config.origin == "bounds" else whole,
        canvas0=canvas0,
        values=config.mask_values,
        channel=config.mask_channel,
    )
    known = {0, *(value for each in config.mask_values.values() for value in each)}
    findings = [
        Finding(
            kind="unknown value",
            name=str(value),
            count=count,
            text=f"pixels of the value {value}, which mask_values does not name: {count} left out",
        )
        for value, count in found.pixels.items()
        if value not in known
    ]
    return Annotated(shares=found.shares, shapes=0, findings=tuple(findings))
