"""What a page is made of: values that say what is shown, not how it looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.geometry import Box
from wsi_pipeline.report.scales import Codes, Scale

Cell: TypeAlias = str | int | float | bool | None
Kind: TypeAlias = Literal["text", "number", "share", "bytes"]
NoticeKind: TypeAlias = Literal["note", "warning", "good", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column of a table."""

    label: str
    kind: Kind = "text"
    digits: int = 0
    """Of a number, behind the point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows to be read; with a name they can be sorted, filtered and paged."""

    caption: str
    fields: tuple[Field, ...]
    rows: Sequence[Sequence[Cell]]
    name: str | None = None

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.fields)]
        if wrong:
            raise ValueError(f"{self.caption}: expected {len(self.fields)} cells, got {wrong[0]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Tables that stand side by side where the page is wide enough."""

    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Few numbers, large."""

    items: tuple[tuple[str, str], ...]
    """What it is, and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What the parts below are about."""

    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence that must not be overlooked, or one that explains."""

    text: str
    kind: NoticeKind = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """What another command would show here."""

    text: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One tile of a collage."""

    jpeg: bytes
    title: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collage:
    """Tiles of one kind."""

    title: str
    text: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Densities of one number, a curve per group."""

    title: str
    unit: str
    grid: NDArray[np.float64]
    """Values along the axis, increasing, ``(points,)``."""
    by_group: Mapping[str, NDArray[np.float64]]
    """Density of each group, ``(points,)``; any scale, the same for all."""
    log: bool
    groups: tuple[str, ...] = ()
    """All groups in order, also those without a curve here: a group's line is the same in every figure."""

    def __post_init__(self) -> None:
        for name, curve in self.by_group.items():
            if curve.shape != self.grid.shape:
                raise ValueError(f"{name}: expected {self.grid.shape} values, got {curve.shape}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines through points, over two axes with numbers."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """Name to the places along both axes, ``(points,)`` each; what is no number is left out."""
    x_range: tuple[float, float] | None = None
    """Ends of the axis; those of the points if not given."""
    y_range: tuple[float, float] | None = None
    x_whole: bool = False
    """Whether only whole numbers are marked along the axis."""
    guide: Literal["diagonal", "zero"] | None = None
    """A line to compare with: where both axes have the same value, or at 0 along the first."""
    bands: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        default_factory=dict
    )
    """Name of a line to the lower and upper ends around its points, ``(points,)`` each."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Name of a line to a place along the first axis, such as its mean."""
    right: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(
        default_factory=dict
    )
    """Further lines, by the numbers of an axis of their own on the right."""
    right_label: str = ""
    right_log: bool = False
    """Whether the axis on the right is logarithmic; its values have to be above 0."""

    def __post_init__(self) -> None:
        for name, (xs, ys) in (*self.series.items(), *self.right.items()):
            if xs.shape != ys.shape:
                raise ValueError(f"{name}: expected {xs.shape} values, got {ys.shape}")
        for name, ends in self.bands.items():
            if any(end.shape != self.series[name][0].shape for end in ends):
                raise ValueError(f"{name}: expected as many ends of its band as it has points")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where things lie in a plane of square cells."""

    name: str
    share: NDArray[np.float64] = field(repr=False)
    """Of them in each cell, ``(cells, cells)``: along the first axis, then along the second."""
    mean: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planes:
    """Planes side by side, with the same axes and the same shades; the diagonal is a boundary."""

    title: str
    x_label: str
    y_label: str
    edges: NDArray[np.float64]
    """Of the cells along both axes, ``(cells + 1,)``."""
    planes: tuple[Plane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number with the interval around it."""

    name: str
    value: float
    low: float | None
    """None where no interval can be said."""
    high: float | None
    points: tuple[float, ...] = ()
    """What it is the mean of, where these are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Numbers with intervals, one below the other, over one axis."""

    title: str
    x_label: str
    rows: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Files beside the page."""

    title: str
    items: tuple[tuple[str, str], ...]
    """What is shown, and the path from the page's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideMap:
    """The tiles of one slide and the code of each in every coloured column."""

    slide_id: str
    about: str
    frame0: Box
    """What the picture shows, in level-0 pixels."""
    boxes0: NDArray[np.int32] = field(repr=False)
    """``(tiles, 4)``: x, y, width, height in level-0 pixels."""
    codes: Sequence[Codes] = field(repr=False)
    """A column each, ``(tiles,)``."""
    picture: bytes | None = field(repr=False)
    """WebP or JPEG of the scanned part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """Slides with their tiles, coloured by a column that the reader chooses."""

    scales: tuple[Scale, ...]
    slides: tuple[Mapping[str, Any], ...] = field(repr=False)
    """As ``maps.packed`` gives them."""


Figure: TypeAlias = Curves | Lines | Planes | Ranges
"""What is drawn with a heading."""

Part: TypeAlias = Table | Beside | Facts | Heading | Notice | Todo | Collage | Links | Maps | Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading and what stands below it."""

    name: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    made: str
    """Time, the only thing that differs between two pages of one run."""
    version: str
    sections: tuple[Section, ...]
